"""The demo's own folder, and what an earlier demo left behind.

A demo that is killed cannot end its servers. So each keeps everything in a folder of its own, with
a lock that the system drops when the process dies; the next demo ends whatever is in a folder that
nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from arbiter.errors import ArbiterError
from arbiter.executors.local import LocalExecutor

REPLICAS = "replicas"
GATEWAY = "gateway"
_LOCK = "lock"
_HIDDEN = ".hidden-"  # being made, or being removed
_WAIT_S = 0.3  # a server of a demo that is gone has nobody to answer


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier demo left, and what was ended of it."""

    folder: Path
    servers: int


def base() -> Path:
    """Where the demos of this user keep their folders.

    Raises:
        ArbiterError: somebody else has put something there.
    """
    path = Path(tempfile.gettempdir()) / f"arbiter-demo-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ArbiterError(
            f"{path} is not a folder of yours alone", "remove it, or set TMPDIR to another place"
        )
    return path


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder of this demo, locked while it lives, and removed at its end."""
    parent, name = base(), secrets.token_hex(4)
    draft = parent / f"{_HIDDEN}{name}"
    draft.mkdir(mode=0o700)
    lock = os.open(draft / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = draft.rename(parent / name)  # only now do others see it
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def clean_up() -> list[Left]:
    """End what demos that are gone left behind."""
    found = []
    for folder in sorted(base().iterdir()):
        lock = _free(folder)
        if lock is None:
            continue
        try:
            end_gateway(folder / GATEWAY)
            found.append(Left(folder, end_replicas(folder / REPLICAS)))
            _remove(folder)
        finally:
            os.close(lock)
    return found


def end_replicas(state: Path, wait_s: float = _WAIT_S) -> int:
    """End every server of a state folder, all at once; returns how many still ran.

    Args:
        wait_s: time in which each may end by itself before it is killed.
    """
    if not state.is_dir():
        return 0
    executor = LocalExecutor(state, drain_s=wait_s)
    running = len(executor.standing())
    clusters = [path.name for path in state.iterdir() if path.is_dir() and path.name[0] != "."]
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(executor.terminate, clusters))
    return running


def end_gateway(state: Path) -> None:
    """End the gateway of a state folder, whatever it answers."""
    if state.is_dir():
        from arbiter.gateway.envoy import EnvoyGateway

        EnvoyGateway(state, tuple).stop()


def _remove(folder: Path) -> None:
    """Take the folder out of sight in one step, then remove what is in it."""
    with suppress(FileNotFoundError):
        hidden = folder.rename(folder.with_name(f"{_HIDDEN}{folder.name}"))
        shutil.rmtree(hidden, ignore_errors=True)


def _free(folder: Path) -> int | None:
    """The lock of a folder that no demo holds, now held by us; None otherwise."""
    if folder.name.startswith(_HIDDEN):
        return None
    try:  # a folder without its lock is the rest of one: nobody can hold it
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
