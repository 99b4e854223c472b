"""V steered towards an availability or a budget."""

from __future__ import annotations

import pytest

from arbiter.spot.goal import LEAST, MOST, Goal, begun, served
from arbiter.spot.situation import Knobs

HOUR = 3600.0


def test_a_stricter_availability_begins_with_a_dearer_replica() -> None:
    values = [begun(Knobs(availability=a), 0.0).missing_cost for a in (0.98, 0.99, 0.999)]
    assert values == sorted(values)
    assert values[1] == pytest.approx(20.0)
    assert begun(Knobs(missing_cost=33.0, budget=0.4), 0.0).missing_cost == 33.0


def after(goal: Goal, knobs: Knobs, hours: float, ready: int, cost: float = 0.5) -> Goal:
    return served(goal, knobs, goal.at + hours * HOUR, ready=ready, replicas=1, cost=cost)


def test_shortage_raises_v_and_calm_lowers_it() -> None:
    knobs = Knobs(availability=0.99)
    start = begun(knobs, 0.0)
    assert after(start, knobs, 1.0, ready=0).missing_cost > start.missing_cost
    assert after(start, knobs, 100.0, ready=1).missing_cost < start.missing_cost


def test_small_changes_do_not_move_what_is_in_force() -> None:
    knobs = Knobs(availability=0.99)
    start = begun(knobs, 0.0)
    soon = after(start, knobs, 5.0, ready=1)
    assert soon.wish < start.wish
    assert soon.missing_cost == start.missing_cost


def test_the_shortage_that_is_allowed_leaves_v_where_it_is() -> None:
    knobs = Knobs(availability=0.99)
    goal = start = begun(knobs, 0.0)
    for _ in range(50):
        goal = after(after(goal, knobs, 0.99, ready=1), knobs, 0.01, ready=0)
    assert goal.wish == pytest.approx(start.wish)


def test_spending_too_much_lowers_v_and_too_little_raises_it() -> None:
    knobs = Knobs(budget=0.5)
    start = begun(knobs, 0.0)
    assert after(start, knobs, 100.0, ready=1, cost=0.9).missing_cost < start.missing_cost
    assert after(start, knobs, 100.0, ready=1, cost=0.2).missing_cost > start.missing_cost


def test_v_has_ends_and_full_availability_is_one_of_them() -> None:
    knobs = Knobs(availability=1.0)
    goal = begun(knobs, 0.0)
    assert 1000 < goal.missing_cost <= MOST
    assert after(goal, knobs, 1e6, ready=0).missing_cost == pytest.approx(MOST)
    assert after(goal, knobs, 1e6, ready=1).missing_cost == pytest.approx(LEAST)


def test_steering_to_a_budget_begins_at_the_least_where_a_missing_hour_was_worth_nothing() -> None:
    assert begun(Knobs(missing_cost=0.0, budget=0.5), 0.0).missing_cost == LEAST
