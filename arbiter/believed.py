"""What was believed of the pools of spot machines, in words and figures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from arbiter.spot.beliefs import HOUR, Beliefs, Pool, hazard, unseen_h
from arbiter.spot.cold import cold_s, places
from arbiter.spot.goal import Goal


@dataclass(frozen=True, slots=True)
class Believed:
    """One pool at an instant.

    Attributes:
        pool: provider/region/zone/instance type.
        open: its last sign was a good one.
        age_h: hours of its present run: open since, or closed since, as far as is known.
        losses_per_h: hazard of a machine there now, or of one that would be launched.
        factor: by how much that exceeds what the age alone foretells; 1 where nothing is learnt.
    """

    pool: str
    open: bool
    age_h: float
    losses_per_h: float
    factor: float


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A model's cold start in one place.

    Attributes:
        place: provider/region.
        expected_s: seconds from a launch to the first answer that are counted on.
        measured_s: the newest measurements, the newest last.
    """

    model: str
    place: str
    expected_s: float
    measured_s: tuple[float, ...]


def cold_starts(beliefs: Beliefs, model: str, assumed_s: float) -> list[ColdStart]:
    """Of every place where one was measured, by place."""
    return [
        ColdStart(model, place, cold_s(beliefs.colds, model, place, assumed_s), found)
        for place, found in places(beliefs.colds, model).items()
    ]


def cold_line(one: ColdStart) -> str:
    """A cold start as text."""
    return (
        f"cold start of {one.model} in {one.place}: {one.expected_s:.0f} s are expected, "
        f"{len(one.measured_s)} measured, the newest {one.measured_s[-1]:.0f} s"
    )


def believed(beliefs: Beliefs, at: datetime) -> list[Believed]:
    """All pools that were ever heard of, the safest first."""
    now = at.timestamp()
    rows = [
        _row(name, pool, beliefs.factors.of(name, pool.region), now)
        for name, pool in beliefs.pools.items()
    ]
    return sorted(rows, key=lambda row: (not row.open, row.losses_per_h, row.pool))


def believed_lines(rows: list[Believed], most: int = 8) -> list[str]:
    """The rows as text, for `arbiter explain`."""
    lines = [
        f"{row.pool}: {'open' if row.open else 'closed'} for {row.age_h:.1f} h, "
        f"{row.losses_per_h:.3f} losses an hour ({row.factor:.2f} times what its age foretells)"
        for row in rows[:most]
    ]
    if len(rows) > most:
        lines.append(f"and {len(rows) - most} more: --json shows all")
    return lines


def goal_line(goal: Goal) -> str:
    """How a service is steered, as text."""
    return (
        f"steered to {goal.aim}: an hour of a missing replica counted as "
        f"{goal.missing_cost:.3g} on-demand hours"
    )


def _row(name: str, pool: Pool, factor: float, now: float) -> Believed:
    since = pool.up_since if pool.up_since is not None else pool.down_since
    age_h = max(0.0, now - since) / HOUR if since is not None else 0.0
    run_h = age_h if pool.up else unseen_h(pool, now)
    return Believed(name, pool.up, age_h, hazard(run_h, factor), factor)
