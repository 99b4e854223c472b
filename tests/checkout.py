"""The files of this checkout: what git tracks, or the whole tree of an unpacked archive."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# What a checkout holds that nobody wrote.
MADE = frozenset({".venv", ".git", "__pycache__", "dist", "build", "_data", ".hypothesis"})


@cache
def project_files() -> tuple[Path, ...]:
    """Paths relative to the repository, sorted."""
    listed = _tracked() or _walked()
    return tuple(sorted(path for path in listed if (REPOSITORY / path).is_file()))


def _tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        return []
    command = ["git", "-c", f"safe.directory={REPOSITORY}", "ls-files", "-z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [Path(name) for name in done.stdout.split("\0") if name]


def _walked() -> list[Path]:
    found = (path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*"))
    return [
        path
        for path in found
        if not MADE.intersection(path.parts) and not path.parts[0].endswith("_cache")
    ]


def is_text(path: Path) -> bool:
    """Whether a file of the repository is text that people read."""
    try:
        (REPOSITORY / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True
