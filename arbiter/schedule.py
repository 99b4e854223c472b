"""When the daemon's jobs run: the only file that imports APScheduler.

One lane for each kind of job, so that a slow poll never delays a decision. A run that is late is
still made, several that are late are made once, and no job ever runs twice at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from arbiter.clock import Clock
from arbiter.pulse import Pulse


class Kind(StrEnum):
    """The lanes."""

    POLL = "poll"  # asks providers; may be abandoned at any instant
    RECONCILE = "reconcile"  # decides and acts; always let to its end
    UPKEEP = "upkeep"  # lease, orders, small chores
    WATCH = "watch"  # asks the servers whether they serve, and may wait for one that hangs


POLL_THREADS = 64
"""More than there are providers: one that hangs until its deadline takes nobody's turn."""

NEVER_DAYS = 36_500

POLLS_MAY_TAKE_S = 2.0
"""At the end: a poll that is cut short loses nothing, its transaction is one."""


class Schedule:
    """The daemon's jobs.

    Args:
        pulse: is told of every run, every error and every run that was left out.
    """

    def __init__(self, pulse: Pulse, clock: Clock) -> None:
        # Its own lines would repeat what the pulse says; a traceback still comes with --debug.
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
        self._pulse = pulse
        self._clock = clock
        self._lanes = {
            Kind.POLL: _Lane(POLL_THREADS, POLLS_MAY_TAKE_S),
            Kind.RECONCILE: _Lane(1, None),
            Kind.UPKEEP: _Lane(1, POLLS_MAY_TAKE_S),
            Kind.WATCH: _Lane(1, POLLS_MAY_TAKE_S),
        }
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={kind.value: lane for kind, lane in self._lanes.items()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._asked: set[str] = set()
        self._scheduler.add_listener(self._left_out, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._over, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def every(
        self, name: str, kind: Kind, seconds: float, job: Callable[[], object], jitter: float = 0.0
    ) -> None:
        """Run the job at once when the schedule starts, and then again and again.

        Args:
            seconds: between two starts.
            jitter: seconds by which a start may come sooner or later, so that many arbiters do
                not ask one provider at the same instant.
        """
        self._pulse.known(name, self._clock.now())
        self._scheduler.add_job(
            lambda: self._run(name, job),
            "interval",
            id=name,
            executor=kind.value,
            seconds=seconds,
            jitter=jitter or None,
            next_run_time=datetime.now(UTC),
        )

    def paced(
        self,
        name: str,
        kind: Kind,
        job: Callable[[], object],
        wait_s: Callable[[], float],
        first_s: float = 0.0,
    ) -> None:
        """Run a job that says itself when it wants to run again.

        Args:
            wait_s: asked after each run, also after one that failed: seconds until the next.
            first_s: seconds until the first run.
        """
        self._pulse.known(name, self._clock.now())

        def run() -> None:
            try:
                self._run(name, job)
            finally:
                self._at(name, wait_s())

        self._scheduler.add_job(
            run,
            "interval",
            id=name,
            executor=kind.value,
            days=NEVER_DAYS,  # the run itself says when the next one is
            next_run_time=datetime.now(UTC) + timedelta(seconds=first_s),
        )

    def soon(self, name: str) -> None:
        """Run the job now, or once more after the run that is going on.

        Its interval begins anew. Nothing happens for a name that is not known.
        """
        self._asked.add(name)
        self._now(name)

    def start(self) -> None:
        """Begin; returns at once."""
        self._scheduler.start()

    def stop(self) -> None:
        """Start nothing more, and wait for what decides or acts; polls are left behind soon."""
        if not self._scheduler.running:
            return
        # Not shutdown(wait=True): it waits under the lock that a job asked for again would need.
        self._scheduler.shutdown(wait=False)
        for lane in self._lanes.values():
            lane.shutdown(wait=True)

    @property
    def running(self) -> bool:
        """Whether the thread that starts the jobs is there."""
        thread = getattr(self._scheduler, "_thread", None)
        return bool(self._scheduler.running and thread is not None and thread.is_alive())

    def _now(self, name: str) -> None:
        if not self._at(name, 0.0):
            self._asked.discard(name)

    def _at(self, name: str, seconds: float) -> bool:
        """Let the next run begin so many seconds from now; whether there is such a job."""
        begin = datetime.now(UTC) + timedelta(seconds=max(0.0, seconds))
        try:
            self._scheduler.modify_job(name, next_run_time=begin)
        except JobLookupError:
            return False
        return True

    def _run(self, name: str, job: Callable[[], object]) -> None:
        self._asked.discard(name)
        self._pulse.started(name, self._clock.now())
        job()
        self._pulse.ended(name, self._clock.now())

    def _left_out(self, event: JobSubmissionEvent) -> None:
        if event.job_id not in self._asked:  # it was asked for while it ran, and comes after it
            self._pulse.skipped(event.job_id, self._clock.now())

    def _over(self, event: JobExecutionEvent) -> None:
        if event.exception is not None:
            self._pulse.ended(event.job_id, self._clock.now(), error_line(event.exception))
        if event.job_id in self._asked:
            self._now(event.job_id)


def error_line(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    from arbiter.errors import ArbiterError

    text = str(error) if isinstance(error, ArbiterError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


class _Lane(BaseExecutor):  # type: ignore[misc]
    """Threads that do not keep the program alive, which APScheduler's own pool would.

    Args:
        width: jobs that run at a time; more wait.
        patience_s: how long the end waits for them; None waits until they are done.
    """

    def __init__(self, width: int, patience_s: float | None) -> None:
        super().__init__()
        self._free = threading.BoundedSemaphore(width)
        self._patience_s = patience_s
        self._threads: set[threading.Thread] = set()

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        thread = threading.Thread(
            target=self._work, args=(job, run_times), name=f"job {job.id}", daemon=True
        )
        self._threads = {one for one in self._threads if one.is_alive()} | {thread}
        thread.start()

    def _work(self, job: Any, run_times: list[datetime]) -> None:
        with self._free:
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
        self._run_job_success(job.id, events)

    def shutdown(self, wait: bool = True) -> None:
        """Wait for the jobs as long as the lane's patience lasts."""
        if not wait:
            return
        until = None if self._patience_s is None else time.monotonic() + self._patience_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
