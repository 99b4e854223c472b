"""Cold starts from the journal, and on the screens while a launch goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from arbiter.domain import ReplicaState
from arbiter.executors.fake import FakeExecutor
from arbiter.store import fleet
from arbiter.store.cold_starts import LOOKS_BACK, cold_starts
from arbiter.store.engine import Store
from tests.store.fleet_bench import fake
from tests.store.loops import Bench


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store, executor=FakeExecutor())
    made.policy = replace(made.policy, max_spares=0)
    yield made
    store.close()


def known(bench: Bench):  # type: ignore[no-untyped-def]
    with bench.store.read() as connection:
        return cold_starts(connection, bench.clock.now())


def launch(bench: Bench) -> None:
    """30 s until the machine is up, and 20 s until its server answers."""
    bench.order()
    bench.tick(3)
    fake(bench).advance()
    (new,) = bench.replicas()
    bench.health.sick[new.cluster] = "no answer"
    bench.tick(2)
    del bench.health.sick[new.cluster]
    bench.tick(1)


def test_the_two_parts_of_a_launch_are_measured(bench: Bench) -> None:
    launch(bench)
    (replica,) = bench.replicas()
    assert replica.state is ReplicaState.HEALTHY
    (found,) = known(bench).measured
    assert (found.profile, found.region, found.count) == ("tiny", "eu-north-1", 1)
    assert (found.machine_s, found.server_s) == (30, 20)


def test_what_was_measured_outlives_the_replica_but_not_a_month(bench: Bench) -> None:
    launch(bench)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(4)
    assert not bench.replicas()
    assert known(bench).measured
    bench.clock.advance(LOOKS_BACK.total_seconds())
    assert not known(bench).measured


def test_a_launch_that_never_answered_measures_nothing(bench: Bench) -> None:
    bench.order()
    bench.tick(2)
    assert not known(bench).measured
