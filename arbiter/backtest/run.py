"""One run: a policy on a market, accounted for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache

from arbiter.backtest import accounts
from arbiter.backtest.bound import Bound, bound
from arbiter.backtest.conditions import WARM_UP, Conditions, Demand, demand
from arbiter.backtest.engine import Engine, Played
from arbiter.backtest.grid import Grid
from arbiter.backtest.markets import Market
from arbiter.backtest.policies import OMNISCIENT, named
from arbiter.backtest.score import Result, worst_day
from arbiter.backtest.view import Factory, Setting
from arbiter.money import Price

SLACK = 1e-6
"""By how much a run may seem to be below the bound: the solver's own tolerance."""


class BoundBroken(AssertionError):
    """A policy seems to beat the bound that none can: the engine or the bound has a mistake."""


def run(
    market: Market,
    policy: str | Factory,
    *,
    replicas: Demand = 1,
    cold_start_s: float = 360.0,
    missing_cost: float = 20.0,
    cold_starts_s: Mapping[str, float] | None = None,
    notice_s: float = 0.0,
    refusal: float = 0.0,
    launch_usd: Decimal = Decimal(0),
    warm_up: int = WARM_UP,
    seed: int = 0,
    with_bound: bool = False,
    label: str | None = None,
) -> Result:
    """Run a policy on a market.

    Args:
        policy: a name of `arbiter.backtest.policies`, or what makes one for a Setting.
        replicas: how many are asked for: a number, or (second, number) steps from second 0.
        cold_start_s: seconds from launch to ready.
        missing_cost: V of J(V) = cost + V x missing.
        cold_starts_s: the cold start of single places: zone, region or "on-demand" -> seconds.
        notice_s: seconds of warning before a machine is taken away.
        refusal: share of launches refused although the zone has room; drawn from `seed`.
        launch_usd: what every launch costs besides its time (egress, the model's download).
        warm_up: ticks at the beginning that are not measured.
        with_bound: also compute the omniscient bound, and check that the run is not below it.
        label: the policy's name in the result; needed for none.

    Raises:
        ArbiterError: the conditions do not fit the market, or the policy is unknown or misbehaves.
    """
    conditions = Conditions(
        cold_start_s,
        dict(cold_starts_s or {}),
        missing_cost,
        warm_up,
        notice_s,
        refusal,
        Price.of(launch_usd).micros,
        seed,
    )
    if policy == OMNISCIENT:
        return omniscient(market, replicas, conditions)
    factory = named(policy) if isinstance(policy, str) else policy
    name = label or (policy if isinstance(policy, str) else type(policy).__name__)
    result = play(market, factory, name, replicas, conditions)
    return bounded(result, least(market, replicas, conditions)) if with_bound else result


def play(
    market: Market, factory: Factory, name: str, replicas: Demand, conditions: Conditions
) -> Result:
    """One run under these conditions, its two accounts compared."""
    setting = conditions.setting(market)
    steps = demand(replicas, market)
    grid = grid_of(market)
    policy = factory(setting)
    played = Engine(grid, policy, setting, steps, conditions).play()
    warm_up, fee = conditions.warm_up, conditions.launch_micros
    accounts.agree(grid, played.lives, played.totals, steps, warm_up, fee)
    moved = getattr(policy, "moved_at", None)
    return _result(market, name, played, steps, conditions, moved)


@lru_cache(maxsize=4)
def grid_of(market: Market) -> Grid:
    """The market's grid, made once for the runs on it."""
    return Grid(market)


