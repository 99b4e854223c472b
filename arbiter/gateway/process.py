"""Envoy's processes: started, found again, replaced without a lost request, ended when idle.

Each process has a folder in the state folder, in the layout of `arbiter.executors.folder`: it holds
a lock for as long as it lives, so that an arbiter that was killed finds it again.

    <state>/run-000001/lock, pid, log   as there
                       boot.json        what it was started with; holds no key
                       wanted           a digest of that, its program and its arguments
                       draining         when it began to be replaced, in seconds since 1970
                       admin.sock, cut  see `arbiter.gateway.boot`

Two processes share the port while one replaces the other: the kernel deals new connections to
both, until the old one closes its listener.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arbiter.errors import GatewayError
from arbiter.executors.folder import Folder, reap
from arbiter.gateway.admin import Admin
from arbiter.gateway.boot import CUT_LOG, Json

START_S = 15.0
"""Within which a new process must answer; a healthy one takes a tenth of a second."""

SILENT_S = 30.0
"""A process that has not answered for so long does not forward either, and is killed."""

DRAIN_S = 5
"""For so long a replaced process goes on to take connections, and tells clients to leave."""

QUIET_S = 15.0
"""A replaced process with connections but without a request for so long may be ended."""

_STEP_S = 0.02
_END_S = 3.0
_ARGUMENTS = (
    *("-c", "boot.json", "--disable-hot-restart", "--file-flush-interval-msec", "500"),
    *("--drain-strategy", "immediate", "--drain-time-s", str(DRAIN_S)),
    # A file that is refused would be quoted in the log, with the keys in it.
    *("--log-level", "warning", "--component-log-level", "config:off"),
)
# For this user alone, in its own folder, with as many connections as the system lets it have.
_SHELL = 'umask 077 && cd "$1" && shift && { ulimit -Sn "$(ulimit -Hn)" || :; } && exec "$@"'
_RUN = re.compile(r"run-[0-9]{6}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The process that should run.

    Attributes:
        workers: threads that forward.
        files: what the process reads only at its start.
        boot: `arbiter.gateway.boot.bootstrap`.
    """

    program: Path
    boot: Json
    host: str
    port: int
    workers: int
    files: tuple[Path, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with anything that needs another process.

        Raises:
            OSError: the program or a file is not there.
        """
        read = [(str(path), path.stat()) for path in (self.program, *self.files)]
        parts = (
            [(path, found.st_size, found.st_mtime_ns) for path, found in read],
            self.workers,
            _ARGUMENTS,
            self.boot,
        )
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Run:
    """One process and its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Folder(path)
        self.admin = Admin(path)

    @property
    def alive(self) -> bool:
        """Whether the process runs: somebody holds its lock."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @property
    def wanted(self) -> str | None:
        """The digest of what it was started as."""
        return self.folder.read("wanted")

    @property
    def draining_since(self) -> float | None:
        """When it began to be replaced, in seconds since 1970."""
        text = self.folder.read("draining")
        return float(text) if text else None

    def cuts(self) -> list[str]:
        """The service of every answer that was cut."""
        return (self.folder.read(CUT_LOG) or "").split()

    def trouble(self) -> str:
        """The last thing that it complained of."""
        lines = (self.folder.read("log") or "").splitlines()
        told = [line for line in lines if "][critical]" in line or "][error]" in line]
        last = (told or lines or ["it said nothing"])[-1]
        return re.sub(r"^(\[[^\]]*\] ?)+", "", last)[:300]

    def drain(self) -> None:
        """Begin to be replaced."""
        self.admin.begin_drain()
        (self.path / "draining").write_text(f"{time.time()}\n", encoding="ascii")

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.folder.ask_to_end()
        if not _until(lambda: not self.alive, _END_S):
            self.folder.kill()
            _until(lambda: not self.alive, _END_S)
        reap()


class Runs:
    """All processes of one state folder.

    Args:
        drain_s: seconds after which a replaced process is ended though it still answers.
        retired: called with a process that was drained, before it is ended.
    """

    def __init__(self, state: Path, drain_s: float, retired: Callable[[Run], None]) -> None:
        self._state = state
        self._drain_s = drain_s
        self._retired = retired
        self._quiet_since: dict[str, float] = {}
        self._silent_since: float | None = None

    def alive(self) -> list[Run]:
        """The processes that run, the newest last."""
        reap()
        return [run for run in self._all() if run.alive]

    def newest(self) -> Run | None:
        """The process that is meant to take new connections, or None."""
        runs = [run for run in self.alive() if run.draining_since is None]
        return runs[-1] if runs else None

    def ensure(self, wanted: Wanted) -> Run:
        """The wanted process: the one that runs, or a new one beside those that are outdated.

        Raises:
            GatewayError: it cannot be started, or does not answer.
        """
        current = self.newest()
        if current is not None and current.wanted == wanted.digest:
            self._heard(current)
        else:
            if not self.alive():
                _check_port(wanted.host, wanted.port)
            current = self._start(wanted)
        for run in self.alive():
            if run.path != current.path and run.draining_since is None:
                run.drain()
        return current

    def retire(self) -> int:
        """End every replaced process that is idle or over its time; returns how many are left."""
        left = 0
        for run in self.alive():
            since = run.draining_since
            if since is None:
                continue
            if self._done(run, time.time() - since):
                self._retired(run)
                run.end()
                shutil.rmtree(run.path, ignore_errors=True)
            else:
                left += 1
        return left

    def _done(self, run: Run, waited: float) -> bool:
        if waited > self._drain_s:
            return True
        if waited < DRAIN_S + 1:
            return False
        try:
            figures = run.admin.stats(r"^http\.clients\.downstream_(rq|cx)_active$")
        except GatewayError:
            return False
        if figures.get("http.clients.downstream_rq_active"):
            self._quiet_since.pop(run.path.name, None)
            return False
        quiet_since = self._quiet_since.setdefault(run.path.name, time.monotonic())
        connected = figures.get("http.clients.downstream_cx_active")
        return not connected or time.monotonic() - quiet_since > QUIET_S

    def _heard(self, run: Run) -> None:
        if run.admin.ready():
            self._silent_since = None
            return
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        silent = now - self._silent_since
        if silent > SILENT_S:
            self._silent_since = None
            run.folder.kill()
        raise GatewayError(
            f"the gateway (process {run.folder.server()}) has not answered for {silent:.0f} s",
            f"it is replaced after {SILENT_S:.0f} s",
        )

    def _start(self, wanted: Wanted) -> Run:
        self._sweep()
        names = [run.path.name for run in self._all()] or ["run-000000"]
        run = Run(self._state / f"run-{int(names[-1][4:]) + 1:06d}")
        run.path.mkdir(mode=0o700)
        run.folder.write_json("boot.json", wanted.boot)
        (run.path / "wanted").write_text(wanted.digest, encoding="ascii")
        command = [str(wanted.program), *_ARGUMENTS, "--concurrency", str(wanted.workers)]
        if not _until(lambda: self._spawned(run, command), _END_S):
            raise GatewayError(f"{run.path}/lock is held by another program")
        ended = False

        def settled() -> bool:
            nonlocal ended
            reap()
            ended = run.folder.recorded_pid() is not None and not run.alive
            return ended or run.admin.ready()

        if _until(settled, START_S) and not ended:
            return run
        trouble = run.trouble()
        run.end()
        raise GatewayError(f"the gateway does not start: {trouble}", f"its log is {run.folder.log}")

    def _spawned(self, run: Run, command: Sequence[str]) -> bool:
        """Spawn it, unless somebody is just looking whether it runs."""
        with run.folder.locked() as lock:
            if lock is not None:
                run.folder.spawn(
                    ["/bin/sh", "-c", _SHELL, "sh", str(run.path), *command],
                    {"PATH": os.environ.get("PATH", os.defpath)},
                    lock,
                )
        return lock is not None

    def _sweep(self) -> None:
        """Remove what dead processes left, but for the last one's log."""
        dead = [run for run in self._all() if not run.alive]
        for run in dead[:-1]:
            shutil.rmtree(run.path, ignore_errors=True)

    def _all(self) -> list[Run]:
        names = sorted(os.listdir(self._state)) if self._state.is_dir() else []
        return [Run(self._state / name) for name in names if _RUN.fullmatch(name)]


def _check_port(host: str, port: int) -> None:
    """Another program's listener would be fatal; another Envoy's would silently take a share."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise GatewayError(
                f"the gateway cannot listen on {host}:{port}: {error.strerror}",
                "end the program that listens there, or set gateway.port",
            ) from None


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; returns whether it came to hold."""
    return any(condition() for _ in _steps(seconds))


def _steps(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(_STEP_S)
