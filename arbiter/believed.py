"""What was believed of the pools of spot machines, in words and figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from arbiter.calibration import Calibration
from arbiter.domain import Offer, Purchase
from arbiter.pools import group_of, pool_of, told_of
from arbiter.spot.beliefs import HOUR, Beliefs, hazard_now
from arbiter.spot.cold import cold_s, places
from arbiter.spot.goal import Goal
from arbiter.spot.priors import Seed


@dataclass(frozen=True, slots=True)
class Believed:
    """One pool at an instant.

    Attributes:
        pool: provider/region/zone/instance type.
        open: its last sign was a good one.
        age_h: hours of its present run: open since, or closed since, as far as is known.
        losses_per_h: hazard of a machine there now, or of one that would be launched.
        factor: by how much that exceeds what the age alone foretells; 1 where nothing is learnt.
        tried: anything ever happened there.
        told: what its provider says of losses there, and when; None where it says nothing.
        told_factor: what that makes of the hazard before anything is learnt.
    """

    pool: str
    open: bool
    age_h: float
    losses_per_h: float
    factor: float
    tried: bool = True
    told: str | None = None
    told_factor: float | None = None


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


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """What busy servers have shown of a kind of machine under a model.

    Attributes:
        measured: tokens per second that were made, over those that were estimated.
        factor: what the estimate is multiplied by, which weighs in too.
        busy_s: seconds of full load, those longer ago counting less.
    """

    variant: str
    gpu: str
    gpu_count: int
    measured: float
    factor: float
    busy_s: float
    seen_at: datetime | None


def measured_rates(beliefs: Beliefs, model: str, at: datetime) -> list[MeasuredRate]:
    """Of every kind that was measured, by name."""
    calibration = Calibration(beliefs.rates, model, at)
    found = []
    for name, rate in sorted(beliefs.rates.items()):
        owner, variant, gpu, count = name.split("/")
        if owner == model and rate.busy_s > 0:
            evidence = calibration.of(variant, gpu, int(count))
            measured = round(rate.made_s / rate.busy_s, 3)
            found.append(
                MeasuredRate(
                    variant, gpu, int(count), measured, evidence.factor, evidence.busy_s,
                    evidence.seen_at,
                )
            )  # fmt: skip
    return found


def rate_line(one: MeasuredRate) -> str:
    """A measured rate as text."""
    seen = "" if one.seen_at is None else f", last at {one.seen_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"measured on {one.gpu} x{one.gpu_count} as {one.variant}: {one.measured:.2f} of the "
        f"estimate in {one.busy_s / 60:.1f} busy minutes{seen}, counted as {one.factor:.2f}"
    )


def cold_line(one: ColdStart) -> str:
    """A cold start as text."""
    return (
        f"cold start of {one.model} in {one.place}: {one.expected_s:.0f} s are expected, "
        f"{len(one.measured_s)} measured, the newest {one.measured_s[-1]:.0f} s"
    )


def believed(beliefs: Beliefs, at: datetime, offers: Iterable[Offer] = ()) -> list[Believed]:
    """All pools that were ever heard of, and those of spot offers, the safest first."""
    asked = {pool_of(one): one for one in offers if one.purchase is Purchase.SPOT}
    regions = {name: pool.region for name, pool in beliefs.pools.items()}
    regions = {name: group_of(one) for name, one in asked.items()} | regions
    seeded = replace(beliefs, seeds=told_of(beliefs.seeds, regions))
    rows = [_row(seeded, name, region, at) for name, region in regions.items()]
    return sorted(rows, key=lambda row: (not row.open, not row.tried, row.losses_per_h, row.pool))


def believed_lines(rows: list[Believed], most: int = 8) -> list[str]:
    """The rows as text, for `arbiter explain`."""
    lines = [_line(row) for row in rows[:most]]
    if len(rows) > most:
        lines.append(f"and {len(rows) - most} more: --json shows all")
    return lines


def goal_line(goal: Goal) -> str:
    """How a service is steered, as text."""
    return (
        f"steered to {goal.aim}: an hour of a missing replica counted as "
        f"{goal.missing_cost:.3g} on-demand hours"
    )


def _line(row: Believed) -> str:
    state = f"{'open' if row.open else 'closed'} for {row.age_h:.1f} h"
    state = state if row.tried else "never tried"
    told = f"; {row.told}, counted as {row.told_factor:.2f} times" if row.told else ""
    return (
        f"{row.pool}: {state}, {row.losses_per_h:.3f} losses an hour "
        f"({row.factor:.2f} times what its age foretells{told})"
    )


def _row(beliefs: Beliefs, name: str, region: str, at: datetime) -> Believed:
    now, pool = at.timestamp(), beliefs.pool(name, region)
    factor, seed = beliefs.factors.of(name, region), beliefs.seeds.get(name)
    since = pool.up_since if pool.up_since is not None else pool.down_since
    age_h = max(0.0, now - since) / HOUR if since is not None else 0.0
    told = None if seed is None else _told(seed)
    return Believed(
        name,
        pool.up,
        age_h,
        hazard_now(beliefs, name, region, now),
        factor,
        name in beliefs.pools,
        told,
        None if seed is None else seed.factor,
    )


def _told(seed: Seed) -> str:
    measured = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seed.at)
    return f"its provider says {seed.text} ({seed.kind} of {measured:%Y-%m-%d})"
