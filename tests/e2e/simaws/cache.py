"""What is expensive to make is made once: a folder per thing, named by a hash of what goes in.

The cache is ARBITER_E2E_CACHE, or ~/.cache/arbiter-e2e of the account (not of HOME, which the
tests move). A folder appears under its final name only when it is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_dir() -> Path:
    """The folder of everything cached."""
    chosen = os.environ.get("ARBITER_E2E_CACHE")
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    return Path(chosen) if chosen else home / ".cache" / "arbiter-e2e"


def where(name: str, inputs: str) -> Path:
    """The folder of what is made from these inputs, whether or not it is there."""
    return cache_dir() / f"{name}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"


def cached(name: str, inputs: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills from these inputs, made now if it never was.

    Two callers at once make it once; the second waits.
    """
    final = where(name, inputs)
    root = final.parent
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
            try:
                draft.chmod(0o755)
                make(draft)
                draft.rename(final)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return final
