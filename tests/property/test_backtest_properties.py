"""What must hold of every policy on every market."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.backtest import Market, Orders, Policy, Setting, View, run
from arbiter.backtest.accounts import by_place
from arbiter.backtest.conditions import WARM_UP
from arbiter.backtest.generate import Recipe, generate
from arbiter.backtest.grid import Grid
from arbiter.backtest.markets import Change, checked
from arbiter.backtest.planned import Planned
from arbiter.backtest.policies import named
from arbiter.backtest.shake import Shaking, shaken
from arbiter.backtest.view import Factory
from arbiter.policy import Policy as Rules

POLICIES: dict[str, Factory] = {
    **{
        name: named(name)
        for name in (
            "on-demand", "single-zone", "even-spread", "round-robin", "spothedge:0", "spothedge:2",
            "spothedge:1:0.4", "skypilot:1", "arbiter",
        )
    },
    "planned": Planned(Rules()),
}  # fmt: skip
names = st.sampled_from(sorted(POLICIES))

markets = st.builds(
    generate,
    st.builds(
        Recipe,
        days=st.floats(0.15, 0.6),
        zones_per_region=st.sampled_from([(1,), (2,), (1, 1), (2, 1), (3, 2)]),
        up_h=st.floats(0.2, 6),
        down_h=st.floats(0.1, 4),
        age_shape=st.floats(0.5, 1.5),
        depth=st.integers(1, 4),
        shocks_per_day=st.floats(0, 8),
        price_step_h=st.floats(0.3, 6),
        price_step=st.floats(0, 0.5),
    ),
    st.integers(0, 10_000),
)
replicas = st.integers(1, 4)
cold_starts = st.sampled_from([0.0, 60.0, 180.0, 360.0])
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(markets, names, replicas, cold_starts, st.sampled_from([0.0, 120.0]), st.booleans())
def test_no_run_is_below_the_bound_and_both_accounts_agree(
    market: Market, name: str, count: int, cold: float, notice: float, fussy: bool
) -> None:
    """`run` raises where either fails."""
    result = run(
        market,
        POLICIES[name],
        replicas=count,
        cold_start_s=cold,
        notice_s=notice,
        refusal=0.3 if fussy else 0.0,
        with_bound=True,
    )
    assert result.bound is not None
    assert 0 < result.bound <= result.j + 1e-6
    assert 0 <= result.missing <= 1 - result.availability + 1e-12


@few
@given(markets, names, replicas, cold_starts, st.booleans())
def test_no_more_is_held_than_there_is_and_none_serves_before_it_is_ready(
    market: Market, name: str, count: int, cold: float, fussy: bool
) -> None:
    """Counted anew from every machine's life, tick by tick."""
    result = run(
        market, POLICIES[name], replicas=count, cold_start_s=cold, refusal=0.3 if fussy else 0.0
    )
    zones, ticks = len(market.zones), market.ticks
    held = by_place(result.lives, zones, ticks, ready=False)
    assert (held[:zones] <= Grid(market).available).all()
    serving = [0] * ticks
    for one in result.lives:
        assert one.ready_at >= one.launched + cold / market.tick_s
        for tick in range(one.ready_at, one.ended):
            serving[tick] += 1
    measured = serving[WARM_UP:]
    short = sum(max(0, count - ready) for ready in measured)
    assert result.missing == pytest.approx(short / (count * len(measured)))
    enough = sum(ready >= count for ready in measured)
    assert result.availability == pytest.approx(enough / len(measured))


@few
@given(markets, names, replicas, st.data())
def test_no_policy_is_told_of_what_comes_later(
    market: Market, name: str, count: int, data: st.DataObject
) -> None:
    """Another future: everything up to then is the same."""
    until = data.draw(st.integers(120, market.ticks - 1), "until")
    other = data.draw(markets, "another future")
    zones = len(market.zones)
    later = [
        Change(one.seconds + until * 60, one.zone % zones, one.available, one.micros)
        for one in other.changes
        if one.seconds + until * 60 < market.seconds
    ]
    unique = {(one.seconds, one.zone): one for one in later}
    before = [one for one in market.changes if one.seconds <= (until - 1) * 60]
    changed = replace(market, changes=tuple(sorted([*before, *unique.values()])))
    assert _history(market, name, count, until) == _history(changed, name, count, until)


@few
@given(markets, names, replicas)
def test_capacity_beyond_what_was_asked_for_is_not_seen(
    market: Market, name: str, count: int
) -> None:
    """Where more is given than anyone would ask for, how much more makes no difference."""
    asked = 3 * count + 10  # more than any of these policies ever holds in one zone
    wide = [one._replace(available=asked if one.available else 0) for one in market.changes]
    wider = [one._replace(available=9 * one.available) for one in wide]
    first = run(replace(market, changes=tuple(wide)), POLICIES[name], replicas=count)
    second = run(replace(market, changes=tuple(wider)), POLICIES[name], replicas=count)
    assert first.lives == second.lives


def _history(market: Market, name: str, count: int, until: int) -> list[tuple[object, ...]]:
    """Every launch and end before a tick."""
    lives = run(market, POLICIES[name], replicas=count).lives
    return [
        (one.id, one.zone, one.launched, one.ended if one.ended < until else None)
        for one in lives
        if one.launched < until
    ]


class Sleepless:
    """Asked at every tick, whatever the policy inside said of when it wants to be."""

    def __init__(self, inside: Policy) -> None:
        self._inside = inside
        self.moved_at = getattr(inside, "moved_at", None)

    def tick(self, view: View) -> Orders:
        yield from self._inside.tick(view)
        return None


@few
@given(markets, names, replicas, cold_starts)
def test_passing_over_ticks_alters_no_figure(
    market: Market, name: str, count: int, cold: float
) -> None:
    def sleepless(setting: Setting) -> Policy:
        return Sleepless(POLICIES[name](setting))

    quick = run(market, POLICIES[name], replicas=count, cold_start_s=cold, label="x")
    slow = run(market, sleepless, replicas=count, cold_start_s=cold, label="x")
    assert quick == slow


@few
@given(markets, st.integers(0, 1000))
def test_a_shaken_market_is_still_one_and_the_same_for_the_same_seed(
    market: Market, seed: int
) -> None:
    disturbed = shaken(market, seed)
    assert checked(disturbed, "shaken") == disturbed == shaken(market, seed)
    assert 0.9 * market.seconds - 60 <= disturbed.seconds <= market.seconds
    assert all(0 <= one.seconds < disturbed.seconds for one in disturbed.changes)
    assert list(disturbed.changes) == sorted(disturbed.changes)


@few
@given(markets, st.integers(0, 1000))
def test_other_names_alone_do_not_change_the_bound(market: Market, seed: int) -> None:
    how = Shaking(offset=0, jitter_s=0, scale=0)
    disturbed = shaken(market, seed, how)
    together = sorted(map(len, _by_region(market)))
    assert sorted(map(len, _by_region(disturbed))) == together
    first, second = (run(one, "omniscient") for one in (market, disturbed))
    assert first.j == pytest.approx(second.j, abs=1e-6)


def _by_region(market: Market) -> list[list[str]]:
    regions = {zone.region for zone in market.zones}
    return [[zone.name for zone in market.zones if zone.region == region] for region in regions]
