"""What the tests of the fleet's promises share: a service that is up, and how it is asked."""

from __future__ import annotations

from arbiter.domain import Purchase, Replica, ReplicaState
from arbiter.executors.fake import FakeExecutor
from arbiter.gateway.fake import FakeGateway
from arbiter.store import journal
from tests.store.loops import Bench

CHEAP = ("eu-west-1", "euw1-az1", Purchase.SPOT)


def fake(bench: Bench) -> FakeExecutor:
    assert isinstance(bench.executor, FakeExecutor)
    return bench.executor


def gateway(bench: Bench) -> FakeGateway:
    assert bench.gateway is not None
    return bench.gateway


def kinds(bench: Bench) -> list[str]:
    with bench.store.read() as connection:
        return [event.kind for event in journal.events(connection)]


def up(bench: Bench, replicas: int = 1) -> Replica:
    bench.order(replicas)
    bench.tick(3)
    return bench.replicas()[0]


def move(bench: Bench) -> tuple[str, str]:
    """Make another place cheaper, until the old replica is taken out of traffic."""
    old = up(bench).cluster
    bench.tick(10)
    bench.prices[CHEAP] = "0.10"
    for _ in range(20):
        bench.tick()
        states = {one.cluster: one.state for one in bench.replicas()}
        if states.get(old) is ReplicaState.DRAINING:
            return old, next(cluster for cluster in states if cluster != old)
    raise AssertionError("it was not moved")
