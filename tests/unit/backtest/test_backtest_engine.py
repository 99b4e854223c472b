"""The serving model: who is taken when, what is paid, and what a policy can see."""

from __future__ import annotations

import gc
from decimal import Decimal

import pytest
from backtest_markets import Scripted, market

from arbiter.backtest import Buy, End, Instance, Launch, Orders, Probe, Setting, View, run
from arbiter.backtest.accounts import AccountsDiffer, agree
from arbiter.backtest.conditions import Conditions, ConditionsError, demand
from arbiter.backtest.engine import Engine, PolicyError
from arbiter.backtest.grid import Grid
from arbiter.backtest.markets import Market
from arbiter.errors import ArbiterError

D = 6


def test_one_spot_machine_is_paid_from_launch_to_end_and_serves_a_cold_start_later() -> None:
    where = market({"a": [(0, 1)]}, ticks=620)
    result = run(where, Scripted({120: [Launch(0)], 320: [End(1)]}), replicas=1)
    assert result.cost == pytest.approx(200 * 0.4 / 500)
    assert result.missing == pytest.approx(1 - (200 - D) / 500)
    assert result.availability == pytest.approx((200 - D) / 500)
    assert result.j == pytest.approx(result.cost + 20 * result.missing)


def test_on_demand_always_launches_and_costs_its_price() -> None:
    where = market({"a": [(0, 0)]}, ticks=620)
    result = run(where, Scripted({0: [Buy(), Buy()]}), replicas=2)
    assert (result.cost, result.missing, result.availability) == (1, 0, 1)
    assert result.on_demand_share == 1


def test_the_price_is_that_of_each_tick() -> None:
    where = market({"a": [(0, 1, 100_000), (220, 1, 700_000)]}, ticks=320)
    result = run(where, Scripted({0: [Launch(0)]}))
    assert result.cost == pytest.approx((100 * 0.1 + 100 * 0.7) / 200)


def test_the_excess_is_taken_oldest_first_before_the_policy_is_asked() -> None:
    script = Scripted({0: [Launch(0)], 1: [Launch(0)], 2: [Launch(0)]})
    run(market({"a": [(0, 3), (200, 1)]}), script)
    view = next(one for one in script.views if one.tick == 200)
    assert [one.id for one in view.lost] == [1, 2]
    assert [one.id for one in view.instances] == [3]
    assert all(not one.lost for one in script.views if one.tick != 200)


def test_a_launch_is_refused_where_no_more_is_given_and_the_others_stand() -> None:
    script = Scripted({0: [Launch(0), Launch(0), Launch(1)]})
    run(market({"a": [(0, 1)], "b": [(0, 1)]}), script)
    first, refused, third = script.outcomes
    assert isinstance(first, Instance)
    assert refused is None
    assert isinstance(third, Instance)
    assert (third.zone, third.launched, third.ready_at) == (1, 0, D)


def test_after_three_refusals_a_tick_is_over_for_attempts() -> None:
    where = market({"a": [(0, 0)]})
    allowed = Scripted({0: [Launch(0), Probe(0), Launch(0), Buy()]})
    assert run(where, allowed).refused is not None
    with pytest.raises(PolicyError, match="went on after 3 refusals in tick 0"):
        run(where, Scripted({0: [Launch(0)] * 4}))


def test_attempts_that_a_policy_gives_itself_do_not_count() -> None:
    class Cheat:
        def __init__(self, setting: Setting) -> None:
            del setting

        def tick(self, view: View) -> Orders:
            while True:
                yield Launch(0)
                view._attempts.left = 3

    with pytest.raises(PolicyError, match="went on"):
        run(market({"a": [(0, 0)]}), Cheat)


