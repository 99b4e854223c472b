"""Under continuous integration, a test that is skipped for want of an install fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import REPOSITORY


def run(folder: Path, reason: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    """A run of one test that passes and one that is skipped, under the suite's own conftest."""
    (folder / "test_two.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        f"@pytest.mark.skipif(True, reason={reason!r})\n"
        "def test_skipped(): pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    environment.pop("ARBITER_CI", None)
    if ci:
        environment["ARBITER_CI"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", os.devnull]
    command += ["--rootdir", str(folder), "-p", "no:cacheprovider", str(folder / "test_two.py")]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("reason", "ci", "code"),
    [
        ("needs a moon: apt-get install moon", True, 1),
        ("needs a moon: apt-get install moon", False, 0),
        ("no shared data beside the checkout", True, 0),
    ],
)
def test_only_an_install_that_is_missing_fails_the_run(
    tmp_path: Path, reason: str, ci: bool, code: int
) -> None:
    done = run(tmp_path, reason, ci=ci)
    assert done.returncode == code, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert (f"test_two.py::test_skipped: {reason}" in done.stdout) is (code == 1)
