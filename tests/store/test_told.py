"""Providers' own figures of losses, from the store into a decision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from arbiter.domain import Purchase
from arbiter.provider import Parsed, Signal
from arbiter.replay import replay
from arbiter.store import journal
from arbiter.store.engine import Store
from arbiter.store.signals import write_signals
from arbiter.store.told import read_seeds
from tests.store.loops import Bench

NOW = datetime(2026, 11, 1, tzinfo=UTC)
UNIT = "percent of instances reclaimed in 30 days"


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store)
    store.close()


def band(region: str, low: int | None, high: int | None) -> Signal:
    ends = [None if one is None else Decimal(one) for one in (low, high)]
    return Signal(
        "interruption_band", UNIT, region, None, "g6.xlarge", Purchase.SPOT, *ends, f"{low}-{high}%"
    )


def tell(bench: Bench, *signals: Signal, now: datetime = NOW) -> None:
    parsed = Parsed([], signals=list(signals), signal_kinds=frozenset({"interruption_band"}))
    with bench.store.begin() as connection:
        write_signals(connection, "aws", parsed, now)


def test_figures_that_stand_are_read_with_their_age(bench: Bench) -> None:
    tell(bench, band("eu-north-1", 20, None), band("eu-west-1", None, 5))
    with bench.store.read() as connection:
        found = read_seeds(connection, NOW)
        later = read_seeds(connection, NOW + timedelta(days=60))
    assert list(found) == ["aws/eu-north-1/-/g6.xlarge", "aws/eu-west-1/-/g6.xlarge"]
    risky, safe = found.values()
    assert risky.factor > 1 > safe.factor
    assert risky.at == NOW.timestamp()
    assert 1 < later["aws/eu-north-1/-/g6.xlarge"].factor < risky.factor


def test_a_figure_that_no_longer_holds_and_other_kinds_are_left_out(bench: Bench) -> None:
    tell(bench, band("eu-north-1", 20, None))
    tell(bench, now=NOW + timedelta(hours=1))
    with bench.store.read() as connection:
        assert read_seeds(connection, NOW + timedelta(hours=2)) == {}


def test_they_decide_and_are_part_of_what_is_replayed(bench: Bench) -> None:
    bench.prices = {key: "0.30" if key[2] is Purchase.SPOT else "0.90" for key in bench.prices}
    tell(bench, band("eu-north-1", 20, None), band("eu-west-1", None, 5))
    bench.order()
    bench.tick(2)
    assert {one.offer.region for one in bench.replicas()} == {"eu-west-1"}
    tell(bench, now=NOW + timedelta(hours=1))
    with bench.store.begin() as connection:
        for row in journal.decisions(connection, "chat"):
            given = journal.inputs(connection, row.id)
            assert len(given.beliefs.seeds) == 2
            assert journal.encode(replay(given)) == journal.encode(row.plan)
