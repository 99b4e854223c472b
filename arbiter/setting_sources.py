"""Where settings come from: arbiter.toml and ARBITER_* variables, each value with its origin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from arbiter.errors import SettingsError
from arbiter.strict_yaml import Problem, Where

PREFIX = "ARBITER_"

NOT_SETTINGS = frozenset({"ARBITER_API_KEY", "ARBITER_CONFIG", "ARBITER_CI", "ARBITER_COMPLETE"})
"""Variables of the prefix that mean something else."""

NOT_SETTINGS_PREFIX = "ARBITER_E2E_"

LARGEST = 1_000_000
"""Bytes. A settings file is a few kilobytes; more than this is the wrong file."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What was set, as plain values in the shape of the schema, unchecked.

    Attributes:
        data: the file's content with the variables laid over it.
        file: the file, or None.
        variables: place -> the variable that set it.
    """

    data: dict[str, Any]
    file: Path | None
    text: str
    variables: Mapping[Where, str]

    def folder(self, *where: str) -> Path:
        """What a relative path is meant from: the file's folder, or the current one."""
        if self.file is None or where in self.variables:
            return Path.cwd()
        return self.file.resolve().parent

    def report(self, problems: Iterable[Problem]) -> str:
        """One line for each problem: the file's in its order, then the variables'."""
        lines = _lines(self.text)
        in_file: set[tuple[int, str]] = set()
        in_variables: set[str] = set()
        for problem in problems:
            variable = self._variable(problem.where, lines)
            if variable is None:
                line = _nearest_line(lines, problem.where)
                in_file.add((line, f"{self.file}:{line}: {_sentence(problem)}"))
            else:
                in_variables.add(f"{variable}: {_as_variable(problem, variable)}")
        return "\n".join([*(text for _, text in sorted(in_file)), *sorted(in_variables)])

    def _variable(self, where: Where, lines: Mapping[Where, int]) -> str | None:
        """The variable that set the place, something around it, or something within it."""
        for end in range(len(where), 0, -1):
            if where[:end] in self.variables:
                return self.variables[where[:end]]
            if where[:end] in lines:
                break
        if self.file is not None and where in lines:
            return None
        within = (name for key, name in self.variables.items() if key[: len(where)] == where)
        return next(within, None if self.file else "settings")


def read_sources(file: Path | None, variables: Mapping[str, str], schema: type) -> Sources:
    """Read the file and the variables.

    A variable that is empty counts as not set: composed environments cannot leave one out.

    Args:
        schema: the dataclass that says which kind of value a variable's text stands for.

    Raises:
        SettingsError: the file cannot be read or is not TOML; the message has file and line.
    """
    text = _text(file) if file else ""
    data = _parsed(file, text) if file else {}
    data = _fitted(data, schema)
    origins: dict[Where, str] = {}
    for name in sorted(variables):
        if _is_setting(name) and variables[name]:
            where = tuple(name.removeprefix(PREFIX).lower().split("__"))
            origins[where] = name
            _put(data, where, _typed(variables[name], _hint(schema, where)))
    return Sources(data, file, text, origins)


def _is_setting(name: str) -> bool:
    return (
        name.startswith(PREFIX)
        and name not in NOT_SETTINGS
        and not name.startswith(NOT_SETTINGS_PREFIX)
    )


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise SettingsError(f"{file} is larger than {LARGEST} bytes: is it the right file?")
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingsError(f"{file}:{line}: is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror or error}") from None


def _parsed(file: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        told = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        what, line = (told[1], told[2]) if told else (str(error), None)
        number = int(line) if line else text.count("\n") + 1
        raise SettingsError(f"{file}:{number}: is not TOML: {what}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{file}: is not TOML: a number or a nesting beyond reason") from None


# --- values in the kinds that the schema asks for ---------------------------------------------


def _fitted(value: Any, hint: Any) -> Any:
    """TOML's decimals stay exact where money is meant, and become floats where a float is."""
    if isinstance(value, dict):
        return {key: _fitted(inner, _hint(hint, (key,))) for key, inner in value.items()}
    if isinstance(value, Decimal) and float in _kinds(hint):
        return float(value)
    return value


def _typed(text: str, hint: Any) -> Any:
    """A variable's text as its setting's kind; left as it is where it is none, to be reported."""
    kinds = _kinds(hint)
    if bool in kinds:
        return {"true": True, "false": False}.get(text.lower(), text)
    if get_origin(hint) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                return text
    return text


def _hint(schema: Any, where: Where) -> Any:
    """The kind of value at a place of the schema; object where the schema does not say."""
    for step in where:
        holder = next((kind for kind in _kinds(schema) if is_dataclass(kind)), None)
        if holder is not None:
            schema = get_type_hints(holder).get(str(step), object)
        elif get_args(schema):
            schema = get_args(schema)[-1]  # the values of a mapping
        else:
            return object
    return schema


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    return get_args(hint) if type(None) in get_args(hint) else (hint,)


def _put(data: dict[str, Any], where: Where, value: Any) -> None:
    """Lay a value over the data. Under something that is no table it is left out: that is the
    problem which is then reported."""
    here: Any = data
    for step in where[:-1]:
        here = here.setdefault(step, {})
        if not isinstance(here, dict):
            return
    here[where[-1]] = value


# --- places -----------------------------------------------------------------------------------

_KEY = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_ENTRY = re.compile(rf"\s*({_DOTTED})\s*=")


def _lines(text: str) -> dict[Where, int]:
    """The line of every table and key, which TOML's own reader does not tell."""
    lines: dict[Where, int] = {}
    section: Where = ()
    inside = False  # of a text over several lines
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            if found := _TABLE.match(line):
                section = tuple(_keys(found[1]))
                lines.setdefault(section, number)
            elif found := _ENTRY.match(line):
                where = (*section, *_keys(found[1]))
                for end in range(1, len(where) + 1):
                    lines.setdefault(where[:end], number)
        inside ^= (line.count('"""') + line.count("'''")) % 2 == 1
    return lines


def _keys(dotted: str) -> Iterator[str]:
    for key in re.findall(_KEY, dotted):
        yield key[1:-1] if key[0] in "\"'" else key


def _nearest_line(lines: Mapping[Where, int], where: Where) -> int:
    around = (where[:end] for end in range(len(where), 0, -1))
    return next((lines[one] for one in around if one in lines), 1)


def _sentence(problem: Problem) -> str:
    place = ".".join(str(step) for step in problem.where)
    return f"{place}: {problem.what}" if place else problem.what


def _as_variable(problem: Problem, variable: str) -> str:
    """The problem for somebody who set a variable: other names are spelt as variables too."""
    where = tuple(variable.removeprefix(PREFIX).lower().split("__"))
    near = re.fullmatch(r"(is not known, did you mean )(\w+)\?", problem.what)
    if near:
        return f"{near[1]}{PREFIX}{'__'.join((*where[:-1], near[2])).upper()}?"
    if where == problem.where or len(problem.where) > len(where):
        return problem.what
    return _sentence(problem)
