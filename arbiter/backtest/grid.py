"""A market on its grid of ticks: lists for the engine, arrays for the accounts and the bound."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arbiter.backtest.markets import Market

Whole = NDArray[np.int64]


class Step(NamedTuple):
    """From this tick on: the zone's capacity and its price in micros."""

    tick: int
    zone: int
    available: int
    micros: int


class Grid:
    """A market as a function of the tick.

    A change counts from the first tick that begins at or after it; of several within one tick the
    last counts.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.ticks = market.ticks
        self.steps = _steps(market)

    @cached_property
    def available(self) -> Whole:
        """Capacity by zone and tick."""
        return self._filled(2)

    @cached_property
    def micros(self) -> Whole:
        """Spot price by zone and tick, in millionths of a USD per hour."""
        return self._filled(3)

    @cached_property
    def paid_before(self) -> Whole:
        """By zone and tick: what one machine held from tick 0 up to this one has cost.

        In millionths of a USD per hour, times ticks. One column more than ticks.
        """
        return np.pad(np.cumsum(self.micros, axis=1), ((0, 0), (1, 0)))

    def _filled(self, field: int) -> Whole:
        grid: Whole = np.empty((len(self.market.zones), self.ticks), dtype=np.int64)
        for zone, row in enumerate(grid):
            own = [step for step in self.steps if step.zone == zone]
            begins = np.array([step.tick for step in own] + [self.ticks])
            row[:] = np.repeat([step[field] for step in own], np.diff(begins))
        return grid


def _steps(market: Market) -> tuple[Step, ...]:
    """The changes by tick, without those that change nothing."""
    found: dict[tuple[int, int], Step] = {}
    for change in market.changes:
        tick = -(-change.seconds // market.tick_s)
        if tick < market.ticks:
            found[tick, change.zone] = Step(tick, change.zone, change.available, change.micros)
    steps: list[Step] = []
    standing: dict[int, tuple[int, int]] = {}
    for _, step in sorted(found.items()):
        if standing.get(step.zone) != step[2:]:
            steps.append(step)
            standing[step.zone] = (step.available, step.micros)
    return tuple(steps)
