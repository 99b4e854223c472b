"""Prices are stored as changes: what stands, since when, until when, and when it was last seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from arbiter.domain import Purchase
from arbiter.provider import PricedOffer
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook, last_polls, write_poll
from arbiter.store.tables import coverage, poll, price_change, price_now, series
from arbiter.testing import priced

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HERE = frozenset({("eu-north-1", Purchase.SPOT)})
HOUR = 3600


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def epoch(instant: datetime) -> int:
    return int(instant.timestamp())


def record(
    store: Store,
    book: PriceBook,
    when: datetime,
    *offers: PricedOffer,
    covered: frozenset[tuple[str, Purchase]] = HERE,
) -> PollRow:
    """One poll that brought these offers."""
    with store.begin() as connection:
        return book.record(connection, offers, covered, PollRow(book.provider, when, when, "ok"))


def intervals(store: Store) -> list[tuple[str, int, int | None, int]]:
    """(instance type, from, to, micros) of every interval, times in seconds since noon."""
    with store.read() as connection:
        rows = connection.execute(
            select(
                series.c.instance_type,
                price_change.c.valid_from,
                price_change.c.valid_to,
                price_change.c.price_micros,
            )
            .join(series, series.c.id == price_change.c.series_id)
            .order_by(series.c.instance_type, price_change.c.valid_from)
        ).all()
    noon = epoch(NOON)
    return [
        (name, start - noon, None if end is None else end - noon, micros)
        for name, start, end, micros in rows
    ]


def standing(store: Store) -> dict[str, int]:
    with store.read() as connection:
        rows = connection.execute(
            select(series.c.instance_type, price_now.c.price_micros).join(
                series, series.c.id == price_now.c.series_id
            )
        )
        return {row[0]: row[1] for row in rows}


def count_of(store: Store, table: object) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]


def seen_at(store: Store) -> int:
    """When the region was last seen whole, in seconds since noon."""
    with store.read() as connection:
        return connection.execute(select(coverage.c.seen_at)).scalar_one() - epoch(NOON)


def test_a_first_price_begins_when_it_is_seen(store: Store) -> None:
    row = record(store, PriceBook("aws"), at(0), priced(usd="1.50"))

    assert (row.offers, row.changes, row.withdrawn) == (1, 1, 0)
    assert intervals(store) == [("g6.xlarge", 0, None, 1_500_000)]


def test_a_price_that_the_provider_dates_begins_then(store: Store) -> None:
    record(store, PriceBook("aws"), at(0), priced(priced_at=at(-HOUR)))
    assert intervals(store) == [("g6.xlarge", -HOUR, None, 1_000_000)]


def test_a_date_in_the_future_is_not_believed(store: Store) -> None:
    record(store, PriceBook("aws"), at(0), priced(priced_at=at(HOUR)))
    assert intervals(store) == [("g6.xlarge", 0, None, 1_000_000)]


def test_a_change_closes_the_interval_and_opens_the_next(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(usd="1.00"), priced(instance_type="other"))
    row = record(store, book, at(60), priced(usd="1.25"), priced(instance_type="other"))

    assert (row.changes, row.withdrawn) == (1, 0)
    assert intervals(store) == [
        ("g6.xlarge", 0, 60, 1_000_000),
        ("g6.xlarge", 60, None, 1_250_000),
        ("other", 0, None, 1_000_000),
    ]
    assert standing(store) == {"g6.xlarge": 1_250_000, "other": 1_000_000}


def test_a_change_dated_by_the_provider_lies_within_the_old_interval(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(usd="1.00"))
    record(store, book, at(600), priced(usd="2.00", priced_at=at(400)))
    assert intervals(store) == [
        ("g6.xlarge", 0, 400, 1_000_000),
        ("g6.xlarge", 400, None, 2_000_000),
    ]


def test_a_change_dated_before_the_old_interval_begins_when_it_is_seen(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(usd="1.00"))
    record(store, book, at(600), priced(usd="2.00", priced_at=at(-400)))
    assert intervals(store) == [
        ("g6.xlarge", 0, 600, 1_000_000),
        ("g6.xlarge", 600, None, 2_000_000),
    ]


@pytest.mark.parametrize("same_objects", [True, False])
@pytest.mark.parametrize("new_book", [True, False])
def test_a_poll_that_changes_nothing_writes_only_its_heartbeat(
    store: Store, same_objects: bool, new_book: bool
) -> None:
    offers = [priced(), priced(instance_type="other")]
    book = PriceBook("aws")
    record(store, book, at(0), *offers)
    before = intervals(store)

    again = offers if same_objects else [priced(), priced(instance_type="other")]
    row = record(store, PriceBook("aws") if new_book else book, at(60), *again)

    assert (row.offers, row.changes, row.withdrawn) == (2, 0, 0)
    assert intervals(store) == before
    assert count_of(store, poll) == 2
    assert seen_at(store) == 60


def test_what_is_no_longer_sold_is_closed(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced())
    row = record(store, book, at(60))

    assert (row.offers, row.changes, row.withdrawn) == (0, 0, 1)
    assert intervals(store) == [("g6.xlarge", 0, 60, 1_000_000)]
    assert standing(store) == {}


def test_what_was_not_looked_at_still_stands(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced())
    row = record(store, book, at(60), covered=frozenset())

    assert row.withdrawn == 0
    assert standing(store) == {"g6.xlarge": 1_000_000}
    assert seen_at(store) == 0  # and it grows old


def test_the_very_same_offers_with_more_covered_withdraw_the_rest(store: Store) -> None:
    """The comparison by identity must look at what is covered, too."""
    book, kept = PriceBook("aws"), (priced(),)
    record(store, book, at(0), *kept, priced(instance_type="other"))

    def again(when: datetime, covered: frozenset[tuple[str, Purchase]]) -> PollRow:
        with store.begin() as connection:
            return book.record(connection, kept, covered, PollRow("aws", when, when, "ok"))

    assert again(at(60), frozenset()).withdrawn == 0
    assert again(at(120), HERE).withdrawn == 1
    assert standing(store) == {"g6.xlarge": 1_000_000}


@pytest.mark.parametrize("usd", ["1.00", "3.00"])
@pytest.mark.parametrize("dated", [None, -HOUR, 90])
def test_what_comes_back_leaves_a_gap(store: Store, usd: str, dated: int | None) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced())
    record(store, book, at(60))
    offer = priced(usd=usd, priced_at=None if dated is None else at(dated))
    row = record(store, book, at(120), offer)

    back = 90 if dated == 90 else 120
    assert row.changes == 1
    assert intervals(store) == [
        ("g6.xlarge", 0, 60, 1_000_000),
        ("g6.xlarge", back, None, offer.price.micros),
    ]


def test_zones_purchases_tiers_and_currencies_are_series_of_their_own(store: Store) -> None:
    offers = [
        priced(),
        priced(zone="eun1-az1"),
        priced(purchase=Purchase.ON_DEMAND),
        priced(tier="secure"),
        priced(region="eu-west-1"),
    ]
    row = record(store, PriceBook("aws"), at(0), *offers)
    assert row.changes == count_of(store, series) == 5


def test_of_two_prices_for_one_offer_the_last_counts_and_does_not_flap(store: Store) -> None:
    book = PriceBook("aws")
    for seconds in (0, 60, 120):
        record(store, book, at(seconds), priced(usd="1.00"), priced(usd="2.00"))
    assert intervals(store) == [("g6.xlarge", 0, None, 2_000_000)]


def test_a_corrected_gpu_is_written_without_a_price_row(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(gpu="T4"))
    row = record(store, book, at(60), priced(gpu="L4", gpu_count=2))

    assert row.changes == 0
    with store.read() as connection:
        facts = connection.execute(select(series.c.gpu, series.c.gpu_count)).one()
    assert tuple(facts) == ("L4", 2)
    assert len(intervals(store)) == 1


def test_two_providers_do_not_meet(store: Store) -> None:
    aws, azure = PriceBook("aws"), PriceBook("azure")
    record(store, aws, at(0), priced(usd="1.00"))
    record(store, azure, at(1), priced(usd="2.00"))
    assert record(store, aws, at(60)).withdrawn == 1
    assert standing(store) == {"g6.xlarge": 2_000_000}


def test_a_second_writer_is_noticed(store: Store) -> None:
    """The daemon and a poll typed beside it: neither writes what the other has written."""
    daemon, typed = PriceBook("aws"), PriceBook("aws")
    offers = [priced(usd="1.00")]
    record(store, daemon, at(0), *offers)
    record(store, typed, at(60), priced(usd="2.00"))
    row = record(store, daemon, at(120), *offers)  # the very objects it had before

    assert row.changes == 1
    assert intervals(store) == [
        ("g6.xlarge", 0, 60, 1_000_000),
        ("g6.xlarge", 60, 120, 2_000_000),
        ("g6.xlarge", 120, None, 1_000_000),
    ]


def test_writers_at_the_same_time_write_each_change_once(database_url: str) -> None:
    """As of several programs: each with its own connections, its own book, and the same news."""
    Store(database_url).close()
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def write(provider: str) -> None:
        opened, book = Store(database_url), PriceBook(provider)
        try:
            for turn in range(5):
                together.wait(30)
                offers = [
                    priced(instance_type=f"m{number}", usd=str(1 + turn)) for number in range(20)
                ]
                record(opened, book, at(60 * turn), *offers)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
            together.abort()
        finally:
            opened.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in ("aws", "azure") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    store = Store(database_url)
    assert count_of(store, series) == 2 * 20
    assert count_of(store, price_change) == 2 * 20 * 5
    assert set(standing(store).values()) == {5_000_000}
    store.close()


def test_a_book_whose_transaction_was_lost_starts_again(store: Store) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(usd="1.00"))
    with store.begin() as connection:
        lost = PollRow("aws", at(60), at(60), "ok")
        book.record(connection, [priced(usd="2.00")], HERE, lost)
        connection.rollback()
    book.forget()
    # Another program's poll takes the number that the lost one had.
    with store.begin() as connection:
        write_poll(connection, PollRow("aws", at(70), at(70), "failed"))

    row = record(store, book, at(120), priced(usd="2.00"))
    assert row.changes == 1
    assert intervals(store)[-1] == ("g6.xlarge", 120, None, 2_000_000)


def test_a_clock_set_back_a_little_makes_nothing_older_and_no_interval_negative(
    store: Store,
) -> None:
    book = PriceBook("aws")
    record(store, book, at(0), priced(usd="1.00"))
    record(store, book, at(-10), priced(usd="2.00"))
    record(store, book, at(-5))

    assert seen_at(store) == 0
    assert intervals(store) == [("g6.xlarge", 0, 1, 1_000_000), ("g6.xlarge", 1, 2, 2_000_000)]


def test_a_clock_that_was_far_ahead_leaves_no_trace_on_later_prices(store: Store) -> None:
    book, year = PriceBook("aws"), 365 * 24 * HOUR
    record(store, book, at(0), priced(usd="1.00"))
    record(store, book, at(year), priced(usd="1.00"))
    assert seen_at(store) == year
    record(store, book, at(60), priced(usd="2.00"))

    assert seen_at(store) == 60  # or a dead provider would look fresh for a year
    assert intervals(store) == [("g6.xlarge", 0, 60, 1_000_000), ("g6.xlarge", 60, None, 2_000_000)]


def test_the_newest_poll_of_each_provider_reads_back_equal(store: Store) -> None:
    newest = PollRow(
        "aws", at(1), at(2), "degraded", 3, 2, 1, {"not a GPU": 4, "price is 0": 1}, 1, ("a", "b")
    )
    failed = PollRow("azure", at(3), at(4), "failed", reasons=("no answer",))
    with store.begin() as connection:
        write_poll(connection, PollRow("aws", at(0), at(0), "ok"))
        write_poll(connection, failed)
        write_poll(connection, newest)
    with store.read() as connection:
        assert last_polls(connection) == [newest, failed]
