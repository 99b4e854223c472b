"""Signals are stored as changes, keep their own units, and say how old they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from arbiter.domain import Offer, Place, Purchase
from arbiter.gatekeeper import Gatekeeper
from arbiter.ingest import poll_provider
from arbiter.provider import Fetched, Parsed, Signal
from arbiter.store.engine import Store
from arbiter.store.prices import PriceBook
from arbiter.store.quick_signals import read_signals
from arbiter.store.signals import history, standing, write_signals
from arbiter.store.tables import signal
from arbiter.testing import FakeClock, FakeProvider, priced

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def score(
    figure: str | None, *, zone: str | None = None, kind: str = "placement_score",
    measured: datetime | None = None, text: str = "", region: str = "eu-north-1",
) -> Signal:  # fmt: skip
    number = None if figure is None else Decimal(figure)
    return Signal(
        kind, "1..10", region, zone, "g6.xlarge", Purchase.SPOT, number, number, text, measured
    )


def write(
    store: Store, when: datetime, *signals: Signal, whole: bool = True, provider: str = "aws"
) -> int:
    kinds = frozenset({"placement_score"}) if whole else frozenset()
    with store.begin() as connection:
        return write_signals(
            connection, provider, Parsed((), (), frozenset(), signals, kinds), when
        )


def figures(store: Store, **narrowed: str) -> list[Decimal | None]:
    with store.read() as connection:
        return [one.signal.low for one in standing(connection, **narrowed)]


def rows(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(signal)).scalar_one()


def test_a_signal_is_read_back_as_it_was_said(store: Store) -> None:
    said = Signal(
        "interruption_band", "share of instances in 30 days", "eu-north-1", None, "g6.xlarge",
        None, Decimal("0.05"), None, ">5%", at(-3600),
    )  # fmt: skip
    assert write(store, at(0), said, score("7", zone="eun1-az1")) == 2
    with store.read() as connection:
        first, second = standing(connection)
    assert first.signal == said
    assert (first.provider, first.valid_from, first.measured_at) == ("aws", at(0), at(-3600))
    assert second.signal == score("7", zone="eun1-az1")
    assert second.measured_at == at(0)


def test_what_stays_the_same_is_one_row_that_was_seen_again(store: Store) -> None:
    write(store, at(0), score("7"))
    assert write(store, at(60), score("7")) == 0
    with store.read() as connection:
        (one,) = standing(connection)
    assert (one.valid_from, one.seen_at, rows(store)) == (at(0), at(60), 1)


def test_a_figure_that_is_measured_anew_is_no_change(store: Store) -> None:
    write(store, at(0), score("7", measured=at(-100)))
    assert write(store, at(60), score("7", measured=at(50))) == 0
    with store.read() as connection:
        (one,) = standing(connection)
    assert (one.measured_at, rows(store)) == (at(50), 1)


def test_a_change_ends_what_was_and_keeps_it(store: Store) -> None:
    write(store, at(0), score("7"))
    assert write(store, at(60), score("3")) == 1
    assert figures(store) == [Decimal(3)]
    with store.read() as connection:
        past = history(connection, "aws", "placement_score", at(-10))
    assert [(one.low, since, until) for one, since, until in past] == [
        (Decimal(7), at(0), at(60)),
        (Decimal(3), at(60), None),
    ]


def test_what_is_not_said_any_more_ends_only_where_its_kind_was_shown_whole(store: Store) -> None:
    write(store, at(0), score("7"), score("5", zone="eun1-az1"))
    write(store, at(60), score("8"), whole=False)
    assert figures(store) == [Decimal(8), Decimal(5)]
    with store.read() as connection:
        assert {one.seen_at for one in standing(connection)} == {at(0), at(60)}
    write(store, at(120), score("8"))
    assert figures(store) == [Decimal(8)]


def test_an_unknown_figure_is_none_and_never_zero(store: Store) -> None:
    write(store, at(0), score(None, text="Low"))
    assert figures(store) == [None]
    write(store, at(60), score("0"))
    assert figures(store) == [Decimal(0)]
    assert rows(store) == 2


def test_two_changes_within_a_second_and_a_clock_set_back(store: Store) -> None:
    for figure, when in (("1", 0), ("2", 0), ("3", -50)):
        write(store, at(when), score(figure))
    assert figures(store) == [Decimal(3)]
    assert rows(store) == 3


def test_providers_do_not_meet_and_the_answer_can_be_narrowed(store: Store) -> None:
    write(store, at(0), score("7"), score("4", region="eu-west-1"))
    write(store, at(0), score("9"), provider="azure")
    write(store, at(60), provider="azure")
    assert figures(store) == [Decimal(7), Decimal(4)]
    assert figures(store, region="eu-west-1", kind="placement_score") == [Decimal(4)]
    assert figures(store, provider="azure") == []
    assert figures(store, instance_type="other") == []


def test_a_poll_without_signals_leaves_them(store: Store) -> None:
    write(store, at(0), score("7"))
    with store.begin() as connection:
        assert write_signals(connection, "aws", Parsed(()), at(60)) == 0
    assert figures(store) == [Decimal(7)]


def test_an_offer_gets_the_signals_of_its_zone_region_and_purchase(store: Store) -> None:
    about_hardware = Signal("stock", "", "eu-north-1", None, "g6.xlarge", None, text="HIGH")
    write(store, at(0), score("7"), score("5", zone="eun1-az1"), score("2", zone="eun1-az2"),
          about_hardware)  # fmt: skip

    def offer(zone: str | None, purchase: Purchase) -> Offer:
        place = Place("aws", "eu-north-1")
        return Offer("aws", "standard", "eu-north-1", zone, "g6.xlarge", "L4", 1, purchase, place)

    spot, on_demand = offer("eun1-az1", Purchase.SPOT), offer(None, Purchase.ON_DEMAND)
    with store.read() as connection:
        found = read_signals(lambda sql: connection.exec_driver_sql(sql).all(), [spot, on_demand])
    assert [(one["kind"], one["low"]) for one in found[spot.key]] == [
        ("placement_score", 7.0),
        ("placement_score", 5.0),
        ("stock", None),
    ]
    assert [one["text"] for one in found[on_demand.key]] == ["HIGH"]
    assert found[spot.key][0]["measured_at"] == at(0)


def test_a_poll_that_says_the_same_is_only_noted(store: Store) -> None:
    """And what another process wrote in between is noticed."""
    clock, provider = FakeClock(NOON), Saying("aws", [priced()])
    book, keeper = PriceBook("aws"), Gatekeeper("aws")

    def poll(figure: str, keeper: Gatekeeper) -> None:
        clock.advance(60)
        provider.said = (score(figure),)
        poll_provider(provider, store, book, clock, lambda _: None, keeper)

    for figure in ("7", "7"):
        poll(figure, keeper)
    with store.read() as connection:
        (one,) = standing(connection)
    assert (one.valid_from, one.seen_at, rows(store)) == (at(60), at(120), 1)
    poll("3", Gatekeeper("aws"))
    poll("7", keeper)
    assert figures(store) == [Decimal(7)]
    assert rows(store) == 3


class Saying(FakeProvider):
    """Also says what it is told to."""

    said: tuple[Signal, ...] = ()

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        kinds = frozenset({"placement_score"})
        return replace(super().parse(fetched, now), signals=self.said, signal_kinds=kinds)
