"""What was asked of a service at its busiest, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from arbiter.counters import Counters, Window
from arbiter.demand import Demand
from arbiter.store.engine import Store
from arbiter.store.served import Reading, write_reading
from arbiter.testing import FakeClock

NOW = datetime(2026, 11, 8, 12, 2, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def counted(
    store: Store,
    *ago: timedelta,
    tokens: int,
    seconds: float = 300,
    cluster: str = "a",
    saturated: bool = False,
) -> None:
    with store.begin() as connection:
        for one in ago:
            reading = Reading(cluster, "chat", Counters(NOW - one, 1, 0, tokens), None)
            write_reading(connection, reading, Window(seconds, tokens, 0, saturated))


def spans(count: int) -> list[timedelta]:
    return [timedelta(minutes=5 * span) for span in range(1, count + 1)]


def a_calm_day(store: Store) -> None:
    counted(store, *spans(289), tokens=300)


def asked(store: Store, now: datetime = NOW) -> float | None:
    return Demand(store, FakeClock(now)).of("chat")


def test_nothing_is_known_before_a_day_was_counted(store: Store) -> None:
    assert asked(store) is None
    counted(store, *spans(286), tokens=300)
    assert asked(store) is None
    a_calm_day(store)
    assert asked(store) is not None


def test_the_busiest_five_minutes_of_a_week_are_the_demand(store: Store) -> None:
    a_calm_day(store)
    assert asked(store) == 1.0
    counted(store, timedelta(days=5), tokens=6000, cluster="a")
    counted(store, timedelta(days=5), tokens=9000, cluster="b")
    assert asked(store) == 50.0
    counted(store, timedelta(days=8), tokens=1_000_000)
    assert asked(store) == 50.0


def test_what_came_after_a_silence_is_spread_over_it(store: Store) -> None:
    a_calm_day(store)
    counted(store, timedelta(days=3), tokens=36_000, seconds=3600)
    assert asked(store) == 10.0


def test_two_servers_that_share_five_minutes_are_not_added_up(store: Store) -> None:
    a_calm_day(store)
    for cluster in "ab":
        counted(store, timedelta(days=3), tokens=1500, seconds=150, cluster=cluster)
    assert asked(store) == 10.0


def test_the_span_that_goes_on_does_not_count_yet(store: Store) -> None:
    a_calm_day(store)
    counted(store, timedelta(seconds=60), tokens=30_000)
    assert asked(store) == 1.0


def test_where_servers_had_all_they_can_do_the_demand_is_not_known(store: Store) -> None:
    a_calm_day(store)
    counted(store, timedelta(days=2), tokens=3000, seconds=300, saturated=True)
    assert asked(store) == 10.0  # five minutes are borne
    counted(store, timedelta(days=2, minutes=5), tokens=3000, saturated=True)
    assert asked(store) is None


def test_it_is_looked_up_once_in_five_minutes(store: Store) -> None:
    a_calm_day(store)
    clock = FakeClock(NOW)
    demand = Demand(store, clock)
    assert demand.of("chat") == 1.0
    counted(store, timedelta(days=1, hours=2), tokens=3000)
    assert demand.of("chat") == 1.0
    clock.advance(300)
    assert demand.of("chat") == 10.0
