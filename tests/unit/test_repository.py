"""What holds for every file of the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from checkout import REPOSITORY, is_text, project_files

from arbiter.store import SCHEMA

LONGEST = 500
READ_BY_PEOPLE = {".py", ".md", ".j2", ".css", ".js", ".toml", ".yaml", ".yml", ".sh", ".mako", ""}
# Another's words, and the reference that is made from `--help` and looked things up in.
NOT_OURS = re.compile(r"(^|/)(LICENSE|.*\.min\.(js|css)|commands\.md)$")
# Where packages come from is the machine's business, not a file's.
REGISTRY = re.compile(
    "|".join(
        ("--(extra-)?index" + "-url", "(PIP|UV)_" + "INDEX", "python" + "hosted", "npm" + "js")
    )
)


def python_files() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def text(path: Path) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_the_list_of_files_is_not_empty() -> None:
    assert Path("pyproject.toml") in project_files()
    assert len(python_files()) > 50


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_nothing_is_mocked(path: Path) -> None:
    for node in ast.walk(ast.parse(text(path))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            assert not re.match(r"(unittest\.)?mock\b|pytest_mock\b", module), f"line {node.lineno}"


def test_no_file_is_too_long_to_read() -> None:
    ours = [
        p for p in project_files() if p.suffix in READ_BY_PEOPLE and not NOT_OURS.search(str(p))
    ]
    long = {str(path): len(text(path).splitlines()) for path in ours if is_text(path)}
    assert {path: lines for path, lines in long.items() if lines > LONGEST} == {}


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    places = (f"{REPOSITORY}/", str(REPOSITORY.parent / "shared"))
    for path in filter(is_text, project_files()):
        assert not any(place in text(path) for place in places), path


def test_no_file_names_a_package_registry() -> None:
    naming = [str(path) for path in filter(is_text, project_files()) if REGISTRY.search(text(path))]
    assert naming == []


def test_no_test_is_skipped_without_a_word_on_what_to_do() -> None:
    """The reason starts with "needs " (and an install mends it) or says that data is absent."""
    for path in python_files():
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.skip":
                reason = ast.unparse(node.args[0])
                if reason.startswith(("'", '"', "f'", 'f"')):
                    where = f"{path}:{node.lineno}: {reason}"
                    assert re.match("f?['\"](needs |no shared data)", reason), where


def test_migrations_follow_each_other_by_their_numbers() -> None:
    files = sorted((REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))
    numbers = [file.name.partition("_")[0] for file in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    before = "None"
    for file, number in zip(files, numbers, strict=True):
        content = file.read_text(encoding="utf-8")
        said = re.findall(r'^(?:down_)?revision = "?(\w+)"?$', content, re.MULTILINE)
        assert said == [number, before], file.name
        before = number
    assert before == SCHEMA