def test_a_probe_tells_and_costs_nothing_but_is_counted() -> None:
    script = Scripted({0: [Probe(0)], 200: [Launch(0), Probe(0)]})
    result = run(market({"a": [(0, 1)]}, ticks=1560), script)
    assert script.outcomes[0] is True
    assert script.outcomes[2] is False
    assert result.probes == 1  # one day is measured, and one probe fell into it
    assert len(result.lives) == 1


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ([End(7)], "ended machine 7 in tick 5: it has none"),
        ([Launch(3)], "named zone 3 in tick 5"),
        (["jump"], "what is no order: 'jump'"),
    ],
)
def test_what_no_policy_may_do_is_one_clear_line(orders: list[object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        run(market({"a": [(0, 1)]}), Scripted({5: orders}))


def test_a_policy_that_never_ends_its_tick_is_stopped() -> None:
    class Endless:
        def __init__(self, setting: Setting) -> None:
            del setting

        def tick(self, view: View) -> Orders:
            while True:
                got = yield Buy()
                assert isinstance(got, Instance)
                yield End(got.id)

    with pytest.raises(PolicyError, match="orders in tick 0"):
        run(market({"a": [(0, 1)]}), Endless)


def test_nothing_that_a_policy_holds_leads_to_the_market() -> None:
    """Neither its setting nor its view, by any chain of references between objects."""
    script = Scripted({0: [Launch(0)], 300: [Launch(0)]})
    run(market({"a": [(0, 3), (200, 1)], "b": [(0, 2)]}), script)
    secret = (Market, Grid, Engine, Conditions)
    reached: dict[int, object] = {}
    waiting: list[object] = [script.setting, *script.views]
    while waiting:
        one = waiting.pop()
        if id(one) in reached or isinstance(one, type) or type(one).__name__ == "module":
            continue
        reached[id(one)] = one
        assert not isinstance(one, secret)
        waiting += gc.get_referents(one)
    assert len(reached) > 20


def test_notice_comes_so_much_before_the_loss() -> None:
    script = Scripted({0: [Launch(0), Launch(0)]})
    run(market({"a": [(0, 2), (200, 1)]}), script, notice_s=120)
    by_tick = {view.tick: view for view in script.views}
    assert [one.lost_at for one in by_tick[197].instances] == [None, None]
    assert [one.lost_at for one in by_tick[198].instances] == [200, None]
    assert [one.id for one in by_tick[200].lost] == [1]


def test_cold_starts_of_single_places() -> None:
    where = market({"a": [(0, 1)], "b": [(0, 1)]}, regions={"a": "near", "b": "far"})
    script = Scripted({0: [Launch(0), Launch(1), Buy()]})
    run(where, script, cold_start_s=360, cold_starts_s={"a": 61, "far": 600, "on-demand": 0})
    ready = [one.ready_at for one in script.outcomes if isinstance(one, Instance)]
    assert ready == [2, 10, 0]


def test_refusals_by_chance_are_the_same_for_everyone_and_each_seed() -> None:
    where = market({"a": [(0, 9)]}, ticks=1000)
    script = {tick: [Launch(0)] for tick in range(0, 1000, 10)}

    def refused(seed: int) -> list[bool]:
        scripted = Scripted(script)
        run(where, scripted, refusal=0.5, seed=seed)
        return [outcome is None for outcome in scripted.outcomes][:9]

    assert refused(1) == refused(1)
    assert {tuple(refused(seed)) for seed in range(5)} != {tuple(refused(1))}


def test_what_a_launch_costs_is_added() -> None:
    where = market({"a": [(0, 1)]}, ticks=720)
    free = run(where, Scripted({200: [Launch(0)]}))
    paid = run(where, Scripted({200: [Launch(0)]}), launch_usd=Decimal("2"))
    assert paid.cost - free.cost == pytest.approx(2 / 10)  # ten hours at one USD
    assert sum(day.paid for day in paid.days) / 600 == pytest.approx(paid.cost)


def test_replicas_over_time() -> None:
    where = market({"a": [(0, 0)]}, ticks=720)
    result = run(where, "on-demand", replicas=[(0, 1), (420 * 60, 3)])
    assert result.replicas == 3
    # For D ticks of 600, two of three are not ready yet.
    assert result.missing == pytest.approx(2 * D / (300 + 900))
    assert result.cost == pytest.approx(1)


@pytest.mark.parametrize("steps", [[], [(60, 1)], [(0, 1), (0, 2)], [(0, 1), (600, 0)]])
def test_replicas_over_time_must_begin_at_0_and_be_in_order(steps: list[tuple[float, int]]) -> None:
    with pytest.raises(ConditionsError):
        demand(steps, market({"a": [(0, 0)]}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cold_start_s": -1},
        {"missing_cost": -1},
        {"refusal": 1.0},
        {"notice_s": 1e9},
        {"cold_starts_s": {"mars": 60}},
        {"launch_usd": Decimal(-1)},
        {"replicas": 0},
        {"warm_up": 10_000},
    ],
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ArbiterError):
        run(market({"a": [(0, 1)]}), "on-demand", **wrong)  # type: ignore[arg-type]


def test_an_hour_of_market_is_too_short_to_measure() -> None:
    with pytest.raises(ConditionsError, match="lasts 60 ticks and the first 120 are warm-up"):
        run(market({"a": [(0, 1)]}, ticks=60), "on-demand")


def test_more_replicas_than_all_zones_ever_gave_are_told() -> None:
    result = run(market({"a": [(0, 2)], "b": [(0, 1)]}), "spothedge:0", replicas=5)
    assert any("never gave more than 3 machines" in note for note in result.notes)
    assert result.missing == 0


def test_the_second_account_notices_what_the_first_forgot() -> None:
    where = market({"a": [(0, 2), (300, 0)]})
    grid, conditions, steps = Grid(where), Conditions(), demand(1, where)
    policy = Scripted({0: [Launch(0), Buy()], 400: [Launch(0)]})
    engine = Engine(grid, policy, conditions.setting(where), steps, conditions)
    played = engine.play()
    agree(grid, played.lives, played.totals, steps, 120, 0)
    played.totals.spot_micros += 500
    with pytest.raises(AccountsDiffer, match="spot_micros"):
        agree(grid, played.lives, played.totals, steps, 120, 0)
