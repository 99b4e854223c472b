"""The daemon's chores on the price history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from arbiter.errors import ProviderError, RateLimited
from arbiter.keeping import Keeping
from arbiter.provider import Fetched, Page, ParsedHistory, PastPrice, Progress, Provider
from arbiter.settings import RetentionSettings
from arbiter.store.engine import Store
from arbiter.store.polls import PollRow, write_poll
from arbiter.testing import FakeClock, FakeProvider, priced

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Remembering(FakeProvider):
    """A provider with a past of two prices."""

    asked = 0
    refuses: ProviderError | None = None

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        del since, until, progress
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        return Fetched((Page("past", "", b""),))

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        del fetched
        start = now - timedelta(days=10)
        return ParsedHistory(
            [
                PastPrice(priced(usd="0.50"), start, start + timedelta(days=1)),
                PastPrice(priced(usd="0.60"), start + timedelta(days=1), now),
            ]
        )


def polled(store: Store, name: str, state: str = "ok") -> None:
    with store.begin() as connection:
        write_poll(connection, PollRow(name, NOW, NOW, state))


def keeping(store: Store, told: list[str], *providers: Provider) -> Keeping:
    return Keeping(providers, store, FakeClock(NOW), RetentionSettings(), told.append)


def test_a_past_is_filled_in_once(store: Store) -> None:
    told: list[str] = []
    provider = Remembering("aws")
    polled(store, "aws")
    kept = keeping(store, told, provider)
    kept.backfill()
    kept.backfill()
    assert provider.asked == 1
    assert told == ["aws: 2 past prices were filled in"]


def test_a_provider_that_does_not_answer_is_not_asked_for_its_past(store: Store) -> None:
    told: list[str] = []
    silent, unheard = Remembering("aws"), Remembering("azure")
    polled(store, "aws", "failed")
    keeping(store, told, silent, unheard, FakeProvider("gcp")).backfill()
    assert (silent.asked, unheard.asked, told) == (0, 0, [])


def test_a_past_that_does_not_come_is_told_once_and_asked_for_again(store: Store) -> None:
    told: list[str] = []
    provider = Remembering("aws")
    provider.refuses = RateLimited("aws: slow down")
    polled(store, "aws")
    kept = keeping(store, told, provider)
    kept.backfill()
    kept.backfill()
    assert told == ["aws: its past prices did not come: aws: slow down"]
    provider.refuses = None
    kept.backfill()
    assert told[-1] == "aws: 2 past prices were filled in"


def test_old_polls_are_let_go(store: Store) -> None:
    old = NOW - timedelta(days=400)
    with store.begin() as connection:
        for at in (old, NOW):
            write_poll(connection, PollRow("aws", at, at, "ok"))
    keeping(store, []).let_go()
    with store.read() as connection:
        counted = connection.exec_driver_sql("SELECT count(*) FROM poll").scalar_one()
    assert counted == 1
