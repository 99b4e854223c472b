"""What is believed of pools after what happened in them."""

from __future__ import annotations

import json

import pytest

from arbiter.spot.beliefs import (
    HOUR,
    UNSEEN_H,
    Beliefs,
    Event,
    Happened,
    faded,
    foreseen,
    from_plain,
    hazard,
    learn,
    losses_within,
    shrunk_foreseen,
    to_plain,
    with_goal,
)
from arbiter.spot.goal import Goal

T = 1_700_000_000.0


def happened(kind: Happened, hours: float, held: int = 0, count: int = 1, pool: str = "a") -> Event:
    return Event(T + hours * HOUR, pool, "west", kind, held, count)


def test_a_refusal_begins_a_run_of_being_down_and_later_ones_prolong_it() -> None:
    beliefs = learn(Beliefs(), [happened(Happened.REFUSED, 0), happened(Happened.REFUSED, 2)])
    pool = beliefs.pools["a"]
    assert (pool.up, pool.down_since, pool.seen_at) == (False, T, T + 2 * HOUR)
    assert pool.losses == 0


def test_a_pool_that_is_found_open_has_been_open_for_a_while() -> None:
    first = learn(Beliefs(), [happened(Happened.GAVE, 0)]).pools["a"]
    assert first.up_since == T - UNSEEN_H * HOUR
    again = learn(Beliefs(), [happened(Happened.REFUSED, 0), happened(Happened.GAVE, 2)]).pools["a"]
    assert again.up_since == T + 1 * HOUR


def test_a_loss_of_everything_ends_the_run_and_a_loss_of_some_begins_another() -> None:
    stood = [happened(Happened.GAVE, 0), happened(Happened.STANDS, 5, held=3)]
    gone = learn(Beliefs(), [*stood, happened(Happened.LOST, 6, held=3, count=3)]).pools["a"]
    assert (gone.up_since, gone.down_since, gone.full_at) == (None, T + 6 * HOUR, None)
    left = learn(Beliefs(), [*stood, happened(Happened.LOST, 6, held=3, count=1)]).pools["a"]
    assert (left.up_since, left.full_at, left.full_asked) == (T + 6 * HOUR, 2, T + 6 * HOUR)
    assert gone.losses == left.losses == 1


def test_a_full_pool_remembers_since_when_and_forgets_when_it_gives() -> None:
    full = [happened(Happened.GAVE, 0), happened(Happened.REFUSED, 1, held=2)]
    asked = learn(Beliefs(), [*full, happened(Happened.REFUSED, 3, held=2)]).pools["a"]
    assert (asked.full_at, asked.full_since, asked.full_asked) == (2, T + HOUR, T + 3 * HOUR)
    fewer = learn(Beliefs(), [*full, happened(Happened.GAVE, 3, held=1)]).pools["a"]
    assert fewer.full_at == 2
    roomy = learn(Beliefs(), [*full, happened(Happened.GAVE, 3, held=2)]).pools["a"]
    assert roomy.full_at is None


def test_what_is_foreseen_is_the_integral_of_the_hazard() -> None:
    steps = 20_000
    width = 7.0 / steps
    summed = sum(hazard(1.0 + (k + 0.5) * width) * width for k in range(steps))
    assert foreseen(1.0, 8.0) == pytest.approx(summed, rel=1e-6)


def test_seeing_a_run_in_one_look_or_in_many_foresees_the_same() -> None:
    begin = [happened(Happened.REFUSED, -1e-3), happened(Happened.GAVE, 0)]
    often = [happened(Happened.STANDS, k / 4) for k in range(1, 17)]
    once = learn(Beliefs(), [*begin, happened(Happened.STANDS, 4)]).pools["a"].expected
    many = learn(Beliefs(), [*begin, *often]).pools["a"].expected
    assert many == pytest.approx(once, rel=0.02)  # the decay of the parts differs a little


