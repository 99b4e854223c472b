"""A provider's own past: asked once on the first contact, and again on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from arbiter.backfill import AT_MOST, NoHistory, backfill, backfill_once
from arbiter.errors import BadAnswer, StoreError, Unreachable
from arbiter.provider import Fetched, Page, ParsedHistory, PastPrice, Progress, Skip
from arbiter.store.engine import Store
from arbiter.store.tables import price_change, price_import, series
from arbiter.testing import FakeClock, FakeProvider, priced

DAY = timedelta(days=1)


class Historian(FakeProvider):
    """A fake that also tells its past, and remembers what it was asked."""

    def __init__(self, prices: Sequence[PastPrice] = (), skips: Sequence[Skip] = ()) -> None:
        super().__init__("historian")
        self.asked: list[tuple[datetime, datetime]] = []
        self.tells(prices, skips)

    def tells(self, prices: Sequence[PastPrice], skips: Sequence[Skip] = ()) -> None:
        self._history = ParsedHistory(tuple(prices), tuple(skips))
        self._failure: Exception | None = None

    def refuses(self, error: Exception) -> None:
        self._failure = error

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        self.asked.append((since, until))
        progress("page 1")
        if self._failure is not None:
            raise self._failure
        return Fetched((Page("history", "", self._history),), ("eu-south-1: not enabled",))

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        body = fetched.pages[0].body
        if not isinstance(body, ParsedHistory):
            raise BadAnswer("not a history of this fake")
        return body


clock = FakeClock(datetime(2026, 11, 1, tzinfo=UTC))


def past(
    days_ago: float, usd: str, until_days_ago: float | None = None, **offer: object
) -> PastPrice:
    end = None if until_days_ago is None else clock.now() - until_days_ago * DAY
    return PastPrice(priced(usd=usd, **offer), clock.now() - days_ago * DAY, end)  # type: ignore[arg-type]


def recorded(store: Store) -> list[tuple[float, float, int]]:
    """From and to in days ago, and micros."""
    now = int(clock.now().timestamp())
    with store.read() as connection:
        change = price_change.c
        rows = connection.execute(
            select(change.valid_from, change.valid_to, change.price_micros).order_by(
                change.series_id, change.valid_from
            )
        ).all()
    return [((now - a) / 86_400, (now - b) / 86_400, micros) for a, b, micros in rows]


def silent(_note: str) -> None:
    """Nobody watches."""


def test_a_history_is_stored_as_stretches_of_its_provider(store: Store) -> None:
    provider = Historian([past(10, "1.00"), past(30, "2.00"), past(5, "1.50", 4)])
    done = backfill(provider, store, clock, silent)
    assert recorded(store) == [(30, 10, 2_000_000), (10, 5, 1_000_000), (5, 4, 1_500_000)]
    assert (done.provider, done.written.rows, done.degraded) == (
        "historian", 3, ("eu-south-1: not enabled",),
    )  # fmt: skip
    with store.read() as connection:
        assert connection.execute(select(series.c.provider)).scalar_one() == "historian"
        account = connection.execute(select(price_import)).one()
    assert (account.source, account.is_backfill, account.at) == ("fake", True, clock.now())


def test_the_newest_price_stands_until_it_was_asked(store: Store) -> None:
    backfill(Historian([past(10, "1.00")]), store, clock, silent)
    assert recorded(store) == [(10, 0, 1_000_000)]


def test_it_asks_as_far_back_as_anyone_tells_or_as_it_is_told(store: Store) -> None:
    provider = Historian()
    backfill(provider, store, clock, silent)
    backfill(provider, store, clock, silent, clock.now() - DAY)
    assert provider.asked == [
        (clock.now() - AT_MOST, clock.now()),
        (clock.now() - DAY, clock.now()),
    ]


def test_rows_that_cannot_be_are_left_out_and_counted(store: Store) -> None:
    fine = [past(9 - n, "1.00", instance_type=f"g{n}") for n in range(6)]
    wrong = [past(3, "500.00"), past(3, "1.00", 3, instance_type="empty")]
    done = backfill(Historian([*fine, *wrong], [Skip("not a GPU")]), store, clock, silent)
    assert len(recorded(store)) == 6
    assert dict(done.skips) == {
        "not a GPU": 1,
        "implausible price": 1,
        "price, number of GPUs, name or time of a price cannot be": 1,
    }
    assert done.malformed == 2


def test_once_is_once_on_a_database(store: Store) -> None:
    provider = Historian([past(10, "1.00")])
    first = backfill_once(provider, store, clock, silent)
    assert first is not None
    assert first.written.rows == 1
    assert backfill_once(Historian([past(90, "9.00")]), store, clock, silent) is None
    assert len(provider.asked) == 1
    assert len(recorded(store)) == 1


def test_what_failed_is_still_to_be_done(store: Store) -> None:
    provider = Historian()
    provider.refuses(Unreachable("historian: no answer"))
    with pytest.raises(Unreachable):
        backfill_once(provider, store, clock, silent)
    provider.tells([past(10, "1.00")])
    done = backfill_once(provider, store, clock, silent)
    assert done is not None
    assert done.written.rows == 1


def test_a_database_that_fails_leaves_it_to_be_done(store: Store) -> None:
    provider = Historian([past(10, "1.00")])
    with store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE price_import RENAME TO elsewhere")
    with pytest.raises(StoreError):
        backfill_once(provider, store, clock, silent)
    with store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO price_import")
    assert recorded(store) == []
    assert backfill_once(provider, store, clock, silent) is not None


def test_a_provider_without_a_past_is_none_or_told(store: Store) -> None:
    assert backfill_once(FakeProvider(), store, clock, silent) is None
    with pytest.raises(NoHistory, match="fake tells no past prices"):
        backfill(FakeProvider(), store, clock, silent)


def test_rows_whose_time_or_name_cannot_be_harm_no_other(store: Store) -> None:
    odd = [
        replace(past(10, "1.00"), valid_from=datetime(1, 1, 1, tzinfo=UTC)),
        replace(past(10, "1.00"), valid_from=clock.now() + DAY),
        past(10, "1.00", region="eu\0west"),
    ]
    endless = replace(past(10, "1.00"), valid_to=datetime(9999, 1, 1, tzinfo=UTC))
    done = backfill(Historian([endless, *odd]), store, clock, silent)
    assert recorded(store) == [(10, 0, 1_000_000)]
    assert done.skips == {"price, number of GPUs, name or time of a price cannot be": 3}
    assert done.malformed == 3
