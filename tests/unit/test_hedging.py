"""A slow launch, the one beside it, and which of the two stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from arbiter.cold_starts import ColdStarts, measured
from arbiter.domain import ActionKind, Plan, Purchase, Refusal, Replica, ReplicaState
from arbiter.hedging import patience_s, slow_launches
from arbiter.planner import plan
from arbiter.policy import Policy
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, replica, service

POLICY = Policy(max_spares=0)
HERE, THERE = offer("eu-north-1"), offer("eu-west-1")
QUOTES = [quote("0.30", HERE), quote("0.40", THERE), on_demand("0.90")]
LAUNCHING = ReplicaState.LAUNCHING


def launching(number: int = 1, age_s: float = 200, **changes: object) -> Replica:
    return replica(number, LAUNCHING, HERE, "0.30", age_s=age_s, **changes)  # type: ignore[arg-type]


def steps(made: Plan) -> list[tuple[str, str]]:
    return [(action.kind.value, action.cluster[-1]) for action in made.actions]


def test_a_slow_launch_gets_the_next_candidate_beside_it() -> None:
    slow = launching()
    made = plan(NOW, QUOTES, fleet(slow, slow=(slow.cluster,)), POLICY)
    (action,) = made.actions
    assert action.kind is ActionKind.LAUNCH
    assert action.hedges == slow.cluster
    assert action.offer == THERE
    assert "brought no machine for 200 s" in action.reason


def test_a_launch_within_its_time_is_left_alone() -> None:
    assert plan(NOW, QUOTES, fleet(launching()), POLICY).actions == ()


def test_it_is_hedged_once() -> None:
    slow = replace(launching(), hedged_by="arb-0a1b2c3d-chat-2")
    both = fleet(slow, launching(2), slow=(slow.cluster, "arb-0a1b2c3d-chat-2"))
    assert plan(NOW, QUOTES, both, POLICY).actions == ()
    alone = fleet(slow, slow=(slow.cluster,))  # the one beside it has failed
    assert plan(NOW, QUOTES, alone, POLICY).actions == ()


def test_nothing_is_hedged_while_none_is_missing() -> None:
    slow = launching(2, replaces="arb-0a1b2c3d-chat-1")  # a move: what it is to replace answers
    moving = fleet(replica(1), slow, slow=(slow.cluster,))
    assert plan(NOW, QUOTES, moving, POLICY).actions == ()


def test_no_more_hedges_than_replicas_are_missing() -> None:
    order = service(2)
    waiting = [launching(1), launching(2), replica(3, of=THERE)]
    slow = tuple(one.cluster for one in waiting[:2])
    made = plan(NOW, QUOTES, fleet(*waiting, order=order, slow=slow), Policy(max_spares=1))
    assert len([one for one in made.actions if one.hedges]) == 1


def test_on_demand_is_hedged_by_on_demand() -> None:
    bought = replica(1, LAUNCHING, on_demand("0.90").offer, "0.90", age_s=200)
    asked = fleet(bought, slow=(bought.cluster,))
    assert plan(NOW, QUOTES, asked, POLICY).actions == ()
    other = on_demand("1.10", "eu-central-1")
    (action,) = plan(NOW, [*QUOTES, other], asked, POLICY).actions
    assert action.offer == other.offer


def test_after_many_spot_failures_it_is_hedged_on_demand() -> None:
    until = NOW + timedelta(hours=1)
    failed = tuple(
        Refusal(offer(region).key, NOW, until, 1, "none")
        for region in ("eu-west-3", "eu-south-1", "eu-south-2")
    )
    slow = launching()
    made = plan(NOW, QUOTES, fleet(slow, slow=(slow.cluster,), refusals=failed), POLICY)
    hedge = next(one for one in made.actions if one.hedges)
    assert hedge.offer is not None
    assert hedge.offer.purchase is Purchase.ON_DEMAND


@pytest.mark.parametrize(
    ("first", "second", "ended"),
    [
        (LAUNCHING, LAUNCHING, []),
        (ReplicaState.STARTING, LAUNCHING, [("terminate", "2")]),
        (LAUNCHING, ReplicaState.STARTING, [("terminate", "1")]),
        (LAUNCHING, ReplicaState.HEALTHY, [("terminate", "1")]),
        (ReplicaState.STARTING, ReplicaState.HEALTHY, [("terminate", "1")]),
        (ReplicaState.STARTING, ReplicaState.STARTING, [("terminate", "2")]),
        (ReplicaState.HEALTHY, ReplicaState.HEALTHY, [("drain", "2")]),
    ],
)
def test_the_first_that_is_up_stays(
    first: ReplicaState, second: ReplicaState, ended: list[tuple[str, str]]
) -> None:
    old = replace(replica(1, first, HERE, age_s=200), hedged_by="arb-0a1b2c3d-chat-2")
    new = replica(2, second, THERE, age_s=60)
    made = plan(NOW, QUOTES, fleet(old, new, slow=(old.cluster,)), POLICY)
    assert steps(made) == ended


def test_two_that_both_answer_stay_while_no_more_than_ordered_do() -> None:
    old = replace(replica(1, of=HERE), hedged_by="arb-0a1b2c3d-chat-2")
    new = replica(2, of=THERE)
    other = replica(3, LAUNCHING, offer("eu-central-1"), age_s=60)
    missing = fleet(old, new, other, order=service(3))
    assert plan(NOW, QUOTES, missing, POLICY).actions == ()
    enough = fleet(old, new, replace(other, state=ReplicaState.HEALTHY), order=service(2))
    assert steps(plan(NOW, QUOTES, enough, POLICY)) == [("drain", "2")]


def test_the_winner_takes_over_what_the_slow_one_was_to_replace() -> None:
    silent = replica(1, ReplicaState.UNHEALTHY, HERE, age_s=900)
    old = replace(
        launching(2, replaces=silent.cluster), hedged_by="arb-0a1b2c3d-chat-3", offer=THERE
    )
    new = replica(3, ReplicaState.HEALTHY, offer("eu-central-1"), replaces=silent.cluster)
    made = plan(NOW, QUOTES, fleet(silent, old, new), POLICY)
    assert ("terminate", "2") in steps(made)
    assert ("terminate", "1") in steps(made)


def test_a_pair_counts_as_one() -> None:
    old = replace(launching(), hedged_by="arb-0a1b2c3d-chat-2")
    new = replica(2, LAUNCHING, THERE, age_s=60)
    asked = fleet(old, new, order=service(2))
    made = plan(NOW, QUOTES, asked, POLICY)
    assert [one.kind for one in made.actions] == [ActionKind.LAUNCH], "the second of the two"


def test_patience_is_what_was_measured_there() -> None:
    key = ("tiny", "aws", "eu-north-1", Purchase.SPOT)
    known = measured([(key, 400, 100), (key, 100, 100), (key, 100, 100)])
    assert patience_s(known, "tiny", HERE, 300) == 800, "twice the slowest"
    assert patience_s(known, "tiny", THERE, 300) == 300, "nothing is measured in that region"
    assert patience_s(measured([(key, 400, 100)]), "tiny", HERE, 300) == 300, "once is no measure"
    quick = measured([(key, 1, 1)] * 3)
    assert patience_s(quick, "tiny", HERE, 300) == 60, "never less than a minute"


def test_only_launches_are_slow() -> None:
    late = launching(1, 301)
    others = [launching(2, 299), replica(3, ReplicaState.STARTING, age_s=2000), replica(4)]
    assert slow_launches(NOW, [late, *others], "tiny", ColdStarts(), 300) == (late.cluster,)
