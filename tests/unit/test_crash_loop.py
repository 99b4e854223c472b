"""The wait after machines that never served."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from arbiter.crash_loop import LONGEST, NEVER_SERVED, Failed, back_off
from arbiter.domain import ActionKind, ReplicaState
from arbiter.planner import plan
from arbiter.policy import Policy
from tests.unit.fleets import NOW, fleet, on_demand, replica

RUBBISH = f"{NEVER_SERVED} 0:05:00: /v1/models answered rubbish"


def failures(count: int, last: datetime = NOW) -> tuple[Failed, ...]:
    ends = [last - timedelta(hours=1) * n for n in reversed(range(count))]
    return tuple(Failed(at - timedelta(minutes=30), at, RUBBISH) for at in ends)


@pytest.mark.parametrize(
    ("count", "minutes"), [(0, 0), (1, 0), (2, 10), (3, 20), (4, 40), (7, 320), (8, 360), (99, 360)]
)
def test_each_failure_doubles_the_wait_up_to_six_hours(count: int, minutes: int) -> None:
    held = back_off(failures(count), NOW)
    assert (held is not None) is (minutes > 0)
    if held is not None:
        assert held.until == NOW + timedelta(minutes=minutes)
        assert back_off(failures(count), held.until) is None
        assert back_off(failures(count), held.until - timedelta(seconds=1)) == held


def test_machines_beside_each_other_are_one_round() -> None:
    eight = [replace(one, launched_at=NOW - timedelta(days=1)) for one in failures(8)]
    assert back_off(eight, NOW) is None
    again = [*eight, *failures(2, NOW + timedelta(hours=2))]
    held = back_off(again, NOW + timedelta(hours=2))
    assert held is not None
    assert (held.machines, held.until) == (10, NOW + timedelta(hours=2, minutes=20))


def test_what_lies_in_the_future_holds_up_nothing() -> None:
    assert back_off(failures(5, NOW + 2 * LONGEST), NOW) is None


def test_nothing_is_launched_meanwhile_and_the_sentence_says_why() -> None:
    empty = replace(fleet(), never_served=failures(2))
    made = plan(NOW, [on_demand("0.9")], empty, Policy())
    assert made.actions == ()
    assert "launches nothing before" in made.sentence
    assert "/v1/models answered rubbish" in made.sentence
    later = plan(NOW + timedelta(minutes=10), [on_demand("0.9")], empty, Policy())
    assert [action.kind for action in later.actions] == [ActionKind.LAUNCH]


def test_a_machine_that_never_serves_is_ended_with_the_reason() -> None:
    told = "/v1/models answered rubbish"
    stuck = replace(replica(state=ReplicaState.STARTING, age_s=1801), note=told)
    made = plan(NOW, [on_demand("0.9")], fleet(stuck), Policy())
    (ended,) = (one for one in made.actions if one.kind is ActionKind.TERMINATE)
    assert ended.reason == RUBBISH
