"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from checkout import REPOSITORY, project_files
from command_pages import page

from arbiter import registry
from arbiter.cli.commands import COMMANDS
from arbiter.provider import ProviderSettings
from arbiter.settings import Settings
from arbiter.sieve import NO_DISCOUNT
from arbiter.sovereignty import Level

DOCS = REPOSITORY / "docs"
DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
# Said in words, since the value depends on the machine or on the release.
DEFAULTS_IN_WORDS = {"database_url", "data_dir", "policy.sovereignty.evidence_date"}


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(name: str) -> list[list[str]]:
    """The cells of every table row, without backticks around a whole cell."""
    lines = (line for line in text(name).splitlines() if line.startswith("|"))
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def headings(name: str) -> set[str]:
    return set(re.findall(r"^#+ (.*)$", text(name), re.M))


# --- decisions ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_four_parts(path: Path) -> None:
    title, *parts = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    assert title.startswith(path.name[:4] + ": ")
    assert parts == ["Context", "Decision", "Consequences", "Non-Goals"]
    bodies = re.split(r"^## .*$", path.read_text(encoding="utf-8"), flags=re.M)[1:]
    assert all(len(body.split()) > 5 for body in bodies)


def test_decisions_are_numbered_and_listed() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        title = path.read_text(encoding="utf-8").splitlines()[0].split(": ", 1)[1]
        assert f"[{path.name[:4]}]({path.name}) | {title} |" in text("adr/README.md")


# --- commands -------------------------------------------------------------------------------


def test_commands_are_documented_as_they_are() -> None:
    assert text("commands.md") == page(), "run: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_heading(name: str) -> None:
    assert f"arbiter {name}" in headings("commands.md")


# --- settings -------------------------------------------------------------------------------


def leaves(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, default) of every setting that is no table itself."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        name = f"{prefix}{field.name}"
        hint = hints[field.name]
        if ProviderSettings in get_args(hint):
            yield from leaves(ProviderSettings, f"{name}.<name>.")
        elif is_dataclass(hint):
            assert isinstance(hint, type)
            yield from leaves(hint, f"{name}.")
        else:
            yield name, default_of(field)


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def in_words(default: Any) -> str:
    """A default as the table writes it."""
    if default is None or (not default and isinstance(default, (tuple, dict))):
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


SETTINGS = dict(leaves(Settings))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_row(name: str) -> None:
    found = [row for row in rows("settings.md") if row[0] == name]
    assert len(found) == 1
    _, variable, default, meaning = found[0]
    stem = "ARBITER_" + name.replace(".", "__").upper()
    assert variable in (stem, f"{stem}__...")
    assert meaning
    if name not in DEFAULTS_IN_WORDS:
        assert default == in_words(SETTINGS[name])


def test_no_row_is_of_a_setting_that_is_gone() -> None:
    named = {row[0] for row in rows("settings.md") if row[1].startswith("ARBITER_")}
    assert named == set(SETTINGS)


# --- rules, levels, providers ---------------------------------------------------------------


def rules(module: str) -> set[str]:
    """The ids of rules in a module's source: the first of a pair, or what a refusal begins with."""
    source = (REPOSITORY / "arbiter" / f"{module}.py").read_text(encoding="utf-8")
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            found.add(constant(node.elts[0]))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("NoFit", "Refused"):
            found.update(constant(argument) for argument in node.args[:1])
    return {name for name in found if re.fullmatch(r"[a-z]+(_[a-z]+)+|stale", name)}


def constant(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


@pytest.mark.parametrize("module", ["sovereignty", "sizing", "sieve"])
def test_every_rule_that_refuses_is_explained(module: str) -> None:
    explained = {row[0] for row in rows("rules.md")}
    assert len(rules(module)) >= 4
    assert rules(module) <= explained


def test_no_rule_is_explained_that_does_not_exist() -> None:
    explained = {row[0] for row in rows("rules.md") if "_" in row[0] or row[0] == "stale"}
    assert NO_DISCOUNT in explained, "a mark refuses nothing, and is explained there too"
    assert explained - {NO_DISCOUNT} == rules("sovereignty") | rules("sizing") | rules("sieve")


@pytest.mark.parametrize("level", Level)
def test_every_sovereignty_level_has_a_heading(level: Level) -> None:
    assert level.value in headings("rules.md")


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_provider_is_documented(name: str) -> None:
    documented = (REPOSITORY / "providers" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}` \|", documented, re.M)


# --- API ------------------------------------------------------------------------------------


def sources(folder: str) -> str:
    files = sorted((REPOSITORY / folder).glob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_every_path_and_no_other_is_documented() -> None:
    served = set(re.findall(r'@router\.get\(\s*"(/[^"]*)"', sources("arbiter/api")))
    assert len(served) > 8
    assert {row[0] for row in rows("api.md") if row[0].startswith("/")} == served


def test_every_metric_and_no_other_is_documented() -> None:
    kept = set(re.findall(r'"(arbiter_[a-z_]+)"', sources("arbiter/api")))
    assert len(kept) > 8
    assert {row[0] for row in rows("api.md") if row[0].startswith("arbiter_")} == kept


# --- links ----------------------------------------------------------------------------------

PAGES = [path for path in project_files() if path.suffix == ".md"]


@pytest.mark.parametrize("page_path", PAGES, ids=str)
def test_every_link_within_the_repository_leads_somewhere(page_path: Path) -> None:
    content = (REPOSITORY / page_path).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", content)
    folder = (REPOSITORY / page_path).parent
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("page_path", PAGES, ids=str)
def test_every_file_that_is_named_exists(page_path: Path) -> None:
    """A path in backticks that begins with a folder of the project, and has a file's ending."""
    content = (REPOSITORY / page_path).read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:arbiter|providers|templates|migrations|tests|docs|data|benchmarks)/[\w/.-]+\.\w+)`",
        content,
    )
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
