"""The second account: everything anew from the list of machines, without the engine's sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arbiter.backtest.engine import Life, Totals
from arbiter.backtest.grid import Grid, Whole

TOLERANCE = 1e-6


class Day(NamedTuple):
    """One day of a run, counted from the end of the warm-up.

    Attributes:
        paid: on-demand machine-ticks that what was paid would have bought.
        short, needed: replica-ticks missing, and asked for.
    """

    paid: float
    short: int
    needed: int


class AccountsDiffer(AssertionError):
    """The two accounts of a run do not agree: the engine has a mistake."""


def wanted(steps: Sequence[tuple[int, int]], ticks: int) -> Whole:
    """Replicas asked for by tick."""
    begins = np.array([tick for tick, _ in steps] + [ticks])
    return np.repeat(np.array([count for _, count in steps], dtype=np.int64), np.diff(begins))


def by_place(lives: Sequence[Life], zones: int, ticks: int, *, ready: bool) -> Whole:
    """Machines by zone and tick, and in the last row those on demand: held, or only ready ones."""
    change = np.zeros((zones + 1, ticks + 1), dtype=np.int64)
    if lives:
        rows = np.array([zones if one.zone is None else one.zone for one in lives])
        begin = np.array([one.ready_at if ready else one.launched for one in lives])
        end = np.array([one.ended for one in lives])
        begin = np.minimum(begin, end)
        np.add.at(change, (rows, begin), 1)
        np.add.at(change, (rows, end), -1)
    return np.cumsum(change, axis=1)[:, :ticks]


def agree(
    grid: Grid,
    lives: Sequence[Life],
    totals: Totals,
    demand: Sequence[tuple[int, int]],
    warm_up: int,
    launch_micros: int,
) -> None:
    """Check the engine's sums against the list of machines.

    Raises:
        AccountsDiffer: by more than a millionth.
    """
    zones, od = len(grid.market.zones), grid.market.on_demand_micros
    spot = bought = 0
    for one in lives:
        begin, end = max(one.launched, warm_up), max(one.ended, warm_up)
        if one.zone is None:
            bought += (end - begin) * od
        else:
            row = grid.paid_before[one.zone]
            spot += int(row[end] - row[begin])
    ready = by_place(lives, zones, grid.ticks, ready=True).sum(axis=0)[warm_up:]
    needed = wanted(demand, grid.ticks)[warm_up:]
    measured = [one for one in lives if one.launched >= warm_up]
    pairs = {
        "spot_micros": (totals.spot_micros, spot),
        "on_demand_micros": (totals.on_demand_micros, bought),
        "launch_micros": (totals.launch_micros, len(measured) * launch_micros),
        "launches": (totals.launches, len(measured)),
        "preemptions": (
            totals.preemptions,
            sum(one.lost and one.ended >= warm_up for one in lives),
        ),
        "short": (totals.short, int(np.maximum(needed - ready, 0).sum())),
        "needed": (totals.needed, int(needed.sum())),
        "met": (totals.met, int((ready >= needed).sum())),
    }
    for name, (going, listed) in pairs.items():
        if abs(going - listed) > TOLERANCE * max(1, abs(listed)):
            raise AccountsDiffer(f"{name}: {going} as the run went, {listed} from its machines")


def days(
    grid: Grid,
    lives: Sequence[Life],
    demand: Sequence[tuple[int, int]],
    warm_up: int,
    launch_micros: int,
) -> tuple[Day, ...]:
    """The run by days of 24 hours after the warm-up; the last may be shorter."""
    zones, od = len(grid.market.zones), grid.market.on_demand_micros
    held = by_place(lives, zones, grid.ticks, ready=False)
    ready = by_place(lives, zones, grid.ticks, ready=True).sum(axis=0)
    paid: NDArray[np.float64] = (held[:zones] * grid.micros).sum(axis=0) / od + held[zones]
    for one in lives:
        if launch_micros:
            paid[one.launched] += launch_micros * 3600 / grid.market.tick_s / od
    needed = wanted(demand, grid.ticks)
    short = np.maximum(needed - ready, 0)
    cuts = range(warm_up, grid.ticks, 86_400 // grid.market.tick_s)
    return tuple(
        Day(float(a), int(b), int(c))
        for a, b, c in zip(
            np.add.reduceat(paid, cuts),
            np.add.reduceat(short, cuts),
            np.add.reduceat(needed, cuts),
            strict=True,
        )
    )
