"""YAML as a person means it: one mapping, no key twice, no aliases, and every value has a line.

PyYAML keeps the last of two equal keys without a word, and lets aliases blow a small file up to
gigabytes. Both are reported here instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from arbiter.errors import ArbiterError

LARGEST = 1_000_000
"""Bytes. A profile or policy is a few kilobytes; more than this is the wrong file."""

Where = tuple[str | int, ...]
"""Keys and indices from the top of a document to one of its values."""


class Unreadable(ArbiterError):
    """The file cannot be opened or is not one YAML mapping; the message has file and line."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at one place of a document.

    Attributes:
        where: the value's place; of a missing key, the place where it should stand.
        what: what is expected there, for "name: what".
        line: its line where known already, counted from 1.
    """

    where: Where
    what: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file.

    Attributes:
        path: the file.
        data: its content as plain Python values.
        problems: keys that are given twice or are not text.
    """

    path: Path
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    _node: Any

    def line(self, where: Where) -> int:
        """The line of a value, or of the nearest thing around it that exists."""
        node, line = self._node, self._node.start_mark.line + 1
        for step in where:
            entry = _entry(node, step)
            if entry is None:
                break
            line, node = entry
        return int(line)

    def report(self, problems: Iterable[Problem]) -> str:
        """The problems as "file:line: place: what", one a line, in the order of the file."""
        lines = sorted(
            {(problem.line or self.line(problem.where), _dotted(problem)) for problem in problems}
        )
        return "\n".join(f"{self.path}:{line}: {text}" for line, text in lines)


def read(path: Path) -> Document:
    """Read a YAML file that holds one mapping.

    Raises:
        Unreadable: it cannot be opened, is too large, is not YAML, is no mapping, or has aliases.
    """
    import yaml

    loader = _loader_type()(_text(path))
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise Unreadable(f"{path}:1: must be a mapping of names to values (name: value)")
        problems = tuple(_oddities(path, node))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in (error.problem or ""):  # PyYAML has a limit of its own since 6.0.4
            raise _too_deep(path) from None
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Unreadable(f"{path}:{line}: is not YAML: {error.problem}") from None
    except RecursionError:
        raise _too_deep(path) from None
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise Unreadable(f"{path}:1: is not YAML: {first}") from None
    finally:
        loader.dispose()
    return Document(path, data, problems, node)


def _too_deep(path: Path) -> Unreadable:
    return Unreadable(f"{path} is nested too deeply to be a profile or a policy")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise Unreadable(f"{path} is larger than {LARGEST} bytes: is it the right file?")
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(f"{path}:{line}: is not UTF-8 text") from None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error


@cache
def _loader_type() -> Any:
    """PyYAML's safe loader: parsed in C, which is ten times faster, but composed in Python.

    Composed in C, a file of a hundred thousand brackets ends the process.
    """
    import yaml
    from yaml.composer import Composer

    if not hasattr(yaml, "CSafeLoader"):  # PyYAML is now and then built without its C half
        return yaml.SafeLoader

    class Loader(Composer, yaml.CSafeLoader):
        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

    return Loader


def _oddities(path: Path, root: Any) -> Iterator[Problem]:
    """Walk the nodes, each once: an alias is a second way to the same node."""
    import yaml

    seen: set[int] = set()
    waiting: list[tuple[Where, Any]] = [((), root)]
    while waiting:
        where, node = waiting.pop()
        if id(node) in seen:
            line = node.start_mark.line + 1
            raise Unreadable(f"{path}:{line}: aliases (*name) are not supported", "write it twice")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*where, index), item) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.tag == "tag:yaml.org,2002:merge":
                    raise Unreadable(f"{path}:{line}: merge keys (<<) are not supported")
                here = (*where, str(key.value))
                if key.tag != "tag:yaml.org,2002:str":
                    yield Problem(here, "is no name: write the key in quotes", line)
                elif key.value in keys:
                    yield Problem(here, "is given twice", line)
                keys.add(str(key.value))
                waiting.append((here, value))


def _entry(node: Any, step: str | int) -> tuple[int, Any] | None:
    """Line and node of one entry of a mapping or a list."""
    if isinstance(step, int):
        if isinstance(node.value, list) and step < len(node.value):
            item = node.value[step]
            return (item.start_mark.line + 1, item) if not isinstance(item, tuple) else None
        return None
    for pair in node.value if isinstance(node.value, list) else ():
        if isinstance(pair, tuple) and pair[0].value == step:
            return pair[0].start_mark.line + 1, pair[1]
    return None


def _dotted(problem: Problem) -> str:
    place = ""
    for step in problem.where:
        place += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if place else step
    return f"{place}: {problem.what}" if place else problem.what
