"""A model that never serves anywhere: how often machines are paid for to find that out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from arbiter.domain import ReplicaState
from arbiter.health import Health, Probe
from arbiter.replay import replay
from arbiter.store import journal
from arbiter.store.engine import Store
from tests.store.fleet_bench import fake, kinds
from tests.store.loops import Bench, ToldHealth


class Broken(ToldHealth):
    """Answers rubbish everywhere, until it is mended."""

    mended = False

    def check(self, probes: Mapping[str, Probe]) -> Mapping[str, Health]:
        if self.mended:
            return super().check(probes)
        return {one: Health(False, "/v1/models answered rubbish", answers=True) for one in probes}


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store, health=Broken())
    made.policy = replace(made.policy, max_spares=0)
    yield made
    store.close()


def launches(bench: Bench) -> int:
    return len(bench.replicas(settled=True))


def test_a_model_that_never_serves_is_tried_ever_less_often(bench: Bench) -> None:
    bench.order()
    bench.tick(14, seconds=120)
    assert launches(bench) == 2, "the second at once"
    assert bench.replicas() == []
    assert kinds(bench).count("never_served") == 1
    with bench.store.read() as connection:
        told = journal.last_sentence(connection, "chat", bench.clock.now())
    assert told is not None
    assert "the last 2 machines never served" in told
    assert "/v1/models answered rubbish" in told
    bench.tick(76, seconds=120)
    assert launches(bench) == 5, "three hours of them would be sixteen"


def test_who_orders_it_again_need_not_wait(bench: Bench) -> None:
    bench.order()
    bench.tick(14, seconds=120)
    assert bench.replicas() == []
    bench.order()
    bench.tick(1)
    assert len(bench.replicas()) == 1


def test_one_that_serves_ends_it(bench: Bench) -> None:
    assert isinstance(bench.health, Broken)
    bench.order()
    bench.tick(14, seconds=120)
    bench.health.mended = True
    bench.tick(6, seconds=120)
    (serves,) = bench.replicas()
    assert serves.state is ReplicaState.HEALTHY
    fake(bench).lose(serves.cluster)
    bench.tick(2)
    assert bench.replicas() != [], "launched again at once"
    with bench.store.read() as connection:
        for row in journal.decisions(connection, "chat"):
            given = journal.inputs(connection, row.id)
            assert journal.encode(replay(given)) == journal.encode(row.plan), row.sentence
