"""What is let go, and what never is, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from arbiter.counters import Counters, Window
from arbiter.errors import ArbiterError
from arbiter.settings import RetentionSettings
from arbiter.store import bulk, journal, retention, rollups
from arbiter.store.engine import Store
from arbiter.store.polls import PollRow, write_poll
from arbiter.store.retention import Removed, let_go
from arbiter.store.served import Reading, readings, write_reading
from arbiter.store.spool import PastPrices, SeriesFacts
from arbiter.store.tables import (
    decision,
    event,
    poll,
    price_change,
    price_day,
    price_now,
    series,
    served,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = 86_400
FOR_EVER = RetentionSettings(None, None, None, None, None)
FACTS = SeriesFacts("aws", "standard", "r", "", "g6.xlarge", "spot", "USD", "L4", 1, "file")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def seconds(days_ago: float) -> int:
    return int(ago(days_ago).timestamp())


def bring(store: Store, *stretches: tuple[float, float], facts: SeriesFacts = FACTS) -> None:
    """Prices from and to so many days ago, each a cent dearer than the one before."""
    with PastPrices() as past, store.begin() as connection:
        number, origin = past.number(facts), past.origin("file")
        for place, (since, until) in enumerate(stretches):
            micros = 1_000_000 + place * 10_000
            past.extend([number], [seconds(since)], [seconds(until)], [micros], [origin])
        bulk.write(connection, past, NOW)


def rolled_up(store: Store) -> None:
    with store.begin() as connection:
        rollups.build(connection, NOW)


def ends(store: Store) -> list[float | None]:
    """When the recorded prices ended, days ago."""
    with store.read() as connection:
        found = connection.execute(
            select(price_change.c.valid_to).order_by(
                price_change.c.series_id, price_change.c.valid_from
            )
        ).scalars()
        return [None if end is None else (int(NOW.timestamp()) - end) / DAY for end in found]


def test_for_ever_is_for_ever(store: Store) -> None:
    bring(store, (400, 300), (300, 200))
    rolled_up(store)
    assert let_go(store, FOR_EVER, NOW) == Removed()
    assert ends(store) == [300, 200]


def test_prices_go_when_their_days_are_kept(store: Store) -> None:
    bring(store, (100, 90), (90, 80), (80, 20), (20, 1))
    assert let_go(store, RetentionSettings(prices_days=50), NOW).prices == 0  # no rollup yet
    rolled_up(store)
    with store.read() as connection:
        days = connection.execute(select(price_day).order_by(price_day.c.day)).all()
    assert let_go(store, RetentionSettings(prices_days=50), NOW).prices == 2
    assert ends(store) == [20, 1]
    rolled_up(store)
    with store.read() as connection:
        assert connection.execute(select(price_day).order_by(price_day.c.day)).all() == days
        assert retention.kept_since(connection) == seconds(50) // DAY * DAY
    assert let_go(store, RetentionSettings(prices_days=50), NOW).prices == 0


def test_what_stands_and_what_is_newest_never_goes(store: Store) -> None:
    bring(store, (100, 90), (90, 80))
    rolled_up(store)
    with store.begin() as connection:
        standing = {"series_id": 7, "valid_from": seconds(99), "price_micros": 5}
        connection.execute(
            insert(series).values(id=7, **FACTS._replace(instance_type="p5")._asdict())
        )
        connection.execute(insert(price_change).values(**standing))
        connection.execute(insert(price_now).values(**standing))
    assert let_go(store, RetentionSettings(prices_days=1), NOW).prices == 1
    assert ends(store) == [80, None]


def test_many_prices_go_in_small_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    for name in ("a", "b"):
        rows = [(100 - day, 99 - day) for day in range(10)]
        bring(store, *rows, facts=FACTS._replace(instance_type=name))
    rolled_up(store)
    assert let_go(store, RetentionSettings(prices_days=1), NOW).prices == 18
    assert ends(store) == [90, 90]


def test_polls_go_but_for_the_newest_of_each_kind(store: Store) -> None:
    polls = [("aws", 200, "ok"), ("aws", 150, "failed"), ("aws", 120, "ok"), ("azure", 300, "ok")]
    with store.begin() as connection:
        for provider, days, state in polls:
            write_poll(connection, PollRow(provider, ago(days), ago(days), state))
    assert let_go(store, RetentionSettings(polls_days=90), NOW).polls == 1
    with store.read() as connection:
        kept = connection.execute(select(poll.c.provider, poll.c.state).order_by(poll.c.id)).all()
    assert [tuple(row) for row in kept] == [("aws", "failed"), ("aws", "ok"), ("azure", "ok")]


def test_events_go_when_they_are_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    with store.begin() as connection:
        for days in (50, 40, 30, 20, 10):
            journal.add_event(connection, ago(days), "launched", f"{days} days ago")
    assert let_go(store, RetentionSettings(events_days=25), NOW).events == 3
    with store.read() as connection:
        kept = connection.execute(select(event.c.sentence).order_by(event.c.id)).scalars().all()
    assert kept == ["20 days ago", "10 days ago"]


def test_a_decision_stays_and_its_inputs_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BLOBS_AT_ONCE", 1)
    decisions = [("a1", "chat", 60), ("a2", "chat", 50), ("a3", "chat", 10), ("b1", "code", 60)]
    with store.begin() as connection:
        for name, service, days in decisions:
            plan = (
                f'{{"service":"{service}","at":"2026-09-01T00:00:00Z","actions":[],"candidates":[],'
                '"eligible":0,"refused_by_rule":{},"sentence":"kept it"}'
            )
            connection.execute(
                insert(decision).values(
                    id=name, service=service, at=ago(days), sentence="kept it", policy="default",
                    version="1", plan=plan, inputs=b"packed",
                )
            )  # fmt: skip
    assert let_go(store, RetentionSettings(decisions_inputs_days=30), NOW).decision_inputs == 2
    with store.read() as connection:
        kept = connection.execute(
            select(decision.c.id).where(decision.c.inputs == b"packed").order_by(decision.c.id)
        ).scalars()
        assert kept.all() == ["a3", "b1"]  # the newest of each service stays whole
        assert journal.get_decision(connection, "a1").sentence == "kept it"
        with pytest.raises(ArbiterError, match=r"no longer kept.*decisions_inputs_days"):
            journal.inputs(connection, "a1")
    assert let_go(store, RetentionSettings(decisions_inputs_days=30), NOW).decision_inputs == 0


def test_what_servers_made_goes_when_it_is_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    with store.begin() as connection:
        for days in (500, 450, 401, 399, 2, 0):
            for cluster in ("a", "b"):
                reading = Reading(cluster, "chat", Counters(ago(days), 1, 0, 100), 1.0)
                write_reading(connection, reading, Window(300, 100, 0, saturated=False))
        old = Reading("c", "chat", Counters(ago(3), 1, 0, 100), 1.0)
        write_reading(connection, old, None)
    assert let_go(store, FOR_EVER, NOW).served == 0
    assert let_go(store, RetentionSettings(), NOW).served == 6
    with store.read() as connection:
        left = connection.execute(select(served.c.since)).scalars().all()
        assert set(readings(connection)) == {"a", "b"}  # a server that is gone is no news
    assert len(left) == 6
    assert min(left) == seconds(399) // 300 * 300
