"""The omniscient bound: exact where it can be worked out by hand, and never above anyone."""

from __future__ import annotations

import pytest
from backtest_markets import Scripted, market
from checkout import REPOSITORY

from arbiter.backtest import End, Launch, load_market, run
from arbiter.backtest.bound import bound
from arbiter.backtest.conditions import Conditions, demand
from arbiter.backtest.grid import Grid
from arbiter.backtest.markets import Market
from arbiter.backtest.run import BoundBroken, bounded

TRACES = REPOSITORY.parent / "shared" / "data" / "markets"
MEASURED = [
    ("aws-v100-3zones-cap4-2023", 1, 0.377),
    ("aws-v100-3zones-cap4-2023", 4, 0.390),
    ("aws-v100-3zones-cap4-2023", 8, 0.523),
    ("gcp-a100-6zones-cap4", 1, 0.333),
    ("gcp-a100-6zones-cap4", 4, 0.345),
]


def least(where: Market, replicas: int = 1, missing_cost: float = 20, **more: object) -> float:
    conditions = Conditions(missing_cost=missing_cost)
    steps = demand(replicas, where)
    return bound(Grid(where), conditions.setting(where), steps, 120, **more).j  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "replicas", "measured"), MEASURED)
def test_it_comes_to_what_others_measured(name: str, replicas: int, measured: float) -> None:
    if not (TRACES / name).is_dir():
        pytest.skip("no shared data beside the checkout")
    found = least(load_market(TRACES / name), replicas)
    assert found == pytest.approx(measured, abs=0.005)


def test_with_room_for_all_it_is_the_price() -> None:
    assert least(market({"a": [(0, 9)]}), 3) == pytest.approx(0.4)


def test_without_room_it_is_on_demand() -> None:
    assert least(market({"a": [(0, 0)]}), 2) == pytest.approx(1)


def test_a_gap_is_bridged_on_demand_that_was_launched_in_time() -> None:
    where = market({"a": [(0, 1), (300, 0), (400, 1)]})
    spot = (300 - 120) + (600 - 400)  # paid again as soon as there is room, ready 6 ticks later
    on_demand = 6 + 100 + 6
    assert least(where) == pytest.approx((spot * 0.4 + on_demand) / 480)


def test_a_short_gap_is_left_open_where_missing_is_cheap() -> None:
    where = market({"a": [(0, 1), (300, 0), (302, 1)]})
    bridged, open_ = least(where, missing_cost=20), least(where, missing_cost=0.5)
    assert open_ < bridged
    assert least(where, missing_cost=0.5, never_short=True) == pytest.approx(bridged)


def test_windows_only_lower_it() -> None:
    where = market({"a": [(0, 1), (300, 0), (400, 1)], "b": [(0, 0), (250, 1), (500, 0)]})
    assert least(where, window=60) <= least(where, window=480) + 1e-9


def test_omniscient_as_a_policy_is_the_bound_itself() -> None:
    where = market({"a": [(0, 1), (300, 0), (400, 1)]})
    result = run(where, "omniscient")
    assert result.j == result.bound == pytest.approx(least(where))
    assert result.preemptions is None
    assert result.availability == 1


def test_foresight_written_down_by_hand_reaches_it_but_not_below() -> None:
    where = market({"a": [(0, 1, 300_000), (350, 0, 300_000)], "b": [(0, 1, 500_000)]})
    script = Scripted({0: [Launch(0)], 344: [Launch(1)], 350: []})
    result = run(where, script, with_bound=True)
    assert result.bound is not None
    assert result.missing == 0
    assert result.j == pytest.approx(result.bound, abs=1e-9)


def test_a_run_below_the_bound_is_never_reported() -> None:
    result = run(market({"a": [(0, 1)]}), Scripted({0: [Launch(0)], 599: [End(1)]}))
    with pytest.raises(BoundBroken, match="below the bound"):
        bounded(result, result.j + 0.01)
