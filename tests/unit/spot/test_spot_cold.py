"""Cold starts as they are learnt, and what the planner makes of them and of notices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.believed import cold_line, cold_starts
from arbiter.domain import ReplicaState
from arbiter.lessons import answered
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.spot.beliefs import Beliefs, from_plain, learn, to_plain
from arbiter.spot.cold import KEPT, Answered, cold_s
from arbiter.transitions import Seen
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, replica

spans = st.lists(st.floats(1, 86_400), min_size=1, max_size=20)


def taught(*seconds: float, place: str = "aws/eu-north-1", model: str = "tiny") -> Beliefs:
    return learn(Beliefs(), [Answered(0.0, model, place, one) for one in seconds])


def test_without_a_measurement_the_assumption_holds() -> None:
    assert cold_s({}, "tiny", "aws/eu-north-1", 600) == pytest.approx(600)


@given(spans, st.floats(1, 86_400))
def test_what_is_expected_lies_between_what_was_assumed_and_measured(
    seconds: list[float], assumed_s: float
) -> None:
    found = cold_s(taught(*seconds).colds, "tiny", "aws/eu-north-1", assumed_s)
    seen = seconds[-KEPT:]
    assert min(*seen, assumed_s) * 0.999 <= found <= max(*seen, assumed_s) * 1.001


@given(spans, st.randoms(use_true_random=False))
def test_the_order_of_what_is_kept_does_not_matter(seconds: list[float], random) -> None:  # type: ignore[no-untyped-def]
    kept = seconds[:KEPT]
    mixed = random.sample(kept, len(kept))
    one, other = (cold_s(taught(*s).colds, "tiny", "aws/eu-north-1", 600) for s in (kept, mixed))
    assert one == pytest.approx(other)


def test_one_launch_that_hung_moves_little() -> None:
    calm, hung = taught(*[300.0] * 6), taught(*[300.0] * 5, 9000.0)
    expected = [cold_s(one.colds, "tiny", "aws/eu-north-1", 600) for one in (calm, hung)]
    assert expected[1] == pytest.approx(expected[0])


def test_elsewhere_the_models_own_is_expected_and_of_another_model_nothing() -> None:
    colds = taught(*[120.0] * 9).colds
    assert 120 < cold_s(colds, "tiny", "aws/eu-west-1", 600) < 200
    assert cold_s(colds, "tiny", "aws/eu-north-1", 600) < cold_s(colds, "tiny", "aws/x", 600)
    assert cold_s(colds, "llama8b", "aws/eu-north-1", 600) == pytest.approx(600)


def test_they_are_stored_as_they_were() -> None:
    known = taught(100.0, 200.5)
    assert from_plain(to_plain(known)) == known


def test_the_first_answer_teaches_and_later_ones_do_not() -> None:
    waiting = replica(state=ReplicaState.STARTING, age_s=420)
    waiting = replace(waiting, healthy_at=None)
    healthy = replace(waiting, state=ReplicaState.HEALTHY, healthy_at=NOW)
    (event,) = answered(NOW, "tiny", [(waiting, Seen(healthy, "healthy")), (healthy, None)])
    assert event == Answered(NOW.timestamp(), "tiny", "aws/eu-north-1", 420.0)
    silent = replace(healthy, state=ReplicaState.UNHEALTHY)
    assert answered(NOW, "tiny", [(silent, Seen(healthy, "healthy"))]) == []


def test_explain_tells_what_is_expected_and_from_how_many() -> None:
    (one,) = cold_starts(taught(300.0, 400.0), "tiny", 600)
    assert cold_line(one).startswith("cold start of tiny in aws/eu-north-1: ")
    assert cold_line(one).endswith("s are expected, 2 measured, the newest 400 s")


def test_of_two_places_alike_the_one_that_starts_sooner_is_taken() -> None:
    quotes = [quote("0.30"), quote("0.30", offer("eu-west-1")), on_demand("0.9")]
    slow = taught(*[3000.0] * 9, place="aws/eu-north-1")
    quick = learn(slow, [Answered(0.0, "tiny", "aws/eu-west-1", 60.0)] * 9)
    made = plan(NOW, quotes, fleet(), Policy(max_spares=0, missing_cost=1), quick)
    assert made.actions[0].offer is not None
    assert made.actions[0].offer.region == "eu-west-1"


def test_a_notice_as_long_as_the_cold_start_saves_the_spare() -> None:
    policy = Policy(missing_cost=200, cold_start_s=100)
    quotes = [quote("0.3"), quote("0.31", offer("eu-west-1")), on_demand("0.9")]
    found = fleet(replica(price="0.3"))
    assert "a spare" in plan(NOW, quotes, found, policy).actions[0].reason
    told = replace(found, notice_s={"aws": 120.0})
    assert plan(NOW, quotes, told, policy).actions == ()
