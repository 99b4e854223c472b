"""A fallback that is parked and started again, through the whole loop, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from arbiter.domain import Purchase, Replica, ReplicaState
from arbiter.errors import ArbiterError, LaunchRejected, NoCapacity
from arbiter.executors.fake import FakeExecutor
from arbiter.money import Price
from arbiter.planner import plan
from arbiter.store import fleet, journal
from arbiter.store.cold_starts import cold_starts
from arbiter.store.engine import Store
from tests.store.loops import Bench

SPOT = ("eu-north-1", "eun1-az1", Purchase.SPOT)
BOUGHT = ("eu-north-1", None, Purchase.ON_DEMAND)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store)
    made.policy = replace(made.policy, parked=1, max_spares=0, min_stay_s=60, max_moves_per_day=99)
    made.prices = {BOUGHT: "0.90"}
    made.order()
    made.tick(3)
    yield made
    store.close()


def fake(bench: Bench) -> FakeExecutor:
    assert isinstance(bench.executor, FakeExecutor)
    return bench.executor


def one(bench: Bench, state: ReplicaState) -> Replica:
    (found,) = [replica for replica in bench.replicas() if replica.state is state]
    return found


def until(bench: Bench, *states: ReplicaState) -> None:
    for _ in range(40):
        if sorted(replica.state for replica in bench.replicas()) == sorted(states):
            return
        bench.tick()
    raise AssertionError([replica.state for replica in bench.replicas()])


def parked(bench: Bench) -> str:
    """Spot comes back; the cluster that was the fallback."""
    bench.prices[SPOT] = "0.30"
    until(bench, ReplicaState.HEALTHY, ReplicaState.PARKED)
    return one(bench, ReplicaState.PARKED).cluster


def lose_spot(bench: Bench) -> None:
    """It is taken away, and none is offered any more."""
    del bench.prices[SPOT]
    fake(bench).lose(one(bench, ReplicaState.HEALTHY).cluster)
    bench.tick()


def until_on_spot_alone(bench: Bench) -> None:
    for _ in range(40):
        bench.tick()
        places = [replica.offer.purchase for replica in bench.replicas()]
        if places == [Purchase.SPOT]:
            return
    raise AssertionError(bench.replicas())


def test_it_is_stopped_when_spot_is_back_and_started_when_spot_is_short(bench: Bench) -> None:
    name = parked(bench)
    assert fake(bench).parked == (name,)
    assert name not in fake(bench).terminated
    assert one(bench, ReplicaState.HEALTHY).offer.purchase is Purchase.SPOT
    launches = len(fake(bench).submitted)
    lose_spot(bench)
    until(bench, ReplicaState.HEALTHY)
    again = one(bench, ReplicaState.HEALTHY)
    assert again.cluster == name
    assert [spec.cluster for spec in fake(bench).submitted[launches:]] == [name]
    assert any(f"started {name} on aws/eu-north-1" in line for line in bench.told)
    assert any(f"{name} on aws/eu-north-1 answered" in x and "its start" in x for x in bench.told)
    bench.prices[SPOT] = "0.30"
    until(bench, ReplicaState.HEALTHY, ReplicaState.PARKED)
    assert one(bench, ReplicaState.PARKED).cluster == name


def test_off_by_default_it_is_ended(bench: Bench) -> None:
    bench.policy = replace(bench.policy, parked=0)
    bench.prices[SPOT] = "0.30"
    until_on_spot_alone(bench)
    assert fake(bench).parked == ()
    assert len(fake(bench).terminated) == 1


def test_where_the_cloud_cannot_it_is_ended(bench: Bench) -> None:
    fake(bench).unparkable["aws"] = "no"
    bench.prices[SPOT] = "0.30"
    bench.tick(2)
    with bench.store.read() as connection:
        service = fleet.get_service(connection, "chat")
    assert bench.loop.preview(service).notes == ("nothing is parked on aws: no",)
    until_on_spot_alone(bench)
    assert len(fake(bench).terminated) == 1


def test_down_ends_what_is_parked(bench: Bench) -> None:
    name = parked(bench)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(3)
    assert bench.replicas() == []
    assert fake(bench).inventory(bench.loop.owner) == []
    assert name in fake(bench).terminated


def test_a_start_that_is_refused_leaves_it_parked_and_the_next_place_is_launched(
    bench: Bench,
) -> None:
    name = parked(bench)
    since = one(bench, ReplicaState.PARKED).parked_at
    bench.prices["eu-west-1", None, Purchase.ON_DEMAND] = "1.00"
    fake(bench).capacity["aws/eu-north-1"] = 0
    lose_spot(bench)
    until(bench, ReplicaState.HEALTHY, ReplicaState.PARKED)
    stays = one(bench, ReplicaState.PARKED)
    assert (stays.cluster, stays.parked_at) == (name, since)
    assert one(bench, ReplicaState.HEALTHY).offer.region == "eu-west-1"
    assert any(f"{name} was not started on aws/eu-north-1" in line for line in bench.told)
    with bench.store.read() as connection:
        assert not journal.open_actions(connection, "chat")


def test_a_start_that_is_refused_on_the_spot_leaves_it_parked(bench: Bench) -> None:
    name = parked(bench)
    fake(bench).next_launch_error = NoCapacity("none")
    lose_spot(bench)
    bench.tick(2)
    assert one(bench, ReplicaState.PARKED).cluster == name


def test_a_machine_whose_start_is_rejected_is_ended(bench: Bench) -> None:
    name = parked(bench)
    fake(bench).next_launch_error = LaunchRejected("its disk is too small")
    lose_spot(bench)
    bench.tick(3)
    assert name in fake(bench).terminated


def test_a_stop_that_fails_is_tried_again(bench: Bench) -> None:
    fake(bench).park_errors = [ArbiterError("the cloud is busy")] * 3
    name = parked(bench)
    assert [call.method for call in fake(bench).calls if call.cluster == name][-4:] == ["park"] * 4
    assert sum("was not stopped: the cloud is busy" in line for line in bench.told) == 1


def test_a_stop_that_fails_for_long_ends_the_machine(bench: Bench) -> None:
    fake(bench).park_errors = [ArbiterError("the cloud is busy")] * 500
    bench.prices[SPOT] = "0.30"
    until(bench, ReplicaState.HEALTHY, ReplicaState.PARKING)
    bench.tick(3, seconds=200)
    until_on_spot_alone(bench)
    assert any("it was not stopped within 0:10:00" in line for line in bench.told)


def test_down_in_the_middle_of_a_stop_ends_the_machine(bench: Bench) -> None:
    fake(bench).park_errors = [ArbiterError("the cloud is busy")] * 500
    bench.prices[SPOT] = "0.30"
    until(bench, ReplicaState.HEALTHY, ReplicaState.PARKING)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(3)
    assert bench.replicas() == []
    with bench.store.read() as connection:
        assert not journal.open_actions(connection, "chat")


def test_one_that_vanishes_is_told_and_forgotten(bench: Bench) -> None:
    name = parked(bench)
    fake(bench).terminate(name)
    bench.tick(3)
    assert [replica.state for replica in bench.replicas()] == [ReplicaState.HEALTHY]
    assert any(f"{name} on aws/eu-north-1 is gone although" in line for line in bench.told)


def test_a_machine_that_somebody_stops_is_replaced_and_ended(bench: Bench) -> None:
    name = one(bench, ReplicaState.HEALTHY).cluster
    bench.prices["eu-west-1", None, Purchase.ON_DEMAND] = "1.00"
    fake(bench).park(name)
    bench.tick(4)
    assert name in fake(bench).terminated
    assert one(bench, ReplicaState.HEALTHY).cluster != name


def test_what_it_really_costs_is_read_back_after_a_start(bench: Bench) -> None:
    name = parked(bench)
    fake(bench).paid[name] = Price.of("2.50")
    lose_spot(bench)
    until(bench, ReplicaState.HEALTHY)
    assert one(bench, ReplicaState.HEALTHY).paid == Price.of("2.50")
    fake(bench).place_elsewhere(name, "us-east-1")
    bench.tick(3)
    assert name in fake(bench).terminated


def test_starts_are_measured_apart_from_launches(bench: Bench) -> None:
    parked(bench)
    with bench.store.read() as connection:
        before = cold_starts(connection, bench.clock.now())
        assert cold_starts(connection, bench.clock.now(), started=True).measured == ()
    assert {(row.purchase, row.count) for row in before.measured} == {
        (Purchase.ON_DEMAND, 1),
        (Purchase.SPOT, 1),
    }
    lose_spot(bench)
    until(bench, ReplicaState.HEALTHY)
    with bench.store.read() as connection:
        assert cold_starts(connection, bench.clock.now()) == before
        (row,) = cold_starts(connection, bench.clock.now(), started=True).measured
    assert (row.purchase, row.count) == (Purchase.ON_DEMAND, 1)


def test_nobody_calls_it_an_orphan(bench: Bench) -> None:
    parked(bench)
    bench.tick(2, seconds=301)
    assert not any("belongs to no service" in line for line in bench.told)


def test_every_decision_replays_byte_for_byte(bench: Bench) -> None:
    parked(bench)
    lose_spot(bench)
    until(bench, ReplicaState.HEALTHY)
    with bench.store.read() as connection:
        rows = journal.decisions(connection, "chat", 500)
        kinds = {action.kind.value for row in rows for action in row.plan.actions}
        for row in rows:
            made = journal.inputs(connection, row.id)
            again = plan(made.now, made.quotes, made.fleet, made.policy, made.beliefs)
            assert journal.encode(again) == journal.encode(row.plan)
    assert {"park", "start"} <= kinds
