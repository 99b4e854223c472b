"""A commitment that two services share: never more machines on it than are paid for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from arbiter.commitments import Commitment, in_use
from arbiter.domain import Purchase, Service
from arbiter.replay import replay
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store.loops import ATLAS, Bench

HELD = Commitment("aws", "eu-north-1", "g6.xlarge", 1, date(2027, 1, 1))


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store)
    store.close()


def test_the_second_service_finds_it_used(bench: Bench) -> None:
    bench.policy = replace(bench.policy, commitments=(HELD,), max_spares=0)
    bench.order()
    with bench.store.begin() as connection:
        fleet.add_service(connection, Service("other", "tiny"), bench.clock.now())
    bench.tick(4)
    with bench.store.read() as connection:
        running = fleet.replicas(connection, ATLAS)
        decided = journal.decisions(connection)
        replayed = [replay(journal.inputs(connection, one.id)) for one in decided]
    assert in_use(running) == {HELD.machine: 1}
    assert {one.service: one.offer.purchase for one in running} == {
        "chat": Purchase.ON_DEMAND,
        "other": Purchase.SPOT,
    }
    assert [journal.encode(one) for one in replayed] == [
        journal.encode(one.plan) for one in decided
    ]
    notes = {one.service: one.plan.notes for one in decided}
    assert "1 in use" in notes["other"][0]
