"""The wheel holds what was written, all of it and nothing else, and runs where no checkout is."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from checkout import REPOSITORY, project_files

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

# Folder of the repository -> folder of the wheel.
PLACES = {
    "arbiter": "arbiter",
    "providers/arbiter_providers": "arbiter_providers",
    "templates": "arbiter/_data/templates",
    "migrations": "arbiter/_data/migrations",
    "data": "arbiter/_data/data",
}
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def hatchling(tree: Path, target: str, out: Path) -> Path:
    """Build with the build backend of the development environment: no network is asked."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the project's files, as a fresh clone would have them."""
    copy = tmp_path_factory.mktemp("tree")
    for path in project_files():
        target = copy / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / path, target)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the clean copy."""
    return hatchling(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel and what it asks for."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv, "uv belongs to the development environment (make install)"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
        [uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), str(wheel)],
    ):
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return venv


def run(environment: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the environment, run from a folder that has no project in it."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    first, *rest = command
    return subprocess.run(
        [str(environment / "bin" / first), *rest],
        cwd="/",
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected() -> set[str]:
    """What a wheel of the project's files must list, without its metadata."""
    listed = set()
    for path in project_files():
        for source, target in PLACES.items():
            if path.is_relative_to(source):
                listed.add(f"{target}/{path.relative_to(source).as_posix()}")
    return listed


def test_the_wheel_lists_the_projects_files_and_no_other(wheel: Path) -> None:
    listed = {name for name in names(wheel) if ".dist-info/" not in name}
    assert listed == expected()


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
