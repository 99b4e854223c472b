"""What questions remember between two of them is never older than what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arbiter.domain import Purchase
from arbiter.prices.as_of import Stood, as_of
from arbiter.prices.chosen import Market, NothingFound
from arbiter.prices.question import asked_at
from arbiter.provider import PricedOffer
from arbiter.regions import load_atlas
from arbiter.sovereignty import Rule
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.testing import priced

START = datetime(2026, 9, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
COVERED = frozenset({("eu-north-1", Purchase.SPOT)})


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def poll(store: Store, at: datetime, *offers: PricedOffer) -> None:
    """A poll by another process: its book knows nothing."""
    with store.begin() as connection:
        PriceBook("aws").record(connection, offers, COVERED, PollRow("aws", at, at, "ok"))


def stood(
    store: Store, now: datetime, at: datetime | None = None, **typed: Any
) -> list[tuple[str, str, str]]:
    """What stood: instance type, GPU and price."""
    question = asked_at(now, None if at is None else at.isoformat(), **typed)
    with store.read() as connection:
        market = Market(connection, load_atlas(), Rule(), now)
        try:
            prices: list[Stood] = as_of(market, question).prices
        except NothingFound:
            return []
    return [(one.instance_type, one.gpu, str(one.listed)) for one in prices]


def test_a_new_series_is_seen_by_the_next_question(store: Store) -> None:
    poll(store, START, priced(usd="1", instance_type="a"))
    assert stood(store, START) == [("a", "L4", "1")]
    poll(
        store, START + HOUR, priced(usd="1", instance_type="a"), priced(instance_type="b", usd="2")
    )
    assert stood(store, START + HOUR) == [("a", "L4", "1"), ("b", "L4", "2")]


def test_a_series_that_is_corrected_is_seen_as_it_is_now(store: Store, database_url: str) -> None:
    other = Store(database_url)
    wrong = priced(usd="1", instance_type="a", gpu="L40S")
    poll(store, START, wrong)
    assert stood(store, START, gpu="L40S") == [("a", "L40S", "1")]
    for number, gpu in enumerate(("L4", "A10G"), start=1):
        poll(other, START + number * HOUR, replace(wrong, gpu=gpu))
        assert stood(store, START + number * HOUR, gpu=gpu) == [("a", gpu, "1")]
    other.close()


def test_what_is_asked_of_now_is_what_a_later_question_says_of_it(store: Store) -> None:
    market = [
        [priced(usd="1", instance_type="a"), priced(usd="3", instance_type="b")],
        [priced(usd="1", instance_type="a")],
        [priced(usd="2", instance_type="a"), priced(usd="3", instance_type="b")],
        [],
        [priced(usd="4", instance_type="b", priced_at=START + 3 * HOUR + HOUR / 2)],
    ]
    then = []
    for number, offers in enumerate(market):
        now = START + number * HOUR
        poll(store, now, *offers)
        then.append(stood(store, now))
    assert [[price for *_, price in one] for one in then] == [
        ["1", "3"], ["1"], ["2", "3"], [], ["4"],
    ]  # fmt: skip
    end = START + len(market) * HOUR
    poll(store, end)
    assert [stood(store, end, START + n * HOUR) for n in range(len(market))] == then


def test_a_question_whose_present_is_older_than_the_newest_poll_sees_its_own(store: Store) -> None:
    poll(store, START, priced(usd="1", instance_type="a"))
    poll(store, START + HOUR, priced(usd="2", instance_type="a"))
    poll(store, START + 2 * HOUR)
    assert stood(store, START + HOUR / 2) == [("a", "L4", "1")]
    assert stood(store, START + 3 * HOUR / 2) == [("a", "L4", "2")]
    assert stood(store, START + 2 * HOUR) == []
