"""The daemon's chore on reference rates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import ThreadingHTTPServer

import pytest
from loopback_http import Quiet, listening

from arbiter.rate_keeping import RateKeeping
from arbiter.settings import RatesSettings, Settings
from arbiter.store.engine import Store
from arbiter.store.rates import held
from arbiter.testing import FakeClock

NOON = datetime(2026, 11, 4, 12, tzinfo=UTC)


class Bank:
    """A stand-in: what it published, and which files were asked for."""

    def __init__(self) -> None:
        self.days = [date(2026, 11, 2), date(2026, 11, 3)]
        self.asked: list[str] = []
        self.answers = True
        self.url = ""

    def page(self, name: str) -> bytes:
        days = self.days[-1:] if "daily" in name else self.days
        cubes = "".join(f'<Cube time="{d}"><Cube currency="USD" rate="1.1"/></Cube>' for d in days)
        return f"<Envelope><Cube>{cubes}</Cube></Envelope>".encode()


@pytest.fixture
def bank() -> Iterator[Bank]:
    bank = Bank()

    class Handler(Quiet):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            bank.asked.append(name)
            body = bank.page(name)
            self.send_response(200 if bank.answers else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as bank.url:
        yield bank


def days_held(store: Store) -> int:
    with store.read() as connection:
        return sum(one.days for one in held(connection))


def keeping(
    store: Store, bank: Bank, told: list[str], *, fetch: bool = True, simulated: bool = False
) -> tuple[RateKeeping, FakeClock]:
    clock = FakeClock(NOON)
    settings = Settings(rates=RatesSettings(fetch, bank.url), simulated=simulated)
    return RateKeeping(store, clock, settings, told.append), clock


def test_what_was_published_since_is_fetched_and_no_more(store: Store, bank: Bank) -> None:
    told: list[str] = []
    kept, clock = keeping(store, bank, told)
    kept.refresh()
    assert (days_held(store), bank.asked) == (2, ["eurofxref-hist-90d.xml"])
    bank.days.append(date(2026, 11, 4))
    kept.refresh()
    kept.refresh()
    assert (days_held(store), bank.asked[1:]) == (3, ["eurofxref-daily.xml"])
    clock.advance(timedelta(days=3).total_seconds())
    bank.days += [date(2026, 11, 5), date(2026, 11, 6)]
    kept.refresh()
    assert (days_held(store), bank.asked[2:]) == (5, ["eurofxref-hist-90d.xml"])
    assert told == []


def test_a_bank_that_does_not_answer_is_told_once_and_asked_again(store: Store, bank: Bank) -> None:
    told: list[str] = []
    kept, _ = keeping(store, bank, told)
    bank.answers = False
    kept.refresh()
    kept.refresh()
    bank.answers = True
    kept.refresh()
    address = f"{bank.url}/eurofxref-hist-90d.xml"
    assert told == [
        f"reference rates did not come: the ECB answered 503 for {address}",
        "reference rates come again",
    ]
    assert days_held(store) == 2


@pytest.mark.parametrize("off", [{"fetch": False}, {"simulated": True}])
def test_nothing_is_asked_where_it_is_switched_off_or_simulated(
    store: Store, bank: Bank, off: dict[str, bool]
) -> None:
    kept, _ = keeping(store, bank, [], **off)
    kept.refresh()
    assert bank.asked == []
