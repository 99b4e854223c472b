"""Building the wheel from a clean copy of the project's files, and running what it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from checkout import REPOSITORY, project_files

# Folder of the repository -> folder of the wheel.
PLACES = {
    "arbiter": "arbiter",
    "providers/arbiter_providers": "arbiter_providers",
    "templates": "arbiter/_data/templates",
    "migrations": "arbiter/_data/migrations",
    "data": "arbiter/_data/data",
}


def copy_files(files: Iterable[Path], target: Path) -> Path:
    """Copy these files of the repository, as a fresh clone would have them."""
    for path in files:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / path, copy)
    return target


def hatchling(tree: Path, target: str, out: Path) -> Path:
    """Build with the build backend of the development environment: no network is asked."""
    succeed([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)], tree)
    (built,) = out.iterdir()
    return built


def install(requirement: str, venv: Path) -> Path:
    """A virtual environment with nothing but the requirement and what it asks for."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv, "uv belongs to the development environment (make install)"
    succeed([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], Path("/"))
    python = str(venv / "bin/python")
    succeed([uv, "pip", "install", "--quiet", "--python", python, requirement], Path("/"))
    return venv


def succeed(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
    """What an archive lists."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected_names() -> set[str]:
    """What a wheel of the project's files must list, without its metadata."""
    listed = set()
    for path in project_files():
        for source, target in PLACES.items():
            if path.is_relative_to(source):
                listed.add(f"{target}/{path.relative_to(source).as_posix()}")
    return listed
