"""A policy's availability or budget, as the planner and the loop follow it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from arbiter.believed import goal_line
from arbiter.domain import Purchase
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.spot.beliefs import Beliefs, with_goal
from arbiter.spot.goal import Goal
from arbiter.steering import aim_of, in_aim, steered
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, replica

HIGH = Policy(availability=0.999)


def after(policy: Policy, beliefs: Beliefs, at: datetime, ready: int, cost: float = 0.5) -> Beliefs:
    goal = steered(at, beliefs, "chat", policy, ready=ready, replicas=1, cost_share=cost)
    assert goal is not None
    return with_goal(beliefs, "chat", goal)


def test_a_policy_without_an_aim_is_not_steered() -> None:
    plain = steered(NOW, Beliefs(), "chat", Policy(), ready=0, replicas=1, cost_share=None)
    assert plain is None
    assert in_aim(Beliefs(), "chat", Policy()) == Beliefs()


def test_a_shortage_raises_v_and_a_change_of_the_aim_begins_anew() -> None:
    began = after(HIGH, Beliefs(), NOW, ready=1)
    short = after(HIGH, began, NOW + timedelta(hours=1), ready=0)
    assert short.goals["chat"].missing_cost > began.goals["chat"].missing_cost
    lower = replace(HIGH, availability=0.99)
    assert in_aim(short, "chat", HIGH) is short
    anew = in_aim(short, "chat", lower).goals["chat"]
    assert anew.aim == aim_of(lower)
    assert anew.missing_cost == pytest.approx(20.0)
    assert after(lower, short, NOW, ready=1).goals["chat"] == anew._replace(at=NOW.timestamp())


def test_a_budget_that_is_exceeded_lowers_v() -> None:
    policy = Policy(budget=0.4)
    began = after(policy, Beliefs(), NOW, ready=1)
    later = NOW + timedelta(hours=100)
    assert after(policy, began, later, 1, cost=0.9).goals["chat"].missing_cost < 20
    assert after(policy, began, later, 1, cost=0.1).goals["chat"].missing_cost > 20


def test_another_services_goal_and_a_lost_aim_change_no_plan() -> None:
    dear = with_goal(Beliefs(), "other", Goal(NOW.timestamp(), 8.0, 3000.0, aim_of(HIGH)))
    quotes = [quote("0.3"), quote("0.31", offer("eu-west-1")), on_demand("0.9")]
    found = fleet(replica(price="0.3"))
    assert plan(NOW, quotes, found, HIGH, dear) == plan(NOW, quotes, found, HIGH)
    mine = with_goal(Beliefs(), "chat", Goal(NOW.timestamp(), 8.0, 3000.0, aim_of(HIGH)))
    assert plan(NOW, quotes, found, Policy(), mine) == plan(NOW, quotes, found, Policy())


def test_the_v_that_was_learnt_decides_on_spares() -> None:
    quotes = [quote("0.3"), quote("0.31", offer("eu-west-1")), on_demand("0.9")]
    found = fleet(replica(price="0.3"))
    aim = aim_of(HIGH)
    cheap = with_goal(Beliefs(), "chat", Goal(NOW.timestamp(), 0.0, 1.0, aim))
    dear = with_goal(Beliefs(), "chat", Goal(NOW.timestamp(), 8.0, 3000.0, aim))
    assert plan(NOW, quotes, found, HIGH, cheap).actions == ()
    assert "a spare" in plan(NOW, quotes, found, HIGH, dear).actions[0].reason


def test_the_share_of_cost_counts_everything_that_runs() -> None:
    bought = replica(2, of=offer("eu-north-1", None, Purchase.ON_DEMAND), price="1")
    quotes = [quote("0.25"), on_demand("1")]
    made = plan(NOW, quotes, fleet(replica(price="0.25"), bought), Policy())
    assert made.cost_share == pytest.approx(1.25, rel=1e-3)
    assert plan(NOW, quotes, fleet(), Policy()).cost_share is None


def test_how_it_is_steered_is_told() -> None:
    goal = Goal(0.0, 4.0, 54.6, aim_of(HIGH))
    assert goal_line(goal) == (
        "steered to an availability of 99.9 %: an hour of a missing replica counted as 54.6 "
        "on-demand hours"
    )
    assert aim_of(Policy(budget=0.5)) == "a mean cost of 50 % of all on demand"
