"""What is planned when fewer replicas are wanted than before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from arbiter.domain import ActionKind, Purchase, Replica, ReplicaState
from arbiter.planner import plan
from arbiter.policy import Policy
from tests.unit.fleets import NOW, fleet, offer, on_demand, replica, service

BOUGHT = offer("eu-north-1", None, Purchase.ON_DEMAND)
POLICY = Policy(spot=False)


def young(number: int) -> Replica:
    """Launched ten minutes ago: as a spare it would have to stay for an hour."""
    return replica(number, of=BOUGHT, price="0.9", age_s=600)


@pytest.mark.parametrize(
    ("lowered_at", "drained"),
    [
        (None, 0),
        (NOW, 1),
        (NOW - timedelta(minutes=5), 1),
        (NOW - timedelta(minutes=20), 0),  # launched since then: a spare, which stays
        (NOW + timedelta(hours=1), 0),  # the clock was set back
    ],
)
def test_what_was_launched_for_more_need_not_stay(
    lowered_at: datetime | None, drained: int
) -> None:
    order = service(1, generation=2, lowered_at=lowered_at)
    made = plan(NOW, [on_demand("0.9")], fleet(young(1), young(2), order=order), POLICY)
    assert [action.kind for action in made.actions] == [ActionKind.DRAIN] * drained


def test_at_zero_everything_goes_and_what_answers_is_drained() -> None:
    order = service(0, generation=2)
    made = plan(NOW, [on_demand("0.9")], fleet(young(1), young(2), order=order), POLICY)
    assert [action.kind for action in made.actions] == [ActionKind.DRAIN] * 2
    rested = plan(NOW, [on_demand("0.9")], fleet(order=replace(order, generation=4)), POLICY)
    assert rested.actions == ()
    assert rested.sentence == "chat: kept nothing, for 0 replicas are wanted"


def test_what_stood_beside_a_slow_launch_goes_with_it() -> None:
    slow, beside = (
        replace(young(number), state=ReplicaState.LAUNCHING, launched_at=NOW, healthy_at=None)
        for number in (1, 2)
    )
    slow = replace(slow, hedged_by=beside.cluster)
    beside = replace(beside, replaces=slow.cluster)  # it is named twice, and ended once
    made = plan(NOW, [on_demand("0.9")], fleet(slow, beside, order=service(0)), POLICY)
    assert sorted(action.cluster for action in made.actions) == [slow.cluster, beside.cluster]
