"""The demo's market for a day, decided by the whole loop and again from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from arbiter.demo.market import Market
from arbiter.domain import ActionKind, Offer, Purchase, Quote, Service
from arbiter.executors.fake import FakeExecutor
from arbiter.executors.places import names
from arbiter.policy import Policy
from arbiter.replay import replay
from arbiter.resources import resource_dir
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store.loops import ATLAS, Bench

MARKET = Market.load(resource_dir("data") / "demo")
START = datetime(2026, 11, 1, tzinfo=UTC)
STEP_S, DAY_S = 600, 86_400
MODEL = "llama70b-awq"

Day = tuple[list[journal.DecisionRow], list[journal.Inputs]]


@dataclass
class DemoDay(Bench):
    """A bench on the demo's market: its prices, its full places, its losses."""

    def quotes(self) -> Sequence[Quote]:
        now = self.clock.now()
        return [
            Quote(
                Offer(
                    provider,
                    sold.tier,
                    sold.region,
                    sold.zone,
                    sold.instance_type,
                    sold.gpu,
                    sold.gpu_count,
                    sold.purchase,
                    ATLAS.place(provider, sold.region),
                ),
                sold.price,
                now,
            )
            for provider in MARKET.providers
            for sold in MARKET.offers_at(provider, self.seconds)
        ]

    @property
    def seconds(self) -> float:
        """Seconds of the market's day."""
        return (self.clock.now() - START).total_seconds()

    def run(self) -> None:
        """The whole day, in steps in which the market takes what it no longer gives."""
        executor = self.executor
        assert isinstance(executor, FakeExecutor)
        while self.seconds < DAY_S:
            closed = MARKET.closed_at(self.seconds)
            executor.capacity = {name: 0 for key in closed for name in names(key)[:1]}
            for one in self.replicas():
                if one.offer.key in closed and one.cluster in executor.running:
                    executor.lose(one.cluster)
            self.tick(2, seconds=20)  # what was lost is seen, and what takes its place answers
            self.clock.advance(STEP_S - 40)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The decisions of a day, oldest first, with what they were made from."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('day') / 'arbiter.db'}")
    try:
        bench = DemoDay(store, policy=Policy(max_spares=1))
        with store.begin() as connection:
            fleet.add_service(connection, Service("chat", MODEL, 2), START)
        bench.run()
        with store.read() as connection:
            rows = journal.decisions(connection, "chat", limit=10_000)[::-1]
            return rows, [journal.inputs(connection, row.id) for row in rows]
    finally:
        store.close()


def test_the_day_has_losses_moves_and_a_fallback(
    day: Day,
) -> None:
    launches = [one for row in day[0] for one in row.plan.actions if one.kind is ActionKind.LAUNCH]
    assert {one.offer.purchase for one in launches if one.offer} == {
        Purchase.SPOT,
        Purchase.ON_DEMAND,
    }
    assert any(one.for_money for one in launches)
    assert len(launches) > 4


def test_every_decision_of_the_day_is_made_again_byte_for_byte(
    day: Day,
) -> None:
    for row, given in zip(*day, strict=True):
        assert journal.encode(replay(given)) == journal.encode(row.plan), row.sentence


def test_the_day_seen_in_reverse_is_decided_alike(
    day: Day,
) -> None:
    """A decision rests on what it was given alone, not on those before it in the process."""
    for row, given in zip(day[0][::-1], day[1][::-1], strict=True):
        shuffled = journal.Inputs(
            given.now, given.quotes[::-1], given.fleet, given.policy, given.beliefs, given.order
        )
        assert replay(shuffled).actions == row.plan.actions
