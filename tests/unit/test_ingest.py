"""One poll, and several side by side: what is written, and what no failure may do to others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from arbiter import registry
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, StoreError, UnknownName, Unreachable
from arbiter.ingest import poll_provider, poll_providers
from arbiter.provider import Fetched, Parsed, PricedOffer, Progress, ProviderSettings, Skip
from arbiter.settings import load_settings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, PriceBook, last_polls
from arbiter.testing import FakeClock, FakeProvider, priced


def poll(
    provider: Any, store: Store, book: PriceBook | None = None, clock: FakeClock | None = None
) -> PollRow:
    book = book or PriceBook(provider.name)
    return poll_provider(provider, store, book, clock or FakeClock(), lambda _note: None)


def standing(store: Store) -> set[tuple[str, str, int]]:
    """(provider, instance type, micros) of every price that stands."""
    with store.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT s.provider, s.instance_type, n.price_micros"
            " FROM price_now n JOIN series s ON s.id = n.series_id"
        )
        return {(row[0], row[1], row[2]) for row in rows}


def written(store: Store) -> list[PollRow]:
    with store.read() as connection:
        return last_polls(connection)


def many(number: int, usd: str = "1.00") -> list[PricedOffer]:
    return [priced(instance_type=f"m{index}", usd=usd) for index in range(number)]


BAD = Skip("price is not a number", malformed=True)


# --- one provider -----------------------------------------------------------------------------


def test_a_poll_is_stored_with_its_account(store: Store) -> None:
    provider = FakeProvider("one")
    provider.sells(many(3), skips=[Skip("not a GPU"), Skip("not a GPU"), BAD])
    row = poll(provider, store)

    assert (row.state, row.offers, row.changes, row.malformed) == ("ok", 3, 3, 1)
    assert row.skips == {"not a GPU": 2, "price is not a number": 1}
    assert written(store) == [row]


def test_what_is_missing_makes_it_degraded(store: Store) -> None:
    provider = FakeProvider("one")
    provider.sells(many(1), degraded=["eu-west-1: not\nenabled"])
    row = poll(provider, store)
    assert (row.state, row.reasons, row.offers) == ("degraded", ("eu-west-1: not enabled",), 1)


def test_what_is_to_be_known_of_a_source_is_told_and_is_no_fault(store: Store) -> None:
    provider = FakeProvider("one")
    provider.sells(many(1), notes=["prices of\nlast week"])
    row = poll(provider, store)
    assert (row.state, row.reasons, row.offers) == ("ok", ("prices of last week",), 1)
    assert written(store) == [row]

    provider.sells(many(1), degraded=["eu-west-1: slow"], notes=["prices of last week"])
    row = poll(provider, store)
    assert (row.state, row.reasons) == ("degraded", ("eu-west-1: slow", "prices of last week"))


def test_a_failed_poll_takes_nothing_away(store: Store) -> None:
    provider, book = FakeProvider("one", many(2)), PriceBook("one")
    poll(provider, store, book)
    before = standing(store)
    provider.fails(Unreachable("one does not answer", "try again"))
    row = poll(provider, store, book)

    assert (row.state, row.reasons) == ("failed", ("one does not answer; try again",))
    assert (row.offers, row.changes, row.withdrawn) == (0, 0, 0)
    assert standing(store) == before
    assert written(store) == [row]


class Broken(FakeProvider):
    """A provider with a bug where it is told to have one."""

    def __init__(self, where: str) -> None:
        super().__init__("broken", many(2))
        self._where = where

    def fetch(self, progress: Progress) -> Fetched:
        if self._where == "fetch":
            raise KeyError("https://api.example/?api_key=hunter2")
        return super().fetch(progress)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        if self._where == "parse":
            raise BadAnswer("a page is not JSON")
        if self._where == "offers":
            return Parsed([None])  # type: ignore[list-item]
        return super().parse(fetched, now)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("fetch", "broken failed inside: KeyError at test_ingest.py:"),
        ("parse", "a page is not JSON"),
        ("offers", "broken failed inside: AttributeError at screening.py:"),
    ],
)
def test_a_bug_in_a_provider_is_a_failed_poll(store: Store, where: str, told: str) -> None:
    row = poll(Broken(where), store)
    assert row.state == "failed"
    assert row.reasons[0].startswith(told)
    assert "hunter2" not in row.reasons[0]
    assert standing(store) == set()


@pytest.mark.parametrize(("sound", "bad", "state"), [
    (5, 5, "ok"),
    (5, 6, "failed"),
    (4, 5, "ok"),  # nine rows are too few to judge
    (0, 9, "degraded"),  # and yet the region has no prices any more
    (0, 10, "failed"),
])  # fmt: skip
def test_more_than_half_malformed_refuses_the_whole_batch(
    store: Store, sound: int, bad: int, state: str
) -> None:
    provider, book = FakeProvider("one", many(6)), PriceBook("one")
    poll(provider, store, book)
    before = standing(store)
    provider.sells(many(sound, "2.00"), skips=[BAD] * bad + [Skip("not a GPU")] * 100)
    row = poll(provider, store, book)

    assert (row.state, row.malformed) == (state, bad)
    if state == "failed":
        assert row.reasons == (
            f"{bad} of {sound + bad} rows are malformed (price is not a number); none was used",
        )
        assert row.skips == {"price is not a number": bad, "not a GPU": 100}
        assert standing(store) == before


def test_wild_and_worthless_prices_are_left_out_and_counted(store: Store) -> None:
    provider = FakeProvider("one")
    wrong = [priced(instance_type="free", usd="0"), priced(instance_type="none", gpu_count=0)]
    provider.sells([*many(20), priced(instance_type="slip", usd="900.00"), *wrong])
    row = poll(provider, store)

    assert (row.state, row.offers, row.malformed) == ("degraded", 20, 3)
    assert row.skips == {"far from its peers": 1, "price or number of GPUs is not above 0": 2}


@pytest.mark.parametrize("odd", ["", "eu\0west", "eu\nwest", "\ud800", "x" * 201])
def test_names_that_cannot_be_stored_are_left_out_and_counted(store: Store, odd: str) -> None:
    provider, book = FakeProvider("one", many(20)), PriceBook("one")
    poll(provider, store, book)
    wrong = [priced(odd), priced(zone=odd), priced(instance_type=odd), priced(gpu=odd)]
    provider.sells([*many(20), *wrong])
    rows = [poll(provider, store, book), poll(provider, store, book)]
    for row in rows:
        assert (row.state, row.offers, row.malformed, row.withdrawn) == ("ok", 20, 4, 0)
        assert row.skips == {"a name is empty, too long or not text": 4}


def test_a_second_poll_of_the_same_objects_counts_the_same(store: Store) -> None:
    provider, book = FakeProvider("one"), PriceBook("one")
    provider.sells([*many(20), priced(instance_type="slip", usd="900.00")])
    first, again = poll(provider, store, book), poll(provider, store, book)
    assert (first.offers, first.skips) == (again.offers, again.skips)
    assert (first.changes, again.changes) == (20, 0)


def test_a_clock_set_back_during_a_poll_gives_no_negative_time(store: Store) -> None:
    clock = FakeClock()
    provider = FakeProvider("one", many(1))

    class Late(FakeClock):
        def now(self) -> datetime:
            clock.advance(-5)
            return clock.now()

    row = poll(provider, store, clock=Late())
    assert row.finished_at >= row.started_at


# --- the network and the database ------------------------------------------------------------


class Watched(FakeProvider):
    """A provider that looks, whenever it is used, whether a transaction is open."""

    def __init__(self, open_now: list[object]) -> None:
        super().__init__("watched", many(3))
        self._open_now = open_now
        self.seen: list[int] = []

    def fetch(self, progress: Progress) -> Fetched:
        self.seen.append(len(self._open_now))
        return super().fetch(progress)


def test_no_transaction_is_open_while_the_network_is_asked(store: Store) -> None:
    open_now: list[object] = []
    event.listen(store.engine, "begin", open_now.append)
    event.listen(store.engine, "commit", open_now.remove)
    event.listen(store.engine, "rollback", open_now.remove)
    begun: list[object] = []
    event.listen(store.engine, "begin", begun.append)
    provider, book = Watched(open_now), PriceBook("watched")

    for _ in range(2):
        poll(provider, store, book)
    provider.fails(Unreachable("no answer"))
    poll(provider, store, book)

    assert provider.seen == [0, 0, 0]
    assert len(begun) == 3, "one transaction for each poll, or the test has seen nothing"


def fill_up(store: Store) -> None:
    """Let the disk of the database be full from here on."""
    with store.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(store.engine, "checkout", limit)


def test_a_full_disk_is_one_line_and_nothing_half_written(store: Store) -> None:
    provider, book = FakeProvider("one", many(3)), PriceBook("one")
    poll(provider, store, book)
    before, account = standing(store), written(store)
    fill_up(store)
    provider.sells(many(3000, "2.00"))

    with pytest.raises(StoreError) as caught:
        poll(provider, store, book)

    assert "is full" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (standing(store), written(store)) == (before, account)


def test_after_a_full_disk_the_same_book_goes_on(store: Store, tmp_path: Path) -> None:
    provider, book = FakeProvider("one", many(3)), PriceBook("one")
    poll(provider, store, book)
    fill_up(store)
    provider.sells(many(3000, "2.00"))
    with pytest.raises(StoreError):
        poll(provider, store, book)
    roomy = Store(store.url)
    row = poll(provider, roomy, book)
    assert (row.offers, row.changes) == (3000, 3000)
    assert len(standing(roomy)) == 3000
    roomy.close()


# --- several ----------------------------------------------------------------------------------


@pytest.fixture
def sellers(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeProvider]:
    """Three providers in the registry."""
    made = {name: FakeProvider(name, many(2)) for name in ("aa", "bb", "cc")}

    def load(name: str, settings: ProviderSettings) -> FakeProvider:
        if name not in made:
            raise UnknownName(f"no provider is called {name!r}")
        return made[name]

    monkeypatch.setattr(registry, "load", load)
    return made


def poll_all(store: Store, *names: str) -> Iterator[PollRow]:
    settings = load_settings(None, {"HOME": "/nonexistent"})
    return poll_providers(names, settings, store, FakeClock(), {})


def test_each_provider_has_its_row(store: Store, sellers: dict[str, FakeProvider]) -> None:
    sellers["bb"].fails(Unreachable("no answer"))
    rows = {row.provider: row.state for row in poll_all(store, "aa", "bb", "cc")}
    assert rows == {"aa": "ok", "bb": "failed", "cc": "ok"}
    assert {name for name, _, _ in standing(store)} == {"aa", "cc"}


def test_an_unknown_name_polls_nothing(store: Store, sellers: dict[str, FakeProvider]) -> None:
    with pytest.raises(UnknownName):
        list(poll_all(store, "aa", "nn"))
    assert written(store) == []
    assert sellers["aa"].fetches == 0


def test_a_slow_provider_delays_nobody(store: Store, sellers: dict[str, FakeProvider]) -> None:
    others_are_done = threading.Event()

    class Slow(FakeProvider):
        def fetch(self, progress: Progress) -> Fetched:
            assert others_are_done.wait(30), "the others waited for this one"
            return super().fetch(progress)

    sellers["aa"] = Slow("aa", many(1))
    rows = poll_all(store, "aa", "bb", "cc")
    assert {next(rows).provider, next(rows).provider} == {"bb", "cc"}
    others_are_done.set()
    assert next(rows).provider == "aa"


def test_a_store_that_fails_for_one_is_told_after_the_others(
    store: Store, sellers: dict[str, FakeProvider]
) -> None:
    """Room for a few rows is left, none for thousands; the others come in after the failure."""
    failed = threading.Event()

    class After(FakeProvider):
        def fetch(self, progress: Progress) -> Fetched:
            assert failed.wait(30), "the store has not failed"
            return super().fetch(progress)

    sellers.update(aa=After("aa", many(2)), cc=After("cc", many(2)))
    event.listen(store.engine, "rollback", lambda _connection: failed.set())
    with store.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 12}")

    event.listen(store.engine, "checkout", limit)
    failed.clear()
    sellers["bb"].sells(many(5000))
    rows: list[str] = []
    with pytest.raises(StoreError, match="is full"):
        rows.extend(row.provider for row in poll_all(store, "aa", "bb", "cc"))
    assert sorted(rows) == ["aa", "cc"]
    assert {name for name, _, _ in standing(store)} == {"aa", "cc"}


def test_progress_goes_to_its_own_provider(store: Store, sellers: dict[str, FakeProvider]) -> None:
    notes: list[str] = []
    settings = load_settings(None, {"HOME": "/nonexistent"})
    list(poll_providers(["aa", "bb"], settings, store, FakeClock(), {"bb": notes.append}))
    assert notes == ["bb, poll 1"]


def test_covered_and_gone_withdraws(store: Store) -> None:
    provider, book = FakeProvider("one", many(2)), PriceBook("one")
    clock = FakeClock(datetime(2026, 11, 1, tzinfo=UTC))
    poll(provider, store, book, clock)
    clock.advance(timedelta(minutes=5).total_seconds())
    provider.sells(many(1), covered=[("eu-north-1", Purchase.SPOT)])
    row = poll(provider, store, book, clock)
    assert (row.state, row.withdrawn) == ("ok", 1)
    assert standing(store) == {("one", "m0", 1_000_000)}
