"""What a document has wrong against a dataclass: every problem at once, with its place.

Only for documents that failed the quick check: pydantic takes a while to import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from arbiter.strict_yaml import Problem, Where

_EXPECTED = {
    "missing": "is missing",
    "string_type": "must be text (in quotes, if it looks like a number or a yes)",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "mapping_type": "must be a mapping of names to values",
    "dataclass_type": "must be a mapping of names to values",
    "dataclass_exact_type": "must be a mapping of names to values",
}


def unknown_keys(data: Any, schema: type, where: Where = ()) -> Iterator[Problem]:
    """Keys that the schema does not have, with the nearest one that it has."""
    if not isinstance(data, Mapping):
        return
    known = _nested(schema)
    for key, value in data.items():
        if key not in known:
            yield Problem((*where, str(key)), f"is not known{nearest(str(key), list(known))}")
            continue
        inner = known[key]
        if inner is None:
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from unknown_keys(item, inner, (*where, key, index))
        else:
            yield from unknown_keys(value, inner, (*where, key))


def type_problems(data: Mapping[str, Any], schema: type) -> list[Problem]:
    """Values of a wrong type and keys that are missing, all of them.

    Args:
        data: plain values without aliases, as strict_yaml reads them.
    """
    from pydantic import TypeAdapter, ValidationError

    # Through JSON, because only there does the strict mode take a list for a tuple.
    try:
        TypeAdapter(schema).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        expected: dict[Where, list[str]] = {}
        for detail in error.errors(include_url=False, include_context=True):
            where = _existing(data, tuple(detail["loc"]), missing=detail["type"] == "missing")
            what = _EXPECTED.get(detail["type"]) or _sentence(detail)
            expected.setdefault(where, []).append(what)
        return [Problem(where, _either(whats)) for where, whats in expected.items()]
    return []


def nearest(name: str, known: list[str]) -> str:
    """ ", did you mean x?" where one of the known names is near, else nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}?" if near else ""


@cache
def _nested(schema: type) -> dict[str, type | None]:
    """Field -> the dataclass that it holds, itself, optionally, or in a tuple; None for others."""
    hints = get_type_hints(schema)
    return {field.name: _dataclass_in(hints[field.name]) for field in fields(schema)}


def _dataclass_in(hint: Any) -> type | None:
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    return None


def _existing(data: Any, loc: Where, *, missing: bool) -> Where:
    """The part of pydantic's place that is in the document: it adds the members of a union."""
    where: list[str | int] = []
    here = data
    for step in loc:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            if missing:
                where.append(step)
            break
        where.append(step)
    return tuple(where)


def _either(whats: list[str]) -> str:
    """The members of a union as one expectation: "must be text or a number"."""
    first, *others = dict.fromkeys(whats)
    return " or ".join((first, *(other.removeprefix("must be ") for other in others)))


def _sentence(detail: Mapping[str, Any]) -> str:
    expected = detail.get("ctx", {}).get("expected")
    return f"must be {expected}" if expected else str(detail["msg"])
