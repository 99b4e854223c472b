"""What was polled reads back equal, by SQLAlchemy and by the bare driver alike."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import make_url

from arbiter.domain import Offer, OfferKey, Purchase, Quote, Refusal
from arbiter.errors import StoreError
from arbiter.money import MICROS, Price
from arbiter.provider import PricedOffer
from arbiter.regions import Atlas, load_atlas
from arbiter.store import fleet
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.quotes import LAST_POLLS, OlderSchema, open_quick, read_quotes, read_refusals
from arbiter.store.rates import Published, write_rates
from arbiter.testing import priced

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def atlas() -> Atlas:
    return load_atlas()


OFFERS = (
    priced(usd="0.123456"),
    priced(zone="eun1-az1", usd="1.5", priced_at=NOON - timedelta(hours=3)),
    priced(purchase=Purchase.ON_DEMAND, usd="98765.4321"),
    priced(region="nowhere-1", instance_type="p5.48xlarge", gpu="H100", gpu_count=8, tier="secure"),
)


def record(store: Store, when: datetime, *offers: PricedOffer) -> None:
    covered = frozenset({("eu-north-1", purchase) for purchase in Purchase})
    with store.begin() as connection:
        PriceBook("aws").record(connection, offers, covered, PollRow("aws", when, when, "ok"))


def expected(atlas: Atlas, seen: datetime) -> list[Quote]:
    return [
        Quote(
            Offer(
                "aws",
                one.tier,
                one.region,
                one.zone,
                one.instance_type,
                one.gpu,
                one.gpu_count,
                one.purchase,
                atlas.place("aws", one.region),
            ),
            one.price,
            seen if one.region == "eu-north-1" else datetime.fromtimestamp(0, UTC),
            one.priced_at,
            "fake",
        )
        for one in OFFERS
    ]


def both_ways(store: Store, atlas: Atlas) -> list[Quote]:
    """The quotes, after a check that both readers say the same."""
    with store.read() as connection:
        slow = read_quotes(lambda sql: connection.exec_driver_sql(sql), atlas)
    reader = open_quick(store.url)
    quick = read_quotes(reader, atlas)
    reader.close()
    assert quick == slow
    return quick


def test_quotes_read_back_equal(store: Store, atlas: Atlas) -> None:
    record(store, NOON, *OFFERS)
    assert both_ways(store, atlas) == expected(atlas, NOON)


def test_every_quote_of_a_region_is_as_old_as_its_last_poll(store: Store, atlas: Atlas) -> None:
    """And a region that was never seen whole is as old as can be."""
    record(store, NOON, *OFFERS)
    later = NOON + timedelta(minutes=5)
    record(store, later, *OFFERS)
    quotes = both_ways(store, atlas)
    assert quotes == expected(atlas, later)
    assert quotes[3].observed_at == datetime.fromtimestamp(0, UTC)


def in_currency(currency: str, amount: str) -> PricedOffer:
    return replace(priced(), price=Price.of(amount, currency))


@pytest.mark.parametrize(
    ("listed", "usd", "told"),
    [
        (("EUR", "2"), "2.3", "2 EUR by the ECB rate of 2026-10-30"),
        (("GBP", "0.8"), "1.022222", "0.8 GBP by the ECB rate of 2026-10-29"),
    ],
)
def test_a_price_of_another_currency_is_in_dollars_by_the_rate_of_its_day(
    store: Store, atlas: Atlas, listed: tuple[str, str], usd: str, told: str
) -> None:
    record(store, NOON, in_currency(*listed))
    rates = [("USD", 30, "1.15"), ("USD", 29, "9"), ("GBP", 29, "0.9"), ("JPY", 30, "160")]
    published = [
        Published(name, date(2026, 10, day), int(Decimal(rate) * MICROS))
        for name, day, rate in rates
    ]
    after = Published("USD", date(2026, 11, 2), 5 * MICROS)
    with store.begin() as connection:
        write_rates(connection, [*published, after], "ECB", NOON)
    (quote,) = both_ways(store, atlas)
    assert quote.price == Price.of(usd)
    assert quote.source == f"fake; {told}"


@pytest.mark.parametrize("day", [date(2026, 10, 24), date(2026, 11, 2)])
def test_without_a_rate_of_its_day_a_price_stays_in_its_currency(
    store: Store, atlas: Atlas, day: date
) -> None:
    record(store, NOON, in_currency("EUR", "2"))
    with store.begin() as connection:
        write_rates(connection, [Published("USD", day, 1_150_000)], "ECB", NOON)
    (quote,) = both_ways(store, atlas)
    assert (quote.price, quote.source) == (Price.of("2", "EUR"), "fake")


def test_what_is_withdrawn_is_no_quote(store: Store, atlas: Atlas) -> None:
    record(store, NOON, *OFFERS)
    record(store, NOON + timedelta(minutes=5), OFFERS[1])
    assert [quote.offer.zone for quote in both_ways(store, atlas)] == ["eun1-az1", None]


def test_one_place_object_for_each_region(store: Store, atlas: Atlas) -> None:
    record(store, NOON, *OFFERS)
    first, second, *_ = both_ways(store, atlas)
    assert first.offer.place is second.offer.place


def test_refusals_read_back_equal(store: Store) -> None:
    key = OfferKey("aws", "standard", "eu-north-1", None, "g6.xlarge", Purchase.SPOT)
    refusals = [
        Refusal(key, NOON, NOON + timedelta(minutes=5), 1, "no capacity"),
        Refusal(key, NOON + timedelta(seconds=1), NOON + timedelta(hours=1), 2, "gone", lost=True),
    ]
    with store.begin() as connection:
        for one in refusals:
            fleet.add_refusal(connection, "svc", one)
    assert read_refusals(open_quick(store.url)) == refusals


def test_a_reader_that_is_dropped_closes_its_connection(store: Store) -> None:
    """An unclosed connection would be a ResourceWarning, and so a failure here."""
    record(store, NOON, *OFFERS)
    rows = open_quick(store.url)(LAST_POLLS)
    gc.collect()
    assert [tuple(row[:2]) for row in rows] == [("aws", "ok")]


def test_a_quick_reader_cannot_write(store: Store) -> None:
    reader = open_quick(store.url)
    with pytest.raises(Exception, match=r"read-?only"):
        reader("DELETE FROM poll")
    reader.close()


def test_a_reader_waits_for_no_writer(store: Store, atlas: Atlas) -> None:
    """A writer in the middle of its transaction neither blocks readers nor shows its draft."""
    record(store, NOON, *OFFERS)
    with store.begin() as connection:
        connection.exec_driver_sql("UPDATE price_now SET price_micros = 1")
        assert [quote.price for quote in both_ways(store, atlas)] == [one.price for one in OFFERS]


def test_an_empty_database_has_no_prices_yet(empty_database_url: str) -> None:
    with pytest.raises(StoreError, match=r"no prices are stored yet.*arbiter poll"):
        open_quick(empty_database_url)


@pytest.mark.parametrize("found", ["0000", "9999"])
def test_another_schema_is_told(store: Store, found: str) -> None:
    with store.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{found}'")
    with pytest.raises(OlderSchema, match=found):
        open_quick(store.url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(StoreError, match=r"x\.db is not a database"):
        open_quick(f"sqlite:///{file}")


def test_a_server_that_does_not_answer_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        open_quick("postgresql://me:hunter2@127.0.0.1:9/x")
    assert "PostgreSQL does not answer" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_any_path_is_the_same_file_for_both_readers(tmp_path: Path, atlas: Atlas) -> None:
    url = make_url("sqlite://").set(database=str(tmp_path / "a b#c ü%" / "x.db"))
    store = Store(url.render_as_string(hide_password=False))
    record(store, NOON, *OFFERS)
    assert both_ways(store, atlas)[0].price == Price.of("0.123456")
    store.close()
