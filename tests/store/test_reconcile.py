"""The loop on a real store: what it writes and calls, and what it does when things go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from arbiter.domain import Purchase, ReplicaState
from arbiter.errors import ArbiterError, LaunchRejected, NoCapacity
from arbiter.executors.fake import FakeExecutor
from arbiter.planner import plan
from arbiter.spot.goal import Goal
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs
from arbiter.store.engine import Store
from arbiter.store.tables import replica as table
from tests.store.loops import Bench


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store)
    store.close()


def fake(bench: Bench) -> FakeExecutor:
    assert isinstance(bench.executor, FakeExecutor)
    return bench.executor


def submits(bench: Bench) -> list[str]:
    return [call.cluster for call in fake(bench).calls if call.method == "submit"]


def test_launches_once_and_reaches_health(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    (one,) = bench.replicas()
    assert one.state is ReplicaState.HEALTHY
    assert (one.offer.region, one.offer.purchase) == ("eu-north-1", Purchase.SPOT)
    assert len(submits(bench)) == 1
    with bench.store.begin() as connection:
        (decided,) = journal.decisions(connection, "chat")[-1:]
        assert decided.actions[0].state.value == "done"
        assert [event.kind for event in journal.events(connection, "chat")] == ["healthy"]


def test_a_quiet_tick_writes_no_decision(bench: Bench) -> None:
    bench.order()
    bench.tick(4)
    with bench.store.begin() as connection:
        before = len(journal.decisions(connection))
    bench.tick(5)
    with bench.store.begin() as connection:
        assert len(journal.decisions(connection)) == before


def test_every_decision_replays_byte_for_byte(bench: Bench) -> None:
    bench.order(2)
    bench.tick(3)
    fake(bench).lose(bench.replicas()[0].cluster)
    bench.tick(3)
    with bench.store.begin() as connection:
        for row in journal.decisions(connection):
            given = journal.inputs(connection, row.id)
            again = plan(given.now, given.quotes, given.fleet, given.policy, given.beliefs)
            assert journal.encode(again) == journal.encode(row.plan)


def test_a_goal_is_steered_kept_and_part_of_what_is_replayed(bench: Bench) -> None:
    bench.policy = replace(bench.policy, availability=0.999)
    bench.order()
    bench.tick(2)
    began = goal_of(bench)
    bench.tick(1)
    fake(bench).lose(bench.replicas()[0].cluster)
    bench.tick(2, seconds=600)
    short = goal_of(bench)
    assert short.wish > began.wish
    with bench.store.begin() as connection:
        newest = journal.decisions(connection, "chat")[0]
        given = journal.inputs(connection, newest.id)
        assert given.beliefs.goals["chat"].aim == "an availability of 99.9 %"
        again = plan(given.now, given.quotes, given.fleet, given.policy, given.beliefs)
        assert journal.encode(again) == journal.encode(newest.plan)


def goal_of(bench: Bench) -> Goal:
    with bench.store.begin() as connection:
        return read_beliefs(connection).goals["chat"]


def test_no_capacity_moves_it_on_and_remembers(bench: Bench) -> None:
    fake(bench).next_launch_error = NoCapacity("no g6.xlarge in eun1-az1")
    bench.order()
    bench.tick(3)
    (one,) = bench.replicas()
    assert one.offer.region == "eu-west-1"
    with bench.store.begin() as connection:
        (refusal,) = fleet.refusals(connection, bench.clock.now())
    assert refusal.key.region == "eu-north-1"
    assert not refusal.lost


def test_what_waiting_cannot_mend_is_left_alone_for_long(bench: Bench) -> None:
    fake(bench).next_launch_error = LaunchRejected("no such machine")
    bench.order()
    bench.tick(3)
    with bench.store.begin() as connection:
        (refusal,) = fleet.refusals(connection, bench.clock.now())
    assert (refusal.until - refusal.at).total_seconds() == 6 * bench.policy.refusal_max_s


def test_a_reclaimed_replica_is_replaced_elsewhere(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    first = bench.replicas()[0]
    fake(bench).lose(first.cluster)
    bench.tick(3)
    (second,) = bench.replicas()
    assert second.cluster != first.cluster
    assert second.offer.region == "eu-west-1"
    with bench.store.begin() as connection:
        assert "spot_reclaimed" in {event.kind for event in journal.events(connection, "chat")}


def test_an_answer_that_was_lost_does_not_launch_twice(bench: Bench) -> None:
    fake(bench).lose_next_answer = True
    bench.order()
    bench.tick(4)
    assert len(bench.replicas()) == 1
    assert len(set(submits(bench))) == 1
    assert bench.replicas()[0].state is ReplicaState.HEALTHY


def test_an_executor_out_of_reach_concludes_nothing(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    fake(bench).unreachable = ArbiterError("no answer from the API server", "sky api start")
    bench.tick(5)
    assert [one.state for one in bench.replicas()] == [ReplicaState.HEALTHY]
    with bench.store.begin() as connection:
        told = [e for e in journal.events(connection, "chat") if e.kind == "tick_failed"]
    assert len(told) == 1, "a trouble is told once while it lasts"
    fake(bench).unreachable = None
    bench.tick(2)
    assert len(submits(bench)) == 1


def test_a_machine_that_does_not_end_is_tried_for_ever(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    cluster = bench.replicas()[0].cluster
    fake(bench).terminate_error = ArbiterError("the cloud did not answer")
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(1)
    assert bench.replicas()[0].cluster == cluster
    bench.tick(2)
    assert bench.replicas() == []
    with bench.store.begin() as connection:
        ended = [d for d in journal.decisions(connection, "chat") if d.actions]
    assert sum(1 for d in ended for a in d.actions if a.action.kind == "terminate") == 1


def test_where_it_really_runs_is_read_back_and_ended_if_refused(bench: Bench) -> None:
    bench.order()
    bench.tick(1)
    cluster = bench.replicas()[0].cluster
    fake(bench).place_elsewhere(cluster, "eu-west-2", "euw2-az1")
    bench.tick(2)
    states = {one.cluster: one.state for one in bench.replicas(settled=True)}
    assert states[cluster] is ReplicaState.TERMINATED
    assert len(states) == 2


def test_a_silent_server_is_replaced_before_it_is_ended(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    silent = bench.replicas()[0].cluster
    bench.health.sick[silent] = "no answer"
    bench.tick(2)
    assert [one.state for one in bench.replicas()] == [ReplicaState.UNHEALTHY]
    bench.tick(10)
    (one,) = bench.replicas()
    assert one.cluster != silent
    assert one.state is ReplicaState.HEALTHY


def test_paused_observes_and_does_not_act(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", paused=True)
    calls = len(fake(bench).calls)
    fake(bench).lose(bench.replicas()[0].cluster)
    bench.tick(3)
    assert len(fake(bench).calls) == calls
    assert bench.replicas()[0].state is ReplicaState.LOST
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", paused=False)
    bench.tick(3)
    assert bench.replicas()[0].state is ReplicaState.HEALTHY


def test_a_price_flip_moves_it_without_a_gap(bench: Bench) -> None:
    bench.policy = replace(bench.policy, min_stay_s=60, max_spares=0)
    bench.order()
    bench.tick(10)
    bench.prices["eu-west-1", "euw1-az1", Purchase.SPOT] = "0.10"
    for _ in range(15):
        bench.tick()
        serving = [r for r in bench.replicas() if r.state is ReplicaState.HEALTHY]
        assert serving, "healthy replicas fell below the order by our own act"
    (one,) = bench.replicas()
    assert one.offer.region == "eu-west-1"


def test_a_move_that_is_refused_is_none_of_the_moves_of_a_day(bench: Bench) -> None:
    bench.policy = replace(bench.policy, min_stay_s=60, max_spares=0, max_moves_per_day=1)
    bench.order()
    bench.tick(10)
    bench.prices["eu-west-1", "euw1-az1", Purchase.SPOT] = "0.10"
    fake(bench).next_launch_error = NoCapacity("no g6.xlarge in euw1-az1")
    bench.tick(10)
    bench.tick(24, seconds=900)  # it ages, and is worth another try
    with bench.store.begin() as connection:
        assert "launch_failed" in {event.kind for event in journal.events(connection, "chat")}
        moved = journal.moves(connection, "chat", bench.clock.now() - timedelta(days=1))
    (one,) = bench.replicas()
    assert (one.offer.region, len(moved)) == ("eu-west-1", 1)


def test_a_broken_profile_of_one_service_leaves_the_others(bench: Bench) -> None:
    bench.order()
    from arbiter.domain import Service

    with bench.store.begin() as connection:
        gone = Service("gone", "no-such-profile")
        fleet.add_service(connection, gone, bench.clock.now())
    bench.tick(3)
    assert bench.replicas()[0].state is ReplicaState.HEALTHY
    assert any("no-such-profile" in line for line in bench.told)


def test_a_machine_of_ours_that_nobody_knows_is_reported_once(bench: Bench) -> None:
    bench.order()
    bench.tick(3)
    (one,) = bench.replicas()
    with bench.store.begin() as connection:
        connection.execute(
            update(table).where(table.c.cluster == one.cluster).values(state="terminated")
        )
        fleet.order(connection, "chat", down=True)
    bench.tick(2, seconds=301)
    orphans = [line for line in bench.told if "belongs to no service" in line]
    assert len(orphans) == 1
    assert one.cluster in orphans[0]