def omniscient(market: Market, replicas: Demand, conditions: Conditions) -> Result:
    """The bound in the place of a policy: its figures are of the optimum, in fractions of machines.

    Raises:
        ArbiterError: the conditions do not fit the market, or the solver is missing.
    """
    steps = demand(replicas, market)
    setting = conditions.setting(market)
    best = _bound(market, setting, steps, conditions.warm_up)
    measured = (market.ticks - conditions.warm_up) * market.tick_s / 86_400
    return Result(
        market=market.name,
        policy=OMNISCIENT,
        replicas=max(count for _, count in steps),
        cold_start_s=conditions.cold_start_s,
        missing_cost=conditions.missing_cost,
        cost=best.cost,
        availability=best.availability,
        missing=best.missing,
        j=best.j,
        launches=best.launches / measured,
        preemptions=None,
        on_demand_share=best.on_demand_share,
        bound=best.j,
        notes=(*market.notes, *_notes(market, steps)),
    )


def bounded(result: Result, value: float) -> Result:
    """The result with the bound beside it.

    Raises:
        BoundBroken: the run is below it.
    """
    if result.j < value - SLACK:
        raise BoundBroken(
            f"{result.policy} on {result.market} comes to {result.j:.6f}, "
            f"below the bound of {value:.6f}"
        )
    return replace(result, bound=value)


def least(market: Market, replicas: Demand, conditions: Conditions) -> float:
    """The omniscient bound on J.

    Raises:
        ArbiterError: the conditions do not fit the market, or the solver is missing.
    """
    steps = demand(replicas, market)
    return _bound(market, conditions.setting(market), steps, conditions.warm_up).j


@lru_cache(maxsize=64)
def _bound(
    market: Market, setting: Setting, steps: tuple[tuple[int, int], ...], warm_up: int
) -> Bound:
    """One programme serves every policy under the same conditions."""
    return bound(grid_of(market), setting, steps, warm_up)


def _result(
    market: Market,
    name: str,
    played: Played,
    steps: tuple[tuple[int, int], ...],
    conditions: Conditions,
    moved_at: Sequence[int] | None,
) -> Result:
    totals = played.totals
    fee, warm_up = conditions.launch_micros, conditions.warm_up
    per_tick = totals.spot_micros + totals.on_demand_micros
    paid = per_tick + totals.launch_micros * 3600 / market.tick_s
    cost = paid / (totals.needed * market.on_demand_micros)
    missing = totals.short / totals.needed
    a_day = 86_400 / (totals.ticks * market.tick_s)
    held = totals.spot_held + totals.on_demand_held
    days = accounts.days(grid_of(market), played.lives, steps, warm_up, fee)
    moves = None if moved_at is None else sum(tick >= warm_up for tick in moved_at)
    hours_a_day = market.tick_s / 3600 * a_day
    return Result(
        market=market.name,
        policy=name,
        replicas=max(count for _, count in steps),
        cold_start_s=conditions.cold_start_s,
        missing_cost=conditions.missing_cost,
        cost=cost,
        availability=totals.met / totals.ticks,
        missing=missing,
        j=cost + conditions.missing_cost * missing,
        launches=totals.launches * a_day,
        preemptions=totals.preemptions * a_day,
        on_demand_share=totals.on_demand_held / held if held else 0.0,
        refused=totals.refused * a_day,
        probes=totals.probes * a_day,
        days=days,
        lives=played.lives,
        notes=(*market.notes, *_notes(market, steps)),
        saving_usd_day=(totals.needed * market.on_demand_micros - paid) / 1e6 * hours_a_day,
        migrations=None if moves is None else moves * a_day,
        worst_day=worst_day(
            days, conditions.missing_cost, market.start + timedelta(seconds=warm_up * market.tick_s)
        ),
    )


def _notes(market: Market, steps: tuple[tuple[int, int], ...]) -> list[str]:
    """What these figures cannot say."""
    most = int(grid_of(market).available.sum(axis=0).max())
    asked = max(count for _, count in steps)
    notes = []
    if most < asked:
        notes.append(
            f"all zones together never gave more than {most} machines and {asked} replicas are "
            "asked for: the rest can only be on demand, and what more might have been given was "
            "not recorded"
        )
    if market.days < 4:
        notes.append(
            f"the market lasts {market.days:.1f} days: too few for an interval of its figures"
        )
    return notes
