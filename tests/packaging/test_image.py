"""The image and the compose file: linted, and their steps tried without a container engine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from builds import copy_files, hatchling, install, names, run
from checkout import REPOSITORY, project_files

from arbiter.settings import load_settings

Instruction = tuple[str, str]
BUILD_ARGUMENT = re.compile(r"\$\{\w+\}")


def instructions() -> list[Instruction]:
    """(keyword, rest) of the Dockerfile, lines joined, comments left out."""
    lines = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(keyword, rest) for keyword, _, rest in map(split_keyword, joined.splitlines()) if rest]


def split_keyword(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def of(keyword: str) -> list[str]:
    return [rest for name, rest in instructions() if name == keyword]


def copied_from_context() -> list[str]:
    """What the build stage copies out of the checkout."""
    copies = [shlex.split(rest) for rest in of("COPY") if not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


def variables() -> dict[str, str]:
    """The ENV of the image."""
    pairs = [word.split("=", 1) for rest in of("ENV") for word in shlex.split(rest)]
    return dict(pairs)


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return content["services"]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint: make install (it has a wheel for Linux on x86-64 alone)")
    command = [str(hadolint), "--no-color", str(REPOSITORY / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_is_pinned_by_version() -> None:
    (argument,) = of("ARG")
    assert re.fullmatch(r"PYTHON=\d+\.\d+\.\d+-slim-\w+", argument)
    assert {base.split(" AS ")[0] for base in of("FROM")} == {"python:${PYTHON}"}
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", compose()["postgresql"]["image"])


def test_the_python_of_the_image_is_one_that_the_project_supports() -> None:
    (argument,) = of("ARG")
    minor = re.match(r"PYTHON=(\d+\.\d+)", argument)
    assert minor
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f"Programming Language :: Python :: {minor[1]}" in pyproject


def test_the_image_does_not_run_as_root() -> None:
    (user,) = of("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    assert max(
        i for i, (name, _) in enumerate(instructions()) if name == "RUN"
    ) < instructions().index(("USER", user))


def test_commands_are_in_exec_form() -> None:
    for command in of("ENTRYPOINT") + of("CMD"):
        assert isinstance(yaml.safe_load(command), list)
    (health,) = of("HEALTHCHECK")
    assert health.partition(" CMD ")[2].startswith("[")


def test_the_health_check_asks_a_path_that_the_api_has() -> None:
    (health,) = of("HEALTHCHECK")
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", health)
    assert asked
    assert int(asked[1]) == load_settings(environ=variables()).daemon.port == int(of("EXPOSE")[0])
    routes = (REPOSITORY / "arbiter/api/routes.py").read_text(encoding="utf-8")
    assert f'"{asked[2]}"' in routes


def test_the_images_variables_are_settings(tmp_path: Path) -> None:
    settings = load_settings(environ=variables())
    assert settings.daemon.host == "0.0.0.0"
    assert str(settings.data_dir) == of("VOLUME")[0] == variables()["HOME"]


def test_composes_variables_are_settings() -> None:
    environment = compose()["arbiter"]["environment"]
    given = {
        name: value.replace("${POSTGRES_PASSWORD}", "secret")
        for name, value in environment.items()
        if name.startswith("ARBITER_")
    }
    settings = load_settings(environ={"HOME": "/nonexistent", **given})
    assert settings.database_url == "postgresql://arbiter:secret@postgresql/arbiter"


def test_compose_publishes_on_loopback_only_and_keeps_no_secret() -> None:
    for service in compose().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for name, value in compose()["arbiter"]["environment"].items():
        secret = re.search("KEY|TOKEN|PASSWORD", name)
        assert value is None if secret else BUILD_ARGUMENT.search(value), name


@pytest.mark.parametrize("source", copied_from_context())
def test_what_is_copied_exists_and_is_not_ignored(source: str) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert any(fnmatch(source, pattern) for pattern in allowed)
    assert (REPOSITORY / source).exists()


@pytest.mark.wheel
def test_what_is_copied_is_enough_for_the_wheel(wheel: Path, tmp_path: Path) -> None:
    sources = [Path(source) for source in copied_from_context()]
    files = [p for p in project_files() if any(p.is_relative_to(source) for source in sources)]
    context = copy_files(files, tmp_path / "context")
    assert names(hatchling(context, "wheel", tmp_path / "out")) == names(wheel)


@pytest.mark.wheel
@pytest.mark.timeout(600)
def test_the_wheel_installs_with_the_images_extras(wheel: Path, tmp_path: Path) -> None:
    (extras,) = re.findall(r"\$\{wheel\}(\[[\w,]+\])", " ".join(of("RUN")))
    environment = install(f"{wheel}{extras}", tmp_path / "venv")
    try:
        seek = "from importlib.metadata import version; print(version('skypilot'))"
        assert run(environment, "python", "-c", f"import psycopg; {seek}").stdout == "0.14.1\n"
        (entrypoint,) = of("ENTRYPOINT")
        (command,) = of("CMD")
        words = [*yaml.safe_load(entrypoint), *yaml.safe_load(command), "--help"]
        done = run(environment, *words)
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(environment)  # half a gigabyte
