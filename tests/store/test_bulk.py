"""Writing past prices in bulk: seen at once or not at all, on both databases."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest
from sqlalchemy import func, select

from arbiter.domain import Purchase
from arbiter.store import bulk, retention, rollups
from arbiter.store.bulk import Written
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.spool import GAP, OPEN, PastPrices, SeriesFacts
from arbiter.store.tables import (
    meta,
    price_change,
    price_day,
    price_import,
    price_now,
    series,
)
from arbiter.testing import priced

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = 86_400
START = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())

Row = tuple[int, int, int]
"""From and to in days since START (0 is open), and micros."""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def facts(instance_type: str = "g6.xlarge", **other: object) -> SeriesFacts:
    known = SeriesFacts(
        "aws", "standard", "eu-north-1", "", instance_type, "spot", "USD", "L4", 1, "file"
    )
    return known._replace(**other)  # type: ignore[arg-type]


def collect(past: PastPrices, rows: Sequence[Row], of: SeriesFacts, source: str) -> None:
    number, origin = past.number(of), past.origin(source)
    for since, until, micros in rows:
        end = START + until * DAY if until else OPEN
        past.extend([number], [START + since * DAY], [end], [micros], [origin])


def bring(
    store: Store, rows: Sequence[Row], of: SeriesFacts | None = None, source: str = "file"
) -> Written:
    with PastPrices() as past, store.begin() as connection:
        collect(past, rows, of or facts(), source)
        return bulk.write(connection, past, NOW)


def poll(store: Store, book: PriceBook, at: datetime, *usd: str) -> None:
    offers = [priced("eu-north-1", one) for one in usd]
    covered = frozenset({("eu-north-1", Purchase.SPOT)})
    with store.begin() as connection:
        book.record(connection, offers, covered, PollRow("aws", at, at, "ok"))


def recorded(store: Store) -> list[tuple[float, float | None, int, str | None]]:
    """From and to in days since START, micros, and the import's source."""
    with store.read() as connection:
        rows = connection.execute(
            select(
                price_change.c.valid_from,
                price_change.c.valid_to,
                price_change.c.price_micros,
                price_import.c.source,
            )
            .outerjoin(price_import, price_import.c.id == price_change.c.import_id)
            .order_by(price_change.c.series_id, price_change.c.valid_from)
        ).all()
    return [
        ((since - START) / DAY, None if until is None else (until - START) / DAY, micros, source)
        for since, until, micros, source in rows
    ]


def count(store: Store, table: object) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_nothing_brought_writes_nothing(store: Store) -> None:
    assert bring(store, []) == Written(0)
    assert count(store, price_import) == 0


def test_an_open_price_stands_until_the_next_and_the_last_until_the_file_ends(store: Store) -> None:
    written = bring(store, [(0, 0, 100), (3, 0, 200), (5, 7, 300)])
    assert recorded(store) == [(0, 3, 100, "file"), (3, 5, 200, "file"), (5, 7, 300, "file")]
    assert (written.rows, written.new_series) == (3, 1)
    assert (written.since, written.until) == (START, START + 7 * DAY)
    second = 1 / DAY
    bring(store, [(0, 0, 100), (3, 0, 200)], facts("p5.48xlarge"))
    assert recorded(store)[-1] == (3, 3 + second, 200, "file")


def test_a_row_without_a_price_ends_the_one_before(store: Store) -> None:
    bring(store, [(0, 0, 100), (2, 0, GAP), (4, 6, 100)])
    assert recorded(store) == [(0, 2, 100, "file"), (4, 6, 100, "file")]


def test_every_row_says_where_it_comes_from(store: Store) -> None:
    with PastPrices() as past, store.begin() as connection:
        number = past.number(facts())
        seen, guessed = past.origin("seen", False), past.origin("guessed")
        past.extend(
            [number] * 2,
            [START, START + DAY],
            [START + DAY, START + 2 * DAY],
            [1, 1],
            [seen, guessed],
        )
        bulk.write(connection, past, NOW)
    with store.read() as connection:
        accounts = connection.execute(
            select(
                price_import.c.source,
                price_import.c.is_backfill,
                price_import.c.rows,
                price_import.c.at,
            )
        ).all()
    assert sorted(map(tuple, accounts)) == [("guessed", True, 1, NOW), ("seen", False, 1, NOW)]
    assert [row[3] for row in recorded(store)] == ["seen", "guessed"]


def test_importing_twice_changes_nothing(store: Store) -> None:
    rows = [(0, 3, 100), (3, 5, 200)]
    bring(store, rows)
    before = recorded(store)
    again = bring(store, rows)
    assert (again.brought, again.rows, again.new_series) == (2, 0, 0)
    assert recorded(store) == before
    assert count(store, price_import) == 1


def test_of_an_overlapping_file_only_what_is_new_is_written(store: Store) -> None:
    bring(store, [(2, 4, 100)])
    bring(store, [(0, 6, 999)], source="another")
    assert recorded(store) == [(0, 2, 999, "another"), (2, 4, 100, "file"), (4, 6, 999, "another")]


def test_neighbours_of_one_price_and_origin_become_one(store: Store) -> None:
    bring(store, [(2, 4, 100), (8, 9, 100)])
    bring(store, [(4, 8, 100), (0, 2, 700)])
    assert recorded(store) == [(0, 2, 700, "file"), (2, 9, 100, "file")]
    bring(store, [(9, 10, 100)], source="another")
    assert recorded(store)[-1] == (9, 10, 100, "another")


