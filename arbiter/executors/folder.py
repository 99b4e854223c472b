"""A cluster of the local executor on disk: its files, its lock, the process that holds it.

The lock is a flock on `lock`, taken by whoever starts the server and handed down to it: it is
free exactly when neither a server nor somebody who is about to start or remove one exists. The
process id in `pid` is believed only while that process has the lock file open.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# The shell records its process id, then becomes the server: there is no server without a record.
_BECOME = 'echo $$ >"$1" && shift && exec "$@"'

# Children of this process, to be reaped when they end; the system keeps them as zombies until then.
_children: list[subprocess.Popen[bytes]] = []
_children_lock = threading.Lock()


def reap() -> None:
    """Let go of the servers that this process started and that have ended."""
    with _children_lock:
        _children[:] = [child for child in _children if child.poll() is None]


class Folder:
    """One cluster's folder. Creating the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.port_file = path / "port"
        self._lock = path / "lock"
        self._pid = path / "pid"

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the lock and yield its descriptor, or yield None when somebody else holds it.

        None as well when the folder is not there, or was removed and made again meanwhile.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            yield None
            return
        try:
            gained = _flock(descriptor, fcntl.LOCK_EX) and _is_file(descriptor, self._lock)
            yield descriptor if gained else None
        finally:
            os.close(descriptor)

    def alive(self) -> bool:
        """Whether a server runs, or is being started at this instant."""
        if not self._held():
            return False
        return self.recorded_pid() is None or self.server() is not None

    def recorded_pid(self) -> int | None:
        """The process id that a server has recorded, alive or not; None if none ever did."""
        text = self.read("pid")
        return int(text) if text and text.strip().isdecimal() else None

    def server(self) -> int | None:
        """The server's process id, or None when it does not run (any more)."""
        pid = self.recorded_pid()
        return pid if pid is not None and self._has_lock_open(pid) else None

    def port(self) -> int | None:
        """The port that the server reported, or None."""
        text = self.read("port")
        return int(text) if text and text.strip().isdecimal() else None

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], lock: int) -> None:
        """Start the server in a session of its own, with the lock handed down to it.

        Args:
            lock: the descriptor that `locked` yielded.
        """
        with self.log.open("ab") as log, _children_lock:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _BECOME, "sh", str(self._pid), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(environment),
                pass_fds=(lock,),
                start_new_session=True,
            )
            _children.append(child)

    def ask_to_end(self) -> bool:
        """Send SIGTERM to the server; False when there is none (yet)."""
        pid = self.recorded_pid()
        return pid is not None and self._signal(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the server and to all its children that live in its session.

        The server goes last: for as long as it lives, nobody else's session has its number.
        """
        leader = self.recorded_pid()
        if leader is None:
            return
        ours = self._has_lock_open(leader)
        for pid in sorted(_session(leader), key=lambda pid: pid == leader):
            self._signal(pid, signal.SIGKILL, leader if ours and pid != leader else None)

    def read(self, name: str) -> str | None:
        """The text of one of the files, or None when it is not there."""
        try:
            return (self.path / name).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in one of the files, or None when it is not there or not whole."""
        return parse_object(self.read(name))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one of the files so that a reader sees all of it or nothing."""
        write_json(self.path / name, content)

    def _held(self) -> bool:
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return not _flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _has_lock_open(self, pid: int) -> bool:
        try:
            lock = self._lock.stat()
            entries = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # no such process, or not one of ours
            return False
        for entry in entries:
            with suppress(OSError):
                opened = os.stat(f"/proc/{pid}/fd/{entry}")
                if (opened.st_dev, opened.st_ino) == (lock.st_dev, lock.st_ino):
                    return True
        return False

    def _signal(self, pid: int, number: signal.Signals, session: int | None = None) -> bool:
        """Signal a process of ours, and never another that took over its id.

        Args:
            session: ours is whoever is in it; None: ours is whoever has the lock open.
        """
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            ours = self._has_lock_open(pid) if session is None else os.getsid(pid) == session
            if ours:
                signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(process)
        return ours


def _session(leader: int) -> list[int]:
    """The processes in a session."""
    found = []
    for entry in os.listdir("/proc"):
        with suppress(ValueError, ProcessLookupError):
            if os.getsid(int(entry)) == leader:
                found.append(int(entry))
    return found


def parse_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object of a text, or None when it is none."""
    try:
        content = json.loads(text) if text else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    draft.replace(path)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the opened file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
