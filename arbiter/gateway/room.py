"""The waiting room's process: started while a service holds requests, replaced, ended.

A folder in the gateway's state folder, in the layout of `arbiter.executors.folder`, holds its lock
for as long as it lives, as those of Envoy's processes do:

    <state>/room-000001/lock, pid, log   as there
                        wanted           a digest of the program that it was started as
                        ready            once it listens
    <state>/waiting.sock                 where Envoy finds the newest
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

from arbiter.errors import GatewayError
from arbiter.executors.folder import reap
from arbiter.gateway import waiting_room
from arbiter.gateway.process import Run
from arbiter.gateway.waiting_room import READY

START_S = 20.0
"""Within which a new process must listen; it takes some tenths of a second."""

_ENVIRONMENT = ("PATH", "PYTHONPATH", "TMPDIR")
_STEP_S = 0.02
_FIRST = "room-000000"


class Room:
    """Of one state folder. Whoever calls holds the folder's lock."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def ensure(self, *, needed: bool) -> None:
        """Have one run, of the present program; or none.

        Raises:
            GatewayError: it does not start.
        """
        reap()
        runs = [run for run in self._all() if run.alive]
        current = runs[-1] if needed and runs and runs[-1].wanted == _digest() else None
        if needed and current is None:
            current = self._start()
        for run in runs:
            if current is None or run.path != current.path:
                run.folder.ask_to_end()  # what it holds goes to the next one

    def stop(self) -> None:
        """End every one, and wait for it."""
        for run in self._all():
            if run.alive:
                run.end()

    def _start(self) -> Run:
        known = self._all()
        for run in known:
            if not run.alive:
                shutil.rmtree(run.path, ignore_errors=True)
        number = int(known[-1].path.name[5:] if known else _FIRST[5:]) + 1
        run = Run(self._state / f"room-{number:06d}")
        run.path.mkdir(mode=0o700)
        (run.path / "wanted").write_text(_digest(), encoding="ascii")
        with run.folder.locked() as lock:
            if lock is None:
                raise GatewayError(f"{run.path}/lock is held by another program")
            run.folder.spawn(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    waiting_room.__name__,
                    str(self._state),
                    str(run.path),
                ],
                {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                lock,
            )
        end = time.monotonic() + START_S
        while run.folder.read(READY) is None:
            reap()
            ended = run.folder.recorded_pid() is not None and not run.alive
            if ended or time.monotonic() > end:
                run.end()
                raise GatewayError(
                    "the waiting room does not start", f"its log is {run.folder.log}"
                )
            time.sleep(_STEP_S)
        return run

    def _all(self) -> list[Run]:
        names = sorted(os.listdir(self._state)) if self._state.is_dir() else []
        return [Run(self._state / name) for name in names if name.startswith("room-")]


def _digest() -> str:
    """Changes with the program."""
    parts = [sys.executable.encode(), Path(waiting_room.__file__).read_bytes()]
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]