def test_what_arbiter_watched_is_left_alone_with_its_gaps(store: Store) -> None:
    book = PriceBook("aws")
    day = timedelta(days=1)
    first = datetime.fromtimestamp(START, UTC) + 10 * day
    poll(store, book, first, "1.00")
    poll(store, book, first + day)  # no longer sold
    poll(store, book, first + 3 * day, "1.00")
    watched = recorded(store)
    with store.read() as connection:
        standing = connection.execute(select(price_now)).all()
    bring(store, [(0, 31, 5_000_000)])
    assert recorded(store) == [(0, 10, 5_000_000, "file"), *watched]
    with store.read() as connection:
        assert connection.execute(select(price_now)).all() == standing


def test_a_price_that_was_only_imported_is_not_on_sale(store: Store) -> None:
    bring(store, [(0, 0, 100)])
    assert count(store, price_now) == 0
    assert all(row[1] is not None for row in recorded(store))


def test_nothing_is_written_beyond_now(store: Store) -> None:
    bring(store, [(30, 60, 100), (61, 62, 200)])
    assert recorded(store) == [(30, 31.5, 100, "file")]


def test_facts_that_are_known_stay(store: Store) -> None:
    poll(store, PriceBook("aws"), NOW - timedelta(days=1), "1.00")
    bring(store, [(0, 3, 100)], facts(gpu="H100", gpu_count=8))
    with store.read() as connection:
        assert connection.execute(select(series.c.gpu, series.c.gpu_count)).all() == [("L4", 1)]


def test_a_poll_goes_on_after_an_import_named_its_series(store: Store) -> None:
    book = PriceBook("aws")
    poll(store, book, NOW - timedelta(hours=2))
    bring(store, [(0, 3, 100)])
    poll(store, book, NOW - timedelta(hours=1), "1.00")
    assert count(store, series) == 1
    assert recorded(store)[-1][1:] == (None, 1_000_000, None)


def test_more_rows_than_fit_in_memory_at_once(store: Store) -> None:
    with PastPrices(run=7) as past:
        number, origin = past.number(facts()), past.origin("file")
        days = list(range(29, -1, -1))
        past.extend(
            [number] * 30,
            [START + day * DAY for day in days],
            [OPEN] * 30,
            [1 + day // 10 for day in days],
            [origin] * 30,
        )
        with store.begin() as connection:
            bulk.write(connection, past, NOW, open_until=START + 30 * DAY)
    assert recorded(store) == [(0, 10, 1, "file"), (10, 20, 2, "file"), (20, 30, 3, "file")]


def test_the_days_that_an_import_changes_are_built_again(store: Store) -> None:
    bring(store, [(5, 8, 100)])
    with store.begin() as connection:
        rollups.build(connection, NOW)
    bring(store, [(2, 4, 300)])
    with store.begin() as connection:
        rollups.build(connection, NOW)
        days = connection.execute(select(price_day.c.day, price_day.c.last_micros)).all()
    first = START // DAY
    assert sorted(map(tuple, days)) == [
        (first + 2, 300), (first + 3, 300), (first + 5, 100), (first + 6, 100), (first + 7, 100),
    ]  # fmt: skip


def test_an_import_does_not_bring_back_what_was_let_go(store: Store) -> None:
    with store.begin() as connection:
        connection.execute(
            meta.insert().values(key=retention.KEPT_SINCE, value=str(START + 5 * DAY))
        )
    bring(store, [(0, 3, 100), (4, 8, 200)])
    assert recorded(store) == [(5, 8, 200, "file")]


@pytest.mark.parametrize(
    ("since", "until", "micros"), [(-1, 0, 1), (5, 5, 1), (5, 4, 1), (1 << 33, 0, 1), (5, 0, -1)]
)
def test_columns_that_cannot_be_are_refused(since: int, until: int, micros: int) -> None:
    with PastPrices() as past, pytest.raises(ValueError, match=r"instant|stretch"):
        past.extend([past.number(facts())], [since], [until], [micros], [past.origin("file")])


# --- whole or not at all ------------------------------------------------------------------------


def test_an_import_that_fails_leaves_nothing(store: Store) -> None:
    bring(store, [(0, 1, 100)])
    before = recorded(store)

    def give_up(_rows: int) -> None:
        raise RuntimeError("the disk is on fire")

    def fail() -> None:
        with PastPrices() as past, store.begin() as connection:
            collect(past, [(3, 4, 100)], facts("p5.48xlarge"), "another")
            bulk.write(connection, past, NOW, told=give_up)

    with pytest.raises(RuntimeError, match="on fire"):
        fail()
    assert recorded(store) == before
    assert (count(store, series), count(store, price_import)) == (1, 1)


def _import_and_die(url: str) -> None:
    """In a process of its own: killed when the rows are written and not yet committed."""
    store = Store(url)
    with PastPrices(run=100) as past:
        number, origin = past.number(facts("p5.48xlarge")), past.origin("another")
        hours = range(600)
        past.extend(
            [number] * 600,
            [START + hour * 3600 for hour in hours],
            [OPEN] * 600,
            [1 + hour for hour in hours],
            [origin] * 600,
        )
        written = 0

        def count_and_die(rows: int) -> None:
            nonlocal written
            written += rows
            if written >= 300:
                os.kill(os.getpid(), signal.SIGKILL)

        with store.begin() as connection:
            bulk.write(connection, past, NOW, told=count_and_die)


def test_an_import_that_is_killed_leaves_nothing(store: Store, database_url: str) -> None:
    bring(store, [(0, 1, 100)])
    before = recorded(store)
    child = get_context("spawn").Process(target=_import_and_die, args=(database_url,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert recorded(store) == before
    assert (count(store, series), count(store, price_import)) == (1, 1)
    assert bring(store, [(3, 4, 100)]).rows == 1  # and nothing is locked
