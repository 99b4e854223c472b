"""What the daemon's jobs last did: the daemon writes it, /healthz and the page read it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Beat:
    """One job's account of itself.

    Attributes:
        since: when it was first known, which stands in for a run that has not come yet.
        started_at: of the run that goes on now; None between two runs.
        ended_at: of the newest run that ended without an error.
        error: one line, when the newest run that ended failed; "" otherwise.
        skipped: runs left out in a row because the one before them had not ended.
    """

    job: str
    since: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    skipped: int = 0

    def silent_s(self, now: datetime) -> float:
        """Seconds since it last ended well, or since it was first known."""
        return (now - (self.ended_at or self.since)).total_seconds()


class Pulse:
    """The newest beat of every job; safe to use from any thread."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}
        self._lock = threading.Lock()

    def known(self, job: str, at: datetime) -> None:
        """The job exists from now on."""
        with self._lock:
            self._beats.setdefault(job, Beat(job, at))

    def started(self, job: str, at: datetime) -> None:
        """A run of the job has begun."""
        self._note(job, at, started_at=at, skipped=0)

    def ended(self, job: str, at: datetime, error: str = "") -> None:
        """The run has ended, well or with an error."""
        if error:
            self._note(job, at, started_at=None, error=error)
        else:
            self._note(job, at, started_at=None, ended_at=at, error="")

    def skipped(self, job: str, at: datetime) -> None:
        """A run was due while the one before it still went on."""
        beat = self.beat(job)
        self._note(job, at, skipped=1 if beat is None else beat.skipped + 1)

    def beat(self, job: str) -> Beat | None:
        """The newest beat of a job, or None for a job that is not known."""
        with self._lock:
            return self._beats.get(job)

    def beats(self) -> list[Beat]:
        """All of them, by name."""
        with self._lock:
            return [self._beats[job] for job in sorted(self._beats)]

    def _note(self, job: str, at: datetime, **changes: object) -> None:
        with self._lock:
            beat = self._beats.get(job) or Beat(job, at)
            self._beats[job] = replace(beat, **changes)  # type: ignore[arg-type]
