"""What a run comes to, as shares of what all-on-demand costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from arbiter.backtest.accounts import Day
from arbiter.backtest.engine import Life

JSON_DIGITS = 6


@dataclass(frozen=True, slots=True)
class WorstDay:
    """The day of 24 hours with the highest j.

    Attributes:
        begins: its first instant, UTC.
        cost, missing, j: as of a result, of that day alone.
    """

    begins: datetime
    cost: float
    missing: float
    j: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures = {"cost": self.cost, "missing": self.missing, "j": self.j}
        rounded = {name: _rounded(value) for name, value in figures.items()}
        return {"begins": self.begins, **rounded}


@dataclass(frozen=True, slots=True)
class Result:
    """One policy on one market.

    Attributes:
        replicas: asked for; the largest number where it changes over time.
        cost: paid, as a share of `replicas` on-demand machines all the time.
        availability: share of time in which at least `replicas` were ready.
        missing: share of the asked replica-time that was not served.
        j: cost + missing_cost x missing.
        launches, preemptions, refused, probes: per day. None where a policy has none: the bound.
        on_demand_share: of the machine-time paid for.
        bound: the least j that anyone could reach who knows the future; None: not computed.
        days: the run by days, for a bootstrap.
        lives: every machine, for a picture.
        notes: what the figures do not know.
        saving_usd_day: what all on demand would have cost more, a day; None of the bound.
        migrations: moves for money, per day; None of a policy that knows no such thing.
        worst_day: None where the days are not known.
    """

    market: str
    policy: str
    replicas: int
    cold_start_s: float
    missing_cost: float
    cost: float
    availability: float
    missing: float
    j: float
    launches: float
    preemptions: float | None
    on_demand_share: float
    bound: float | None = None
    refused: float | None = None
    probes: float | None = None
    days: tuple[Day, ...] = ()
    lives: tuple[Life, ...] = ()
    notes: tuple[str, ...] = ()
    saving_usd_day: float | None = None
    migrations: float | None = None
    worst_day: WorstDay | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys of `arbiter backtest --json`."""
        return {
            "market": self.market,
            "policy": self.policy,
            "replicas": self.replicas,
            "cold_start_s": self.cold_start_s,
            "cost": _rounded(self.cost),
            "availability": _rounded(self.availability),
            "missing": _rounded(self.missing),
            "j": _rounded(self.j),
            "launches": _rounded(self.launches),
            "preemptions": _rounded(self.preemptions),
            "on_demand_share": _rounded(self.on_demand_share),
            "bound": _rounded(self.bound),
            "saving_usd_day": _rounded(self.saving_usd_day),
            "migrations": _rounded(self.migrations),
            "worst_day": None if self.worst_day is None else self.worst_day.as_dict(),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, JSON_DIGITS)


def worst_day(days: Sequence[Day], missing_cost: float, begins: datetime) -> WorstDay | None:
    """The day with the highest j, the first of equals; None of no days.

    Args:
        begins: the first instant that is measured.
    """
    found: WorstDay | None = None
    for number, day in enumerate(days):
        cost, missing = day.paid / day.needed, day.short / day.needed
        j = cost + missing_cost * missing
        if found is None or j > found.j:
            found = WorstDay(begins + timedelta(days=number), cost, missing, j)
    return found


def beside(ours: Result, theirs: Result) -> str:
    """What one policy would have changed beside another, as a sentence."""
    drawn = better(ours.days, theirs.days, ours.missing_cost)
    sure = "" if drawn is None else f" (90 % of drawn days: {drawn[0]:+.3f} to {drawn[2]:+.3f})"
    parts = [
        f"cost {ours.cost:.3f} instead of {theirs.cost:.3f} of all on demand",
        f"availability {ours.availability:.3%} instead of {theirs.availability:.3%}",
        f"J {ours.j - theirs.j:+.3f}{sure}",
    ]
    if ours.saving_usd_day is not None and theirs.saving_usd_day is not None:
        usd = ours.saving_usd_day - theirs.saving_usd_day
        parts.insert(1, f"{abs(usd):.2f} USD a day {'saved' if usd >= 0 else 'more'}")
    if ours.migrations is not None and theirs.migrations is not None:
        parts.append(f"{ours.migrations:.1f} migrations a day instead of {theirs.migrations:.1f}")
    for whose, result in (("its", ours), (f"that of {theirs.policy}", theirs)):
        if result.worst_day is not None:
            day = result.worst_day
            parts.append(
                f"{whose} worst day {day.begins:%Y-%m-%d} with J {day.j:.3f}, "
                f"{day.missing:.2%} missing"
            )
    return f"{ours.policy} beside {theirs.policy}: {'; '.join(parts)}"


def bootstrap(
    days: Sequence[Day], missing_cost: float, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """The 90 % interval of j over days drawn with replacement; None for fewer than four days."""
    if len(days) < 4:
        return None
    table = np.array(days)
    chosen = np.random.default_rng(seed).integers(0, len(days), (draws, len(days)))
    paid, short, needed = table[chosen].sum(axis=1).T
    low, high = np.quantile((paid + missing_cost * short) / needed, (0.05, 0.95))
    return float(low), float(high)


def better(
    ours: Sequence[Day],
    theirs: Sequence[Day],
    missing_cost: float,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float] | None:
    """Difference of j, ours less theirs, on the same drawn days: 5 %, median and 95 %.

    Raises:
        ValueError: the two runs do not have the same days.
    """
    if [one.needed for one in ours] != [one.needed for one in theirs]:
        raise ValueError("the two runs are not over the same days")
    if len(ours) < 4:
        return None
    a, b = np.array(ours), np.array(theirs)
    chosen = np.random.default_rng(seed).integers(0, len(ours), (draws, len(ours)))
    differences = (a - b)[chosen].sum(axis=1)
    needed = a[chosen, 2].sum(axis=1)
    gain = (differences[:, 0] + missing_cost * differences[:, 1]) / needed
    low, middle, high = np.quantile(gain, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def cost_at(points: Sequence[tuple[float, float]], most: float) -> float | None:
    """The least cost of these settings mixed in time so that no more than `most` is short.

    A policy that spends a share of the time in one setting and the rest in another has the mean
    of their figures, so the reachable points are the lower convex hull. None: none reaches it.

    Args:
        points: (what is short, cost) of each setting: a share of the replica-time, or of the time.
    """
    best: float | None = None
    for x, y in points:
        if x <= most and (best is None or y < best):
            best = y
    for x0, y0 in points:
        for x1, y1 in points:
            if x0 <= most < x1:
                mixed = y0 + (y1 - y0) * (most - x0) / (x1 - x0)
                best = mixed if best is None or mixed < best else best
    return best
