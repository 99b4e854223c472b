"""The wheel holds what was written, all of it and nothing else, and runs where no checkout is."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest
from builds import expected_names, hatchling, install, names, run
from checkout import project_files

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel and what it asks for."""
    return install(str(wheel), tmp_path_factory.mktemp("clean") / "venv")


def test_the_wheel_lists_the_projects_files_and_no_other(wheel: Path) -> None:
    listed = {name for name in names(wheel) if ".dist-info/" not in name}
    assert listed == expected_names()


def test_the_wheels_metadata_is_complete(wheel: Path) -> None:
    listed = {name.split(".dist-info/", 1)[1] for name in names(wheel) if ".dist-info/" in name}
    assert listed == METADATA


def test_a_wheel_from_the_source_archive_lists_the_same(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    archive = hatchling(tree, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.name.startswith("arbiter-"))
    assert names(hatchling(unpacked, "wheel", tmp_path / "again")) == names(wheel)


def test_two_builds_are_the_same_to_the_byte(tree: Path, wheel: Path, tmp_path: Path) -> None:
    assert hatchling(tree, "wheel", tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_an_installed_arbiter_finds_all_that_is_not_code(environment: Path, tmp_path: Path) -> None:
    database = tmp_path / "arbiter.db"
    program = str(Path(__file__).with_name("installed.py"))
    done = run(environment, "python", program, str(database))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["arbiter"]).is_relative_to(environment)
    assert all(Path(folder).is_relative_to(environment) for folder in found["folders"])
    shipped = [path for path in project_files() if path.parts[:2] == ("templates", "profiles")]
    assert sorted(found["profiles"]) == sorted(path.stem for path in shipped)
    assert all(found["tasks"])
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()


def test_an_installed_arbiter_says_what_it_is(environment: Path, wheel: Path) -> None:
    done = run(environment, "arbiter", "--version")
    assert done.returncode == 0, done.stderr
    assert wheel.name.split("-")[1] in done.stdout


def test_every_command_of_an_installed_arbiter_answers(environment: Path) -> None:
    from arbiter.cli.commands import COMMANDS

    overview = run(environment, "arbiter", "--help")
    assert overview.returncode == 0, overview.stderr
    for command in COMMANDS:
        assert command in overview.stdout
        done = run(environment, "arbiter", command, "--help")
        assert done.returncode == 0, done.stderr


def test_an_installed_arbiter_examines_itself(environment: Path) -> None:
    done = run(environment, "arbiter", "doctor")
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout
