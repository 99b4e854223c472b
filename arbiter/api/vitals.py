"""Whether the daemon is well, from what its jobs and polls last did. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from arbiter.pulse import Beat
from arbiter.store.prices import PollRow

TICK = "tick"
"""The name of the job that decides and acts."""

DEAD_AFTER_S = 900.0
"""A tick may wait minutes for a cloud that ends machines slowly; nothing takes this long."""

LATE_TICKS = 3
LATE_S = 30.0


class Status(StrEnum):
    """In words for people and for a supervisor; only `dead` calls for a restart."""

    OK = "ok"
    DEGRADED = "degraded"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Vitals:
    """The verdict, with every reason why it is not ok."""

    status: Status
    reasons: tuple[str, ...]
    last_tick_at: datetime | None
    last_tick_age_s: float | None


def judge(
    now: datetime,
    beats: Sequence[Beat],
    polls: Sequence[PollRow],
    tick_s: float,
    *,
    scheduling: bool = True,
    troubles: Sequence[str] = (),
) -> Vitals:
    """The verdict.

    Args:
        beats: of every job.
        polls: the newest of every provider.
        tick_s: seconds between two ticks.
        scheduling: whether the thread that starts the jobs lives.
        troubles: found elsewhere, such as a database that does not answer.
    """
    tick = next((beat for beat in beats if beat.job == TICK), None)
    reasons = [
        *([] if scheduling else ["the schedule has stopped: no job is started any more"]),
        *troubles,
        *_late(now, tick, tick_s),
        *(f"{beat.job} failed: {beat.error}" for beat in beats if beat.error),
        *(degraded_line(poll) for poll in polls if poll.state != "ok"),
    ]
    silent = tick is not None and tick.silent_s(now) > max(DEAD_AFTER_S, LATE_TICKS * tick_s)
    # A tick that ends with an error is no dead loop: a restart would not mend the error.
    dead = not scheduling or (silent and tick is not None and not tick.error)
    status = Status.DEAD if dead else Status.DEGRADED if reasons else Status.OK
    last = tick.ended_at if tick else None
    age = (now - last).total_seconds() if last else None
    return Vitals(status, tuple(reasons), last, age)


def degraded_line(poll: PollRow) -> str:
    """A provider and all that is missing of it, in one line."""
    reasons = [reason.removeprefix(f"{poll.provider}: ") for reason in poll.reasons]
    return f"{poll.provider} {poll.state}: {'; '.join(reasons) or 'no reason was given'}"


def _late(now: datetime, tick: Beat | None, tick_s: float) -> list[str]:
    if tick is None or tick.silent_s(now) <= LATE_TICKS * tick_s + LATE_S:
        return []
    if tick.started_at is not None:
        return [f"the tick has been running for {(now - tick.started_at).total_seconds():.0f} s"]
    return [f"no tick has ended for {tick.silent_s(now):.0f} s"]
