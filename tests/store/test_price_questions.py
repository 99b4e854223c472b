"""The questions about recorded prices, on both databases: answers that one can work out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from arbiter.domain import Purchase
from arbiter.errors import ArbiterError
from arbiter.prices.as_of import as_of
from arbiter.prices.changes import changes
from arbiter.prices.chosen import GROUPS, Market
from arbiter.prices.history import history, on_grid
from arbiter.prices.index import index, median
from arbiter.prices.question import Question, asked, asked_at
from arbiter.prices.seasonality import seasonality
from arbiter.prices.stats import below, stats
from arbiter.provider import PastPrice, PricedOffer
from arbiter.regions import load_atlas
from arbiter.sovereignty import Rule
from arbiter.store import bulk, rollups
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.rates import Published, held, write_rates
from arbiter.store.spool import PastPrices
from arbiter.testing import priced

START = datetime(2026, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


class Watched:
    """A provider that is polled."""

    def __init__(self, store: Store, name: str = "aws") -> None:
        self._store, self._name, self._book = store, name, PriceBook(name)

    def sells(self, at: datetime, *offers: PricedOffer) -> None:
        covered = frozenset((r, p) for r in ("eu-north-1", "eu-west-2", "fr-par-2")
                            for p in Purchase)  # fmt: skip
        with self._store.begin() as connection:
            self._book.record(connection, offers, covered, PollRow(self._name, at, at, "ok"))


@contextmanager
def market(store: Store, now: datetime) -> Iterator[Market]:
    with store.read() as connection:
        yield Market(connection, load_atlas(), Rule(), now)


def ask(now: datetime, **typed: Any) -> Question:
    return asked(now, **{"since": "1000d", **typed})


def h100(usd: str, **other: Any) -> PricedOffer:
    return priced("eu-north-1", usd, instance_type="8x", gpu="H100", gpu_count=8, **other)


# --- what files alone have told --------------------------------------------------------------


def imported(store: Store, now: datetime, until: datetime, *offers: PricedOffer) -> None:
    """The past of offers until an instant, as a file has it."""
    with PastPrices() as past, store.begin() as connection:
        past.extend_prices("aws", [PastPrice(one, START, until) for one in offers])
        bulk.write(connection, past, now)


def test_what_stood_is_known_of_a_place_that_was_never_polled(store: Store) -> None:
    imported(store, START + 9 * DAY, START + 2 * DAY, h100("8"))
    with market(store, START + 9 * DAY) as asked_of:
        (stood,) = as_of(asked_of, asked_at(START + 9 * DAY, "2026-09-02")).prices
        assert (stood.price, stood.since) == (Decimal(1), START)
        with pytest.raises(ArbiterError, match="nothing was on sale at 2026-09-03") as refused:
            as_of(asked_of, asked_at(START + 9 * DAY, "2026-09-03"))
    assert "its newest change is of 2026-09-01" in str(refused.value)


def test_what_stood_after_the_last_poll_is_known_beside_what_stands_still(store: Store) -> None:
    watched = Watched(store)
    watched.sells(START - DAY, h100("24"), priced("eu-north-1", "3"))
    watched.sells(START - HOUR, priced("eu-north-1", "3"))
    imported(store, START + DAY, START + DAY, h100("8"))
    with market(store, START + DAY) as asked_of:
        prices = as_of(asked_of, asked_at(START + DAY, "2026-08-31T23:30:00")).prices
        assert [one.gpu for one in prices] == ["L4"]
        prices = as_of(asked_of, asked_at(START + DAY, "2026-09-01T00:00:00")).prices
        assert [(one.gpu, one.price) for one in prices] == [("H100", Decimal(1))]


# --- a day of one machine -------------------------------------------------------------------


@pytest.fixture
def day(store: Store) -> Store:
    """8 USD for 6 hours, 16 for 6, nothing for 6, 8 again for 6: 1, 2, -, 1 per GPU."""
    watched = Watched(store)
    watched.sells(START, h100("8"))
    watched.sells(START + 6 * HOUR, h100("16"))
    watched.sells(START + 12 * HOUR)
    watched.sells(START + 18 * HOUR, h100("8"))
    watched.sells(START + DAY, h100("8"))
    return store


def test_stats_weigh_by_time_and_count_what_is_missing(day: Store) -> None:
    with market(day, START + DAY) as asked_of:
        row = stats(asked_of, ask(START + DAY, begin="2026-09-01", since=None)).rows[0]
    assert (row.hours_covered, row.hours_missing) == (18.0, 6.0)
    assert (row.min, row.p50, row.p75, row.max) == tuple(map(Decimal, ("1", "1", "2", "2")))
    assert row.mean == Decimal("1.333333")
    assert row.changes == 1, "to come back on sale is no change"
    assert row.volatility is None, "of one day"


def test_a_window_begins_with_the_price_carried_in(day: Store) -> None:
    question = ask(START + DAY, begin="2026-09-01T03:00", end="2026-09-01T09:00", since=None)
    with market(day, START + DAY) as asked_of:
        row = stats(asked_of, question).rows[0]
    assert (row.mean, row.hours_covered, row.changes) == (Decimal("1.5"), 6.0, 1)


def test_a_change_at_the_first_instant_of_the_window_is_in_it(day: Store) -> None:
    question = ask(START + DAY, begin="2026-09-01T06:00", end="2026-09-01T12:00", since=None)
    with market(day, START + DAY) as asked_of:
        assert stats(asked_of, question).rows[0].changes == 1
        found = changes(asked_of, question).changes
    assert [(one.kind, one.before, one.after, one.ratio) for one in found] == [
        ("changed", Decimal(1), Decimal(2), 1.0)
    ]


def test_below_is_a_share_of_the_covered_time(day: Store) -> None:
    with market(day, START + DAY) as asked_of:
        answer = below(asked_of, ask(START + DAY), 2_000_000, 6600)
        dearer = below(asked_of, ask(START + DAY), None, 6700).rows[0]
    row = answer.rows[0]
    assert (row.share_below, row.hours_below) == (0.666667, 12.0)
    assert row.price_at == Decimal(1)
    assert (dearer.share_below, dearer.price_at) == (None, Decimal(2))


def test_history_shows_the_gap(day: Store) -> None:
    with market(day, START + DAY) as asked_of:
        path = history(asked_of, ask(START + DAY, begin="2026-09-01", since=None)).series[0]
    hours = [(one - int(START.timestamp())) // 3600 for one in path.t]
    assert list(zip(hours, path.price, strict=True)) == [
        (0, 1.0), (6, 2.0), (12, None), (18, 1.0), (24, None),
    ]  # fmt: skip


def test_a_grid_is_exact_in_every_cell(day: Store) -> None:
    question = ask(START + DAY, begin="2026-09-01", since=None)
    with market(day, START + DAY) as asked_of:
        cells = on_grid(asked_of, question, "8h").groups[0]
    assert cells.mean == [1.25, 2.0, 1.0]
    assert (cells.min, cells.max) == ([1.0, 2.0, 1.0], [2.0, 2.0, 1.0])
    assert cells.hours == [8.0, 4.0, 6.0]


def test_changes_say_what_came_and_what_went(day: Store) -> None:
    with market(day, START + DAY) as asked_of:
        answer = changes(asked_of, ask(START + DAY), limit=3)
    assert answer.total == 4
    assert [(one.kind, one.at) for one in answer.changes] == [
        ("listed", START + 18 * HOUR),
        ("withdrawn", START + 12 * HOUR),
        ("changed", START + 6 * HOUR),
    ]


@pytest.mark.parametrize(
    ("hour", "stood"), [(0, 8), (5.9999, 8), (6, 16), (11.9999, 16), (18, 8), (24, 8)]
)
def test_as_of_an_instant(day: Store, hour: float, stood: int) -> None:
    at = (START + hour * HOUR).isoformat()
    with market(day, START + DAY) as asked_of:
        answer = as_of(asked_of, asked_at(START + DAY, at))
    assert [one.listed for one in answer.prices] == [Decimal(stood)]
    assert answer.prices[0].country == "SE"


def test_as_of_an_instant_at_which_nothing_was_on_sale(day: Store) -> None:
    now = START + DAY
    with market(day, now) as asked_of, pytest.raises(ArbiterError, match="nothing was on sale at"):
        as_of(asked_of, asked_at(now, "2026-09-01T12:00"))


def test_a_price_is_believed_for_an_hour_after_it_was_last_seen(day: Store) -> None:
    later = START + 10 * DAY
    with market(day, later) as asked_of:
        row = stats(asked_of, ask(later)).rows[0]
    assert row.hours_covered == 19.0


def test_no_price_in_the_window_says_what_is_recorded(day: Store) -> None:
    now = START + 10 * DAY
    with market(day, now) as asked_of, pytest.raises(ArbiterError) as refused:
        stats(asked_of, ask(now, begin="2026-08-01", end="2026-08-20", since=None))
    assert "no price of the series is recorded from 2026-08-01" in str(refused.value)
    assert "what is recorded begins on 2026-09-01" in str(refused.value)


# --- filters --------------------------------------------------------------------------------


@pytest.fixture
def wide(store: Store) -> Store:
    Watched(store).sells(
        START,
        h100("8", zone="eun1-az1"),
        h100("20", purchase=Purchase.ON_DEMAND),
        priced("eu-west-2", "0.5", instance_type="g6", gpu="L4"),
    )
    Watched(store, "scaleway").sells(
        START, priced("fr-par-2", "2.5", instance_type="H100-1", gpu="H100", tier="secure")
    )
    return store


@pytest.mark.parametrize(
    ("typed", "series"),
    [
        ({}, 4),
        ({"gpu": "h100"}, 3),
        ({"purchase": "spot"}, 3),
        ({"providers": ["scaleway"]}, 1),
        ({"regions": ["eu-west-2", "fr-par-2"]}, 2),
        ({"zones": ["eun1-az1"]}, 1),
        ({"countries": ["GB"]}, 1),
        ({"countries": ["JP", "GB", "FR"]}, 2),
        ({"tiers": ["secure"]}, 1),
        ({"instance_types": ["8x"]}, 2),
        ({"sovereignty": "eu"}, 3),
        ({"sovereignty": "eu-operator"}, 1),
        ({"sovereignty": "eu", "gpu": "H100", "purchase": "on_demand"}, 1),
    ],
)
def test_every_filter_and_all_of_them(wide: Store, typed: dict[str, Any], series: int) -> None:
    now = START + HOUR
    with market(wide, now) as asked_of:
        assert stats(asked_of, ask(now, **typed)).about.series == series


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"gpu": "H10O"}, "no price of GPU 'H10O' is recorded; did you mean H100?"),
        ({"gpu": "h1oo"}, "no price of GPU 'h1oo' is recorded; did you mean H100?"),
        ({"gpu": "L"}, "no price of GPU 'L' is recorded; did you mean L4?"),
        ({"countries": ["UK"]}, "no price in a country 'UK' is recorded; did you mean GB?"),
        ({"gpu": "B200"}, "no price of GPU 'B200' is recorded; there are H100, L4"),
        ({"providers": ["scalway"]}, "did you mean scaleway?"),
        ({"regions": ["eu-north1"]}, "did you mean eu-north-1?"),
        ({"gpu": "L4", "providers": ["scaleway"]}, "no series passes all of these filters"),
        ({"countries": ["JP"]}, "no price in a country 'JP' is recorded; there are FR, GB, SE"),
    ],
)
def test_a_name_of_which_nothing_is_recorded(wide: Store, typed: dict[str, Any], said: str) -> None:
    now = START + HOUR
    with market(wide, now) as asked_of, pytest.raises(ArbiterError) as refused:
        stats(asked_of, ask(now, **typed))
    assert said in str(refused.value)


def test_groups_add_up_to_the_whole(wide: Store) -> None:
    now = START + HOUR
    with market(wide, now) as asked_of:
        whole = stats(asked_of, ask(now)).rows[0]
        for by in GROUPS:
            rows = stats(asked_of, ask(now), by).rows
            assert sum(row.series for row in rows) == whole.series
            assert sum(row.hours_covered for row in rows) == whole.hours_covered
            assert min(row.min or 0 for row in rows) == whole.min
        with pytest.raises(ArbiterError, match="cannot split by 'colour'; there are gpu, "):
            stats(asked_of, ask(now), "colour")


def test_a_group_of_a_country_has_its_regions_of_every_provider(store: Store) -> None:
    elsewhere = priced("xx-nowhere-1", "3")
    Watched(store).sells(START, priced("eu-north-1", "1"), priced("eu-west-2", "2"), elsewhere)
    Watched(store, "azure").sells(START, priced("swedencentral", "5"))
    with market(store, START + HOUR) as asked_of:
        rows = stats(asked_of, ask(START + HOUR), "country").rows
    assert [(row.group, row.series, row.max) for row in rows] == [
        ("GB", 1, Decimal(2)), ("SE", 2, Decimal(5)), ("unknown", 1, Decimal(3)),
    ]  # fmt: skip


def test_per_instance_nothing_is_divided(wide: Store) -> None:
    now = START + HOUR
    with market(wide, now) as asked_of:
        assert stats(asked_of, ask(now, gpu="H100", per="instance")).rows[0].max == Decimal(20)


# --- currencies -----------------------------------------------------------------------------


@pytest.fixture
def mixed(store: Store) -> Store:
    Watched(store).sells(START, h100("8"))
    euros = replace(
        priced("fr-par-2", instance_type="e"), price=replace(h100("2").price, currency="EUR")
    )
    Watched(store, "scaleway").sells(START, replace(euros, gpu="H100", gpu_count=1))
    return store


def test_two_currencies_never_add_up_without_a_rate(mixed: Store) -> None:
    now = START + HOUR
    with market(mixed, now) as asked_of:
        with pytest.raises(ArbiterError) as refused:
            stats(asked_of, ask(now))
        euros = stats(asked_of, ask(now, providers=["scaleway"]))
    assert str(refused.value) == (
        "the prices are in EUR and USD, asked for in USD: no reference rate of USD is stored; "
        "run: arbiter prices rates --fetch"
    )
    assert (euros.about.currency, euros.about.rate, euros.rows[0].max) == ("EUR", None, Decimal(2))


def test_with_a_rate_the_answer_says_which(mixed: Store) -> None:
    now = START + HOUR
    with mixed.begin() as connection:
        rates = [Published("USD", date(2026, 8, 31), 1_250_000)]
        assert write_rates(connection, rates, "ECB", now) == 1
        assert write_rates(connection, rates, "ECB", now) == 1
        assert [(one.currency, one.days, one.micros) for one in held(connection)] == [
            ("USD", 1, 1_250_000)
        ]
    with market(mixed, now) as asked_of:
        dollars = stats(asked_of, ask(now))
        euros = stats(asked_of, ask(now, currency="EUR"))
    assert (dollars.rows[0].min, dollars.rows[0].max) == (Decimal(1), Decimal("2.5"))
    assert (euros.rows[0].min, euros.rows[0].max) == (Decimal("0.8"), Decimal(2))
    rate = euros.about.rate
    assert rate is not None
    assert (rate.source, rate.currencies, rate.last_day) == ("ECB", ("USD",), date(2026, 8, 31))


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (
            date(2026, 8, 1),
            "of USD is stored for 2026-09-01, the newest before it is of 2026-08-01",
        ),
        (date(2026, 9, 9), "of USD is stored for 2026-09-01, the first is of 2026-09-09"),
    ],
)
def test_a_rate_of_another_time_is_told_and_not_used(mixed: Store, day: date, said: str) -> None:
    with mixed.begin() as connection:
        write_rates(connection, [Published("USD", day, 1_250_000)], "ECB", START)
    with market(mixed, START + HOUR) as asked_of, pytest.raises(ArbiterError) as refused:
        stats(asked_of, ask(START + HOUR))
    assert said in str(refused.value)


# --- index and rollups ----------------------------------------------------------------------


def test_the_index_gives_each_place_one_vote(store: Store) -> None:
    now = START + DAY
    for watched, offers in (
        (Watched(store), [h100("8"), h100("24", zone="b"), h100("40", zone="c"),
                          priced("eu-west-2", "2", instance_type="x", gpu="H100")]),
        (Watched(store, "scaleway"), [priced("fr-par-2", "7", instance_type="y", gpu="H100")]),
    ):  # fmt: skip
        watched.sells(START, *offers)
        watched.sells(now, *offers)
    with market(store, now) as asked_of:
        answer = index(asked_of, ask(now, purchase="spot", begin="2026-09-01", since=None))
        strict = index(asked_of, ask(now, purchase="spot", begin="2026-09-01", since=None), 4)
        with pytest.raises(ArbiterError, match="an index is of one purchase"):
            index(asked_of, ask(now))
    assert answer.day == [date(2026, 9, 1)]
    assert (answer.value, answer.low, answer.high) == ([3.0], [2.0], [7.0])
    assert (answer.votes, answer.method) == ([3], "arbiter-index/1")
    assert [(one.provider, one.region, one.series) for one in answer.constituents] == [
        ("aws", "eu-north-1", 3), ("aws", "eu-west-2", 1), ("scaleway", "fr-par-2", 1),
    ]  # fmt: skip
    assert strict.value == [None]
    with market(store, now) as asked_of:
        there = ask(now, purchase="spot", begin="2026-09-01", since=None, zone="Asia/Kolkata")
        assert index(asked_of, there).about.time_zone == "UTC", "its days are those of UTC"


def test_a_median_is_of_the_middle() -> None:
    assert [median([3]), median([1, 2]), median([5, 1, 3]), median([1, 4])] == [3, 2, 3, 2]


def built(store: Store, now: datetime) -> list[tuple[Any, ...]]:
    with store.begin() as connection:
        rollups.build(connection, now)
        assert rollups.build(connection, now) == 0, "built twice"
        return sorted(map(tuple, connection.exec_driver_sql("SELECT * FROM price_day")))


def test_days_are_built_once_they_are_over_and_seen(day: Store) -> None:
    assert built(day, START + DAY - HOUR) == []
    first = int(START.timestamp()) // 86_400
    expected = [(1, first, 64_800, 8_000_000, 16_000_000, 8_000_000, 691_200_000_000, 1)]
    assert built(day, START + DAY) == expected
    assert built(day, START + 9 * DAY) == expected, "it was not seen since"


def test_rolling_up_in_turns_comes_to_the_same(day: Store) -> None:
    assert rollups.roll_up(day, START + DAY, within_s=0) == 0
    assert rollups.roll_up(day, START + DAY) == 1
    assert rollups.roll_up(day, START + DAY) == 0
    assert len(built(day, START + DAY)) == 1


def test_what_is_dated_back_is_rolled_up_anew(store: Store) -> None:
    """A provider may say today that the price changed three days ago."""
    watched = Watched(store)
    for number in range(6):
        watched.sells(START + number * DAY, h100("8"))
    before = built(store, START + 5 * DAY)
    assert [row[5] for row in before] == [8_000_000] * 5
    changed = h100("16", priced_at=START + 2 * DAY + 12 * HOUR)
    watched.sells(START + 5 * DAY + HOUR, changed)
    after = built(store, START + 5 * DAY + HOUR)
    assert [row[5] for row in after] == [8_000_000] * 2 + [16_000_000] * 3
    assert [row[7] for row in after] == [0, 0, 1, 0, 0]


def test_answers_do_not_depend_on_how_much_is_rolled_up(store: Store) -> None:
    watched = Watched(store)
    for number in range(40):
        price = f"{8 + number % 7}"
        offers = [h100(price), priced("eu-west-2", price, instance_type="z", gpu="H100")]
        watched.sells(START + number * 5 * HOUR, *offers[: 1 + number % 3])
    now = START + 39 * 5 * HOUR
    question = ask(now, purchase="spot")
    with market(store, now) as asked_of:
        fresh = index(asked_of, question, 1)
    for until in (START + 3 * DAY, now):
        built(store, until)
        with market(store, now) as asked_of:
            assert index(asked_of, question, 1) == fresh
    assert any(fresh.value)


# --- seasons --------------------------------------------------------------------------------


def test_a_rhythm_is_found_in_the_zone_and_only_in_eight_weeks(store: Store) -> None:
    """Dear from 08:00 to 09:00 in Kolkata, 02:30 to 03:30 UTC, every day for nine weeks."""
    watched = Watched(store)
    for number in range(63):
        opens = START + number * DAY + 2.5 * HOUR
        watched.sells(opens, h100("16"))
        watched.sells(opens + HOUR, h100("8"))
    now = START + 63 * DAY
    watched.sells(now, h100("8"))
    with market(store, now) as asked_of:
        answer = seasonality(asked_of, ask(now, zone="Asia/Kolkata"))
        with pytest.raises(ArbiterError, match=r"needs 8 weeks of prices, and there are 6\.0"):
            seasonality(asked_of, ask(now, since="6w"))
    dear = [number for number, price in enumerate(answer.mean) if price == 2.0]
    assert dear == [weekday * 24 + 8 for weekday in range(7)]
    assert answer.relative[8] == pytest.approx(2 / (1 + 1 / 24), rel=1e-3)