def test_losses_raise_a_pools_factor_and_through_its_region_a_strangers() -> None:
    events = [happened(Happened.GAVE, 0)]
    for hour in range(1, 9):
        events += [happened(Happened.LOST, hour, held=1), happened(Happened.GAVE, hour + 0.2)]
    factors = learn(Beliefs(), events).factors
    assert factors.pools["a"] > factors.regions["west"] > factors.common > 1
    assert factors.of("never heard of", "west") == factors.regions["west"]
    assert factors.of("never heard of", "elsewhere") == factors.common


def test_a_long_quiet_run_lowers_the_factor_and_time_brings_it_back() -> None:
    quiet = learn(Beliefs(), [happened(Happened.GAVE, 0), happened(Happened.STANDS, 2000)])
    assert quiet.factors.pools["a"] < 1
    later = [happened(Happened.LOST, 2000, held=1), happened(Happened.GAVE, 2001)]
    forgotten = learn(quiet, [*later, happened(Happened.STANDS, 20_000)])
    assert forgotten.pools["a"].losses < 1e-9


def test_a_clock_set_back_stands_still() -> None:
    up = learn(Beliefs(), [happened(Happened.GAVE, 5), happened(Happened.STANDS, 6)])
    assert learn(up, [happened(Happened.STANDS, 3)]).pools["a"] == up.pools["a"]


def test_learning_leaves_the_earlier_beliefs_alone() -> None:
    before = learn(Beliefs(), [happened(Happened.GAVE, 0)])
    kept = dict(before.pools)
    learn(before, [happened(Happened.LOST, 1, held=1), happened(Happened.GAVE, 2, pool="b")])
    assert before.pools == kept


def test_beliefs_survive_json() -> None:
    beliefs = learn(Beliefs(), [happened(Happened.GAVE, 0.1), happened(Happened.LOST, 1.7, held=1)])
    beliefs = with_goal(beliefs, "chat", Goal(T, 3.1, 22.5))
    assert from_plain(json.loads(json.dumps(to_plain(beliefs)))) == beliefs


def test_a_pool_that_had_room_and_has_none_loses_sooner_until_it_has_room_again() -> None:
    open_ = [happened(Happened.GAVE, 0), happened(Happened.GAVE, 9.9, held=1)]
    full = happened(Happened.REFUSED, 10, held=1)
    roomy, shrunk = learn(Beliefs(), open_), learn(Beliefs(), [*open_, full])
    assert shrunk.pools["a"].shrunk_since == T + 10 * HOUR
    now = T + 10 * HOUR
    soon = [
        losses_within(beliefs.pools["a"], beliefs.factors, "a", 1, now, 0.1)
        for beliefs in (roomy, learn(Beliefs(), [open_[0], full]), shrunk)
    ]
    assert soon == sorted(soon)
    assert soon[2] > 5 * soon[1] > 10 * soon[0]
    again = learn(shrunk, [happened(Happened.GAVE, 11, held=1)]).pools["a"]
    assert (again.shrunk_since, again.full_at, again.room) == (None, None, 2)


def test_losses_of_shrunken_pools_are_counted_by_themselves() -> None:
    story = [
        happened(Happened.GAVE, 0, held=1),
        happened(Happened.REFUSED, 1, held=1),
        happened(Happened.LOST, 2, held=1),
    ]
    pool = learn(Beliefs(), story).pools["a"]
    assert (pool.losses, pool.shrunk_losses, pool.shrunk_since) == (0, 1, None)
    assert pool.shrunk_expected == pytest.approx(shrunk_foreseen(0, 1))


def test_whoever_calms_down_a_shrunken_pool_lowers_the_factor_of_all_of_them() -> None:
    quiet = learn(Beliefs(), [
        happened(Happened.GAVE, 0, held=1), happened(Happened.REFUSED, 0.5, held=1),
        happened(Happened.STANDS, 60, held=1),
    ])  # fmt: skip
    assert quiet.factors.shrunk < 1
    assert faded(quiet, T + 2000 * HOUR).factors.shrunk == pytest.approx(1, abs=0.01)
