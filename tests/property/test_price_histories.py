"""Whatever is polled in whatever order, the history says it back and never contradicts itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from arbiter.domain import Purchase
from arbiter.provider import PricedOffer
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.tables import price_change, price_now, series
from arbiter.testing import priced

START = datetime(2026, 11, 1, tzinfo=UTC)
HERE = frozenset({("eu-north-1", Purchase.SPOT)})
NAMES = ("a", "b", "c")
HOUR = 3600

names = itertools.count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all examples: each is a provider of its own in it."""
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('history') / 'arbiter.db'}")
    yield opened
    opened.close()


@dataclass(frozen=True)
class Poll:
    """What one poll brings.

    Attributes:
        after_s: seconds since the one before; negative where the clock was set back.
        usd: instance type -> price of what is on sale.
        dated_s: how long ago the provider says the prices began, or None.
        whole: the region was seen whole, so that what is absent is no longer sold.
        restarted: the program was started anew before it.
    """

    after_s: int
    usd: dict[str, int]
    dated_s: int | None
    whole: bool
    restarted: bool


def polls(after: st.SearchStrategy[int], dated: st.SearchStrategy[int | None]):  # type: ignore[no-untyped-def]
    prices = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))
    one = st.builds(Poll, after, prices, dated, st.booleans(), st.booleans())
    return st.lists(one, min_size=1, max_size=8)


def play(store: Store, provider: str, history: list[Poll]) -> list[tuple[int, dict[str, int]]]:
    """Record the polls. Returns after each one: the instant, and what must stand, in micros."""
    book, now, stands, said = PriceBook(provider), START, {}, []
    kept: dict[tuple[str, int, int | None], PricedOffer] = {}
    for one in history:
        now += timedelta(seconds=one.after_s)
        if one.restarted:
            book, kept = PriceBook(provider), {}
        offers = []
        for name, usd in one.usd.items():
            since = None if one.dated_s is None else now - timedelta(seconds=one.dated_s)
            made = priced(instance_type=name, usd=str(usd), priced_at=since)
            offers.append(kept.setdefault((name, usd, one.dated_s), made))
        covered = HERE if one.whole else frozenset()
        with store.begin() as connection:
            book.record(connection, offers, covered, PollRow(provider, now, now, "ok"))
        brought = {name: usd * 1_000_000 for name, usd in one.usd.items()}
        stands = brought if one.whole else {**stands, **brought}
        said.append((int(now.timestamp()), stands))
    return said


def intervals(store: Store, provider: str) -> dict[str, list[tuple[int, int | None, int]]]:
    """Instance type -> (from, to, micros), in order."""
    query = (
        select(
            series.c.instance_type,
            price_change.c.valid_from,
            price_change.c.valid_to,
            price_change.c.price_micros,
        )
        .join(series, series.c.id == price_change.c.series_id)
        .where(series.c.provider == provider)
        .order_by(price_change.c.valid_from)
    )
    found: dict[str, list[tuple[int, int | None, int]]] = {name: [] for name in NAMES}
    with store.read() as connection:
        for name, start, end, micros in connection.execute(query):
            found[name].append((start, end, micros))
    return found


def standing(store: Store, provider: str) -> dict[str, tuple[int, int]]:
    """Instance type -> (since, micros) in the table of what stands."""
    query = (
        select(series.c.instance_type, price_now.c.valid_from, price_now.c.price_micros)
        .join(series, series.c.id == price_now.c.series_id)
        .where(series.c.provider == provider)
    )
    with store.read() as connection:
        return {name: (since, micros) for name, since, micros in connection.execute(query)}


def as_of(history: dict[str, list[tuple[int, int | None, int]]], instant: int) -> dict[str, int]:
    return {
        name: micros
        for name, rows in history.items()
        for start, end, micros in rows
        if start <= instant and (end is None or instant < end)
    }


@settings(deadline=None, max_examples=60)
@given(polls(st.integers(1, HOUR), st.none()))
def test_the_price_as_of_every_poll_is_what_that_poll_said(
    store: Store, history: list[Poll]
) -> None:
    provider = f"p{next(names)}"
    said = play(store, provider, history)
    found = intervals(store, provider)
    for instant, stands in said:
        assert as_of(found, instant) == stands


@settings(deadline=None, max_examples=60)
@given(
    polls(
        st.integers(-2 * HOUR, 2 * HOUR) | st.sampled_from([0, 1, -1, 400 * 24 * HOUR]),
        st.none() | st.integers(-HOUR, 3 * HOUR),
    )
)
def test_no_clock_and_no_date_makes_intervals_overlap(store: Store, history: list[Poll]) -> None:
    provider = f"p{next(names)}"
    _, stands = play(store, provider, history)[-1]
    found = intervals(store, provider)

    for rows in found.values():
        assert all(end is None or start < end for start, end, _ in rows)
        for (_, end, _), (following, _, _) in itertools.pairwise(rows):
            assert end is not None
            assert end <= following
    open_now = {
        name: (rows[-1][0], rows[-1][2])
        for name, rows in found.items()
        if rows and rows[-1][1] is None
    }
    assert standing(store, provider) == open_now
    assert {name: micros for name, (_, micros) in open_now.items()} == stands
