"""The conditions of a run: what is asked of the service, and how machines behave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from arbiter.backtest.markets import Market
from arbiter.backtest.view import Setting
from arbiter.errors import ArbiterError

WARM_UP = 120
"""Ticks at the beginning that are run and not measured."""

ON_DEMAND = "on-demand"
"""The name of the on-demand place among cold starts."""

Demand = int | Sequence[tuple[float, int]]
"""Replicas: a number, or (second, number) from which it holds, the first at second 0."""


class ConditionsError(ArbiterError):
    """The conditions of a backtest do not fit each other or the market."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How machines behave in a run.

    Attributes:
        cold_start_s: seconds from launch to ready; counted in whole ticks, rounded up.
        cold_starts_s: the same for single places: zone, region or "on-demand" -> seconds.
        missing_cost: V of J(V): on-demand hours that one missing replica-hour costs.
        warm_up: ticks that are run and not measured.
        notice_s: seconds of warning before a machine is taken; 0 is none.
        refusal: share of spot launches that are refused although the zone has room.
        launch_micros: paid once per launch (egress, the model's download), millionths of a USD.
        seed: of the refusals.
    """

    cold_start_s: float = 360.0
    cold_starts_s: Mapping[str, float] = field(default_factory=dict)
    missing_cost: float = 20.0
    warm_up: int = WARM_UP
    notice_s: float = 0.0
    refusal: float = 0.0
    launch_micros: int = 0
    seed: int = 0

    def setting(self, market: Market) -> Setting:
        """What a policy is told of them on this market.

        Raises:
            ConditionsError: a figure is out of its range, or a place is not in the market.
        """
        self._check(market)
        spans = [
            self.cold_starts_s.get(
                zone.name, self.cold_starts_s.get(zone.region, self.cold_start_s)
            )
            for zone in market.zones
        ]
        bought = self.cold_starts_s.get(ON_DEMAND, self.cold_start_s)
        return Setting(
            zones=market.zones,
            cold_starts=tuple(_ticks(span, market) for span in spans),
            on_demand_cold_start=_ticks(bought, market),
            on_demand_micros=market.on_demand_micros,
            tick_s=market.tick_s,
            missing_cost=self.missing_cost,
            notice=_ticks(self.notice_s, market),
        )

    def _check(self, market: Market) -> None:
        spans = {"cold start": self.cold_start_s, "notice": self.notice_s, **self.cold_starts_s}
        for name, span in spans.items():
            if not 0 <= span <= 86_400:
                raise ConditionsError(f"{name}: {span:g} s is not from 0 seconds to a day")
        places = {name for zone in market.zones for name in zone} | {ON_DEMAND}
        unknown = sorted(set(self.cold_starts_s) - places)
        if unknown:
            raise ConditionsError(
                f"{market.name} has no place {unknown[0]!r}",
                f"it has {', '.join(sorted(places))}",
            )
        if not (0 <= self.missing_cost < math.inf):
            raise ConditionsError(f"the missing cost {self.missing_cost:g} is not 0 or above")
        if not 0 <= self.refusal < 1:
            raise ConditionsError(
                f"the share of refusals {self.refusal:g} is not from 0 to below 1"
            )
        if self.launch_micros < 0 or self.warm_up < 0:
            raise ConditionsError("neither the price of a launch nor the warm-up may be negative")
        if market.ticks <= self.warm_up:
            raise ConditionsError(
                f"{market.name} lasts {market.ticks} ticks and the first {self.warm_up} are "
                "warm-up: nothing is left to measure",
                "take a longer market",
            )


def _ticks(seconds: float, market: Market) -> int:
    return math.ceil(seconds / market.tick_s - 1e-9)


def demand(replicas: Demand, market: Market) -> tuple[tuple[int, int], ...]:
    """The number of replicas as (tick, number) steps.

    Raises:
        ConditionsError: a number is not from 1 to 10,000, or the steps are not in order from 0.
    """
    steps = [(0.0, replicas)] if isinstance(replicas, int) else list(replicas)
    ticks = [math.ceil(second / market.tick_s - 1e-9) for second, _ in steps]
    if not ticks or ticks[0] != 0 or any(b <= a for a, b in pairwise(ticks)):
        raise ConditionsError("replicas over time must begin at second 0 and be in order")
    for _, count in steps:
        if not 1 <= count <= 10_000:
            raise ConditionsError(f"{count} replicas: not from 1 to 10,000")
    return tuple(
        (tick, count) for tick, (_, count) in zip(ticks, steps, strict=True) if tick < market.ticks
    )
