"""The next step, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from arbiter.spot.beliefs import HOUR, Beliefs, Event, Happened, learn, with_goal
from arbiter.spot.decide import Step, next_step
from arbiter.spot.goal import Goal
from arbiter.spot.probes import probes, wait_s
from arbiter.spot.situation import ON_DEMAND, Held, Knobs, Offered, Situation, Tuning

NOW = 1_700_000_000.0
COLD_H = 0.1
CHEAP = Offered("cheap", "west", 0.3, COLD_H)
DEAR = Offered("dear", "west", 0.6, COLD_H)
FAR = Offered("far", "east", 0.35, COLD_H)


def up(*pools: Offered, hours: float = 40.0) -> Beliefs:
    """Pools that have been open for so long."""
    events = [Event(NOW - hours * HOUR, one.name, one.region, Happened.REFUSED) for one in pools]
    events += [Event(NOW - hours * HOUR, one.name, one.region, Happened.GAVE) for one in pools]
    events += [Event(NOW, one.name, one.region, Happened.STANDS) for one in pools]
    return learn(Beliefs(), events)


def situation(
    held: Sequence[Held] = (),
    offered: Sequence[Offered] = (CHEAP, DEAR),
    beliefs: Beliefs | None = None,
    replicas: int = 1,
    **other: object,
) -> Situation:
    known = up(*offered) if beliefs is None else beliefs
    plain = Situation(NOW, replicas, Knobs(), COLD_H, offered, held, known)
    return replace(plain, **other)  # type: ignore[arg-type]


def done(step: Step | None) -> tuple[str, str | None] | None:
    return step and (step.kind, step.pool)


def ready(id_: int, pool: str | None) -> Held:
    return Held(id_, pool, ready=True)


def test_the_first_machine_is_launched_where_it_is_cheapest() -> None:
    assert done(next_step(situation())) == ("launch", "cheap")
    assert done(next_step(situation(), frozenset({"cheap"}))) == ("launch", "dear")


def test_a_pool_that_nobody_can_watch_is_judged_by_a_stay_there() -> None:
    """Its losses of the next minutes would be too many, and always will be: no one sees it age."""
    slow = CHEAP._replace(cold_h=0.3)
    bought = situation([ready(1, None)], [slow], Beliefs(), on_demand_cold_h=0.3, probing=False)
    assert done(next_step(bought)) == ("launch", "cheap")
    one_moment = Tuning(unseen_stay_h=0.0)
    assert next_step(replace(bought, tuning=one_moment)) is None


def test_a_pool_that_was_full_lately_is_not_judged_by_a_stay() -> None:
    slow = CHEAP._replace(cold_h=0.3)
    full = learn(Beliefs(), [Event(NOW - 2 * HOUR, "cheap", "west", Happened.REFUSED)])
    bought = situation([ready(1, None)], [slow], full, on_demand_cold_h=0.3, probing=False)
    assert next_step(bought) is None


def test_a_young_cheap_pool_loses_against_an_old_one_that_is_a_little_dearer() -> None:
    beliefs = learn(up(FAR), [*(
        Event(NOW, "cheap", "west", kind) for kind in (Happened.REFUSED, Happened.GAVE)
    )])  # fmt: skip
    assert done(next_step(situation(offered=(CHEAP, FAR), beliefs=beliefs))) == ("launch", "far")


def test_where_spot_is_refused_or_not_offered_machines_are_bought() -> None:
    assert done(next_step(situation(offered=()))) == ("buy", None)
    everything = frozenset({"cheap", "dear"})
    assert done(next_step(situation(), everything)) == ("buy", None)
    assert next_step(situation(on_demand=False), everything) is None


def test_nothing_is_done_where_all_is_well() -> None:
    assert next_step(situation([ready(1, "cheap")])) is None


def test_moving_is_make_before_break() -> None:
    before = [ready(1, "dear")]
    step = next_step(situation(before))
    assert done(step) == ("launch", "cheap")
    assert step is not None
    assert step.why.replaces == "dear"
    started = [*before, Held(2, "cheap", ready=False)]
    assert next_step(situation(started)) is None
    step = next_step(situation([*before, ready(2, "cheap")]))
    assert step is not None
    assert (step.kind, step.id) == ("end", 1)


def test_moving_has_to_pay_for_the_cold_start_within_the_stay() -> None:
    near = DEAR._replace(price=0.3 + 0.035)
    assert next_step(situation([ready(1, "dear")], (CHEAP, near))) is None
    slow = CHEAP._replace(cold_h=6.0)
    assert next_step(situation([ready(1, "dear")], (slow, DEAR))) is None


def test_spot_takes_over_from_on_demand_and_the_saving_is_told() -> None:
    step = next_step(situation([ready(1, None)]))
    assert step is not None
    assert done(step) == ("launch", "cheap")
    why = step.why
    assert why.replaces == ON_DEMAND
    assert why.saving == pytest.approx(why.score_before - why.score_after)
    assert why.score_before == 1.0
    assert why.missing_before == 0.0
    assert why.double_running == pytest.approx(0.03)
    assert 0 < why.missing_after < 0.05
    assert why.stay_h == 3.0


def test_a_doomed_machine_is_replaced_while_it_still_serves() -> None:
    doomed = Held(1, "dear", ready=True, doomed=True)
    assert done(next_step(situation([doomed]))) == ("launch", "cheap")
    assert next_step(situation([doomed, Held(2, "cheap", ready=False)])) is None


def test_the_dearest_of_too_many_is_ended() -> None:
    step = next_step(situation([ready(1, "cheap"), ready(2, None), ready(3, None)]))
    assert step is not None
    assert (step.kind, step.id) == ("end", 3)


def test_a_starting_machine_is_ended_only_when_too_many_start() -> None:
    starting = [Held(number, "cheap", ready=False) for number in range(3)]
    step = next_step(situation(starting))
    assert step is not None
    assert (step.kind, step.id) == ("end", 2)
    assert next_step(situation(starting[:2])) is None


def test_a_full_pool_is_asked_again_after_a_while() -> None:
    held = [ready(1, "cheap")]
    full = [Event(NOW, "cheap", "west", Happened.REFUSED, held=1)]
    there = situation(held, (CHEAP,), learn(up(CHEAP), full), replicas=2)
    assert done(next_step(there)) == ("buy", None)
    assert done(next_step(replace(there, now=NOW + 181))) == ("launch", "cheap")


def test_waiting_grows_with_the_time_that_a_pool_refuses() -> None:
    waits = [wait_s(Tuning(), hours * HOUR) for hours in (0, 1, 3, 10)]
    assert waits == [180, 360, 1080, 1800]


def test_whoever_cannot_probe_tries_a_pool_that_is_down_or_unknown() -> None:
    down = learn(Beliefs(), [Event(NOW - 12 * HOUR, "cheap", "west", Happened.REFUSED)])
    for beliefs in (down, Beliefs()):
        there = situation(offered=(CHEAP,), beliefs=beliefs)
        assert done(next_step(there)) == ("buy", None)
        assert done(next_step(replace(there, probing=False))) == ("launch", "cheap")


def test_probes_are_due_after_a_while_and_the_most_overdue_come_first() -> None:
    beliefs = learn(up(DEAR), [Event(NOW - HOUR, "cheap", "west", Happened.REFUSED)])
    there = situation(offered=(DEAR, CHEAP, FAR), beliefs=beliefs)
    assert probes(there) == ["far", "cheap"]
    assert probes(replace(there, now=NOW + 601)) == ["far", "cheap", "dear"]


def test_where_ours_run_it_is_asked_often_whether_there_is_room_for_more() -> None:
    given = Event(NOW, "cheap", "west", Happened.GAVE, held=1)
    there = situation([ready(1, "cheap")], (CHEAP,), learn(up(CHEAP), [given]))
    assert probes(replace(there, now=NOW + 119)) == []
    assert probes(replace(there, now=NOW + 120)) == ["cheap"]
    refused = Event(NOW, "cheap", "west", Happened.REFUSED, held=1)
    full = replace(there, beliefs=learn(there.beliefs, [refused]))
    assert probes(replace(full, now=NOW + 179)) == []
    assert probes(replace(full, now=NOW + 180)) == ["cheap"]


def test_a_pool_that_shrinks_to_what_is_held_is_left_before_it_takes_it() -> None:
    """Whoever was always full there stays: nothing has changed."""
    told = [Event(NOW, "cheap", "west", kind, held=1) for kind in (
        Happened.GAVE, Happened.REFUSED,
    )]  # fmt: skip
    known = up(CHEAP, FAR)
    always = situation([ready(1, "cheap")], (CHEAP, FAR), learn(known, told[1:]))
    assert next_step(always) is None
    shrunk = replace(always, beliefs=learn(known, told))
    assert done(next_step(shrunk)) == ("launch", "far")


def test_a_pool_is_not_filled_up_only_to_be_emptied_again() -> None:
    filled = 0
    for hours in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0):
        known = up(CHEAP, hours=hours)
        roomy = known.pool("cheap")._replace(
            room=2, asked_at=NOW, full_at=2, full_since=NOW, full_asked=NOW
        )
        both = [ready(1, "cheap"), ready(2, None)]
        before = situation(both, (CHEAP,), replace(known, pools={"cheap": roomy}), replicas=2)
        if done(next_step(before)) == ("launch", "cheap"):
            filled += 1
            after = next_step(replace(before, held=[*both, ready(3, "cheap")]))
            assert after is not None
            assert (after.kind, after.id) == ("end", 2)  # the one on demand, not what came
    assert 0 < filled < 8


def test_what_is_launched_is_judged_from_when_it_would_take_over() -> None:
    beliefs = up(CHEAP, hours=1.0)
    slow = CHEAP._replace(cold_h=0.5)
    quick = situation([ready(1, None)], (CHEAP,), beliefs)
    later = situation([ready(1, None)], (slow,), beliefs)
    risks = []
    for one in (quick, later):
        step = next_step(replace(one, knobs=Knobs(missing_cost=2.0)))
        assert step is not None
        assert step.pool == "cheap"
        risks.append(step.why.missing_after)
    assert risks[1] < risks[0]  # by then the pool is half an hour older


def test_where_replicas_are_missing_every_hour_counts() -> None:
    beliefs = up(CHEAP, hours=1.0)
    knobs = Knobs(missing_cost=2.0)
    moved = next_step(situation([ready(1, None)], (CHEAP,), beliefs, knobs=knobs))
    filled = next_step(situation([], (CHEAP,), beliefs, knobs=knobs))
    assert moved is not None
    assert filled is not None
    assert moved.why.missing_after < filled.why.missing_after


def test_a_machine_whose_pool_is_not_offered_counts_at_its_own_price() -> None:
    held = [Held(1, "gone", ready=True, price=0.9)]
    assert done(next_step(situation(held))) == ("launch", "cheap")
    assert next_step(situation([held[0]._replace(price=0.2)], beliefs=up(CHEAP, DEAR))) is None


def test_a_notice_as_long_as_the_cold_start_takes_the_risk_away() -> None:
    sudden, told = (
        next_step(situation(offered=(CHEAP._replace(notice_h=notice),), beliefs=up(CHEAP)))
        for notice in (0.0, COLD_H)
    )
    assert sudden is not None
    assert told is not None
    assert sudden.why.missing_after > told.why.missing_after == 0.0


def test_a_goal_decides_over_v_only_where_the_user_named_one() -> None:
    dear = with_goal(up(CHEAP, FAR), "chat", Goal(NOW, 8.0, 3000.0))
    held = [ready(1, "cheap")]
    there = situation(held, (CHEAP, FAR), dear, service="chat")
    assert next_step(there) is None
    named = replace(there, knobs=Knobs(availability=0.9999))
    assert done(next_step(named)) == ("launch", "far")
    assert next_step(replace(named, service="other")) is None
