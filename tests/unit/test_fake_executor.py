"""The fake executor keeps the contract of all executors, and does only what it was told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from launch_specs import CLUSTER, a_spec

from arbiter.domain import Purchase
from arbiter.errors import ArbiterError, LaunchRejected, NoCapacity, QuotaExceeded
from arbiter.executors.base import Executor, LaunchSpec, Phase
from arbiter.executors.fake import FakeExecutor
from arbiter.executors.places import arranged, names


def phase(executor: FakeExecutor, cluster: str = CLUSTER) -> Phase | None:
    sighting = executor.observe([cluster]).get(cluster)
    return sighting.phase if sighting else None


def on_demand(spec: LaunchSpec) -> LaunchSpec:
    return replace(spec, offer=replace(spec.offer, zone=None, purchase=Purchase.ON_DEMAND))


def test_it_is_an_executor() -> None:
    assert isinstance(FakeExecutor(), Executor)


def test_a_launch_stays_pending_until_it_is_advanced() -> None:
    executor = FakeExecutor()
    request_id = executor.submit(a_spec())
    assert phase(executor) is Phase.PENDING
    assert executor.observe([CLUSTER])[CLUSTER].endpoint is None
    executor.advance()
    sighting = executor.observe([CLUSTER])[CLUSTER]
    assert sighting.phase is Phase.UP
    assert sighting.request_id == request_id
    assert sighting.endpoint == f"http://{CLUSTER}.invalid:8000"
    assert (sighting.region, sighting.zone) == ("eu-north-1", "eun1-az1")


def test_only_the_named_clusters_advance() -> None:
    executor = FakeExecutor()
    executor.submit(a_spec("one"))
    executor.submit(a_spec("two"))
    executor.advance("two")
    assert (phase(executor, "one"), phase(executor, "two")) == (Phase.PENDING, Phase.UP)


def test_an_immediate_executor_needs_no_advance() -> None:
    executor = FakeExecutor(immediate=True)
    executor.submit(a_spec())
    assert phase(executor) is Phase.UP


def test_submitting_again_is_remembered_and_launches_nothing() -> None:
    executor = FakeExecutor()
    assert executor.submit(a_spec()) == executor.submit(a_spec())
    assert executor.running == (CLUSTER,)
    assert len(executor.submitted) == 2


def test_terminating_forgets_and_an_absent_cluster_is_success() -> None:
    executor = FakeExecutor()
    executor.submit(a_spec())
    executor.terminate(CLUSTER)
    executor.terminate(CLUSTER)
    assert executor.observe([CLUSTER]) == {}
    assert executor.terminated == (CLUSTER, CLUSTER)
    assert [call.method for call in executor.calls] == ["submit", "terminate", "terminate"]


def test_the_inventory_is_the_owners_and_only_what_may_cost_money() -> None:
    executor = FakeExecutor()
    for cluster in ("pending", "up", "lost", "failed"):
        executor.submit(a_spec(cluster))
    executor.submit(a_spec("other", owner="you"))
    executor.advance("up", "lost")
    executor.lose("lost")
    executor.fail("failed", QuotaExceeded("no"))
    assert executor.inventory("me") == ["pending", "up"]
    assert executor.inventory("you") == ["other"]


def test_an_arranged_error_is_raised_once_and_starts_nothing() -> None:
    executor = FakeExecutor()
    executor.next_launch_error = LaunchRejected("wrong")
    with pytest.raises(LaunchRejected, match="wrong"):
        executor.submit(a_spec())
    assert executor.observe([CLUSTER]) == {}
    executor.submit(a_spec())
    assert phase(executor) is Phase.PENDING


def test_a_lost_answer_leaves_the_cluster_for_the_retry_to_find() -> None:
    executor = FakeExecutor()
    executor.lose_next_answer = True
    with pytest.raises(ArbiterError, match="broke before the answer"):
        executor.submit(a_spec())
    assert phase(executor) is Phase.PENDING
    assert executor.submit(a_spec()) == "fake-1"


def test_an_unreachable_executor_says_so_everywhere_and_keeps_its_clusters() -> None:
    executor = FakeExecutor(immediate=True)
    executor.submit(a_spec())
    executor.unreachable = ArbiterError("no answer")
    for call in (
        lambda: executor.submit(a_spec("other")),
        lambda: executor.observe([CLUSTER]),
        lambda: executor.terminate(CLUSTER),
        lambda: executor.inventory("me"),
    ):
        with pytest.raises(ArbiterError, match="no answer"):
            call()
    executor.unreachable = None
    assert executor.running == (CLUSTER,)


def test_a_failed_termination_ends_nothing() -> None:
    executor = FakeExecutor()
    executor.submit(a_spec())
    executor.terminate_error = ArbiterError("not now")
    with pytest.raises(ArbiterError, match="not now"):
        executor.terminate(CLUSTER)
    assert executor.running == (CLUSTER,)
    executor.terminate(CLUSTER)
    assert executor.running == ()


def test_capacity_counts_what_stands_there() -> None:
    executor = FakeExecutor()
    executor.capacity["aws/eu-north-1:spot"] = 1
    executor.submit(a_spec("one"))
    executor.submit(a_spec("two"))
    executor.submit(on_demand(a_spec("three")))
    assert phase(executor, "one") is Phase.PENDING
    failed = executor.observe(["two"])["two"]
    assert failed.phase is Phase.FAILED
    assert isinstance(failed.error, NoCapacity)
    assert phase(executor, "three") is Phase.PENDING
    executor.lose("one")
    executor.submit(a_spec("four"))
    assert phase(executor, "four") is Phase.PENDING


def test_a_wider_place_without_room_is_not_overruled_by_a_narrower_one() -> None:
    executor = FakeExecutor()
    executor.capacity = {"aws": 0, "aws/eu-north-1": 5}
    executor.submit(a_spec())
    assert phase(executor) is Phase.FAILED


def test_a_lost_cluster_is_gone() -> None:
    executor = FakeExecutor(immediate=True)
    executor.submit(a_spec())
    executor.lose(CLUSTER)
    assert phase(executor) is Phase.GONE


@pytest.mark.parametrize("place", [CLUSTER, "aws/eu-north-1"])
def test_clusters_can_be_made_to_come_up_elsewhere(place: str) -> None:
    executor = FakeExecutor()
    executor.place_elsewhere(place, "us-east-1")
    executor.submit(a_spec())
    executor.advance()
    sighting = executor.observe([CLUSTER])[CLUSTER]
    assert (sighting.region, sighting.zone) == ("us-east-1", None)


def test_a_running_cluster_can_be_found_elsewhere() -> None:
    executor = FakeExecutor(immediate=True)
    executor.submit(a_spec())
    executor.place_elsewhere(CLUSTER, "eu-west-2", "euw2-az1")
    sighting = executor.observe([CLUSTER])[CLUSTER]
    assert (sighting.region, sighting.zone) == ("eu-west-2", "euw2-az1")


def test_a_test_that_moves_what_is_not_there_is_told() -> None:
    executor = FakeExecutor(immediate=True)
    with pytest.raises(ValueError, match="ghost was never submitted"):
        executor.lose("ghost")
    executor.submit(a_spec())
    with pytest.raises(ValueError, match="is not pending but up"):
        executor.fail(CLUSTER, NoCapacity("late"))


def test_the_narrowest_name_of_a_place_wins() -> None:
    key = a_spec().offer.key
    assert names(key) == (
        "aws/standard/eu-north-1/eun1-az1/g6e.xlarge/spot",
        "aws/eu-north-1/eun1-az1:spot",
        "aws/eu-north-1/eun1-az1",
        "aws/eu-north-1:spot",
        "aws/eu-north-1",
        "aws:spot",
        "aws",
    )
    assert arranged({"aws": "wide", "aws/eu-north-1": "narrow"}, key) == "narrow"
    assert arranged({"aws/eu-west-1": "elsewhere"}, key) is None
