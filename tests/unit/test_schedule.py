"""Jobs run on time, never twice at once, and never in silence."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from arbiter.clock import SystemClock
from arbiter.errors import ArbiterError
from arbiter.pulse import Pulse
from arbiter.schedule import Kind, Schedule, error_line

LONG_S = 3600.0
PATIENCE_S = 20.0  # of a test for what must come; nothing waits for it to pass


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


@pytest.fixture
def schedule(pulse: Pulse) -> Iterator[Schedule]:
    schedule = Schedule(pulse, SystemClock())
    yield schedule
    schedule.stop()


def until(condition: threading.Event) -> None:
    assert condition.wait(PATIENCE_S)


def test_a_job_runs_at_once_and_its_run_is_noted(schedule: Schedule, pulse: Pulse) -> None:
    ran = threading.Event()
    schedule.every("job", Kind.UPKEEP, LONG_S, ran.set)
    beat = pulse.beat("job")
    assert beat is not None
    assert beat.ended_at is None
    schedule.start()
    until(ran)
    schedule.stop()
    beat = pulse.beat("job")
    assert beat is not None
    assert (beat.ended_at is not None, beat.started_at, beat.error) == (True, None, "")


def test_a_job_that_is_wanted_soon_does_not_wait_for_its_interval(schedule: Schedule) -> None:
    runs = threading.Semaphore(0)
    schedule.every("job", Kind.RECONCILE, LONG_S, runs.release)
    schedule.start()
    assert runs.acquire(timeout=PATIENCE_S)
    schedule.soon("job")
    assert runs.acquire(timeout=PATIENCE_S)
    schedule.soon("nobody")


def test_an_error_is_noted_in_one_line_and_the_job_runs_again(
    schedule: Schedule, pulse: Pulse
) -> None:
    runs = threading.Semaphore(0)

    def fail_once() -> None:
        runs.release()
        beat = pulse.beat("job")
        if beat is not None and not beat.error:
            raise ArbiterError("the disk\nis full", "free some space")

    schedule.every("job", Kind.RECONCILE, 0.05, fail_once)
    schedule.start()
    for _ in range(3):
        assert runs.acquire(timeout=PATIENCE_S)
    schedule.stop()
    beat = pulse.beat("job")
    assert beat is not None
    assert beat.ended_at is not None, "it ran well after the error"
    assert error_line(ArbiterError("the disk\nis full", "free")) == "the disk is full; free"


def test_a_slow_poll_delays_no_decision(schedule: Schedule) -> None:
    release, polling, decided = threading.Event(), threading.Event(), threading.Event()

    def poll() -> None:
        polling.set()
        release.wait(PATIENCE_S)

    schedule.every("poll", Kind.POLL, LONG_S, poll)
    schedule.start()
    until(polling)
    schedule.every("tick", Kind.RECONCILE, LONG_S, decided.set)
    until(decided)
    release.set()


def test_a_job_never_runs_twice_at_a_time_and_what_was_left_out_is_counted(
    schedule: Schedule, pulse: Pulse
) -> None:
    release, begun, left_out = threading.Event(), threading.Semaphore(0), threading.Event()

    def slow() -> None:
        begun.release()
        release.wait(PATIENCE_S)

    def watch() -> None:
        beat = pulse.beat("slow")
        if beat is not None and beat.skipped:
            left_out.set()

    schedule.every("slow", Kind.RECONCILE, 0.02, slow)
    schedule.every("watch", Kind.UPKEEP, 0.02, watch)
    schedule.start()
    until(left_out)
    assert begun.acquire(blocking=False)
    assert not begun.acquire(blocking=False)
    release.set()


def test_the_end_waits_for_what_acts(schedule: Schedule) -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        release.wait(PATIENCE_S)
        ended.set()

    schedule.every("tick", Kind.RECONCILE, LONG_S, act)
    schedule.start()
    until(begun)
    threading.Timer(0.1, release.set).start()
    schedule.stop()
    assert ended.is_set()
    assert not schedule.running


def test_the_end_leaves_a_poll_behind_that_does_not_answer(schedule: Schedule) -> None:
    begun, never = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        never.wait(PATIENCE_S)

    schedule.every("poll", Kind.POLL, LONG_S, hang)
    schedule.start()
    until(begun)
    schedule.stop()  # within the patience for polls, and not the twenty seconds
    assert not never.is_set()
    never.set()


def test_a_job_asked_for_again_while_the_schedule_ends_holds_nothing_up(
    schedule: Schedule,
) -> None:
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        release.wait(PATIENCE_S)

    schedule.every("job", Kind.RECONCILE, LONG_S, job)
    schedule.start()
    until(started)
    schedule.soon("job")

    def stop() -> None:
        schedule.stop()
        ended.set()

    threading.Thread(target=stop, daemon=True).start()
    threading.Timer(0.3, release.set).start()
    until(ended)
