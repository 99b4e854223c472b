"""A thousand polls over a real socket, through the real client and store, leave nothing behind."""

from __future__ import annotations

import gc
import json
import os
import threading
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from loopback import Answer, LoopbackServer, Request, as_json
from sqlalchemy import event

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.polling import Poller
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Progress, ProviderSettings, Signal
from arbiter.store.engine import Store
from arbiter.testing import FakeClock, priced
from arbiter_providers._http import Http

POLLS = 1000
WARM = 200
"""Polls after which everything that is kept is there."""

FEW = 400
"""Objects by which the process may have grown: half of one for each poll."""

MEBIBYTES = 16
"""Memory by which it may have grown: the allocator's own slack, and no 20 KiB for each poll."""


class OverHttp:
    """A provider that asks a server for each of its regions."""

    name = "soak"

    def __init__(self, settings: ProviderSettings, clock: FakeClock) -> None:
        self._settings = settings
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        pages = []
        with Http(self.name, self._settings, clock=self._clock) as http:
            for region in self._settings.regions:
                progress(region)
                body = http.get(f"{self._settings.endpoint}/prices/{region}")
                pages.append(Page("prices", region, body))
        return Fetched(tuple(pages))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        offers: list[PricedOffer] = []
        signals: list[Signal] = []
        for page in fetched.pages:
            try:
                rows: dict[str, str] = json.loads(page.body)
            except ValueError as error:
                raise BadAnswer("soak: not JSON") from error
            for name, usd in rows.items():
                offers.append(priced(page.region, usd, instance_type=name))
                stock = Decimal(int(Decimal(usd) * 100) % 7)
                signals.append(Signal("stock", "gpus", page.region, None, name, None, stock, stock))
        covered = frozenset((page.region, Purchase.SPOT) for page in fetched.pages)
        return Parsed(offers, (), covered, signals, frozenset({"stock"}))


class Market:
    """Answers with prices that move; now and then with trouble of every kind."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, _: Request) -> Answer:
        self.answers += 1
        if self.answers % 41 == 0:
            return Answer(b"<html>", 200)
        if self.answers % 37 == 0:
            return Answer(status=429, headers={"Retry-After": "600"})
        if self.answers % 31 == 0:
            return Answer(status=503)
        slip = 100 if self.answers % 29 == 0 else 1
        step = self.answers % 5
        prices = {f"m{index}": f"{(1 + index + step / 100) * slip:.2f}" for index in range(8)}
        if self.answers % 11 == 0:
            prices["m3"] = "0.05"  # far from its past
        return as_json(prices)


def held() -> dict[str, int]:
    """What this process holds of the system, and of memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "objects": len(gc.get_objects()),
        "kibibytes": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "threads": threading.active_count(),
        "handles": len(os.listdir("/proc/self/fd")),
        "sockets": sum(1 for one in _handles() if one.startswith("socket:")),
    }


def _handles() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the one that the listing itself had
            continue
    return found


def _hurry(connection: Any, *_: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # a disk that is waited for is not under test


def test_a_thousand_polls_leave_nothing_behind(server: LoopbackServer, tmp_path: Path) -> None:
    market = Market()
    server.answer = market
    store, clock = Store(f"sqlite:///{tmp_path / 'arbiter.db'}"), FakeClock()
    event.listen(store.engine, "checkout", _hurry)
    settings = ProviderSettings(
        endpoint=server.url, regions=("eu-north-1",), max_attempts=2, deadline_s=20
    )
    states: dict[str, int] = {}

    def heard(row: Any) -> None:
        states[row.state] = states.get(row.state, 0) + 1

    poller = Poller(OverHttp(settings, clock), settings, store, clock, heard)
    before: dict[str, int] = {}
    for number in range(POLLS):
        if number == WARM:
            server.requests.clear()
            before = held()
        poller.poll()
        clock.advance(max(1.0, poller.wait_s()))
    server.requests.clear()
    after = held()
    store.close()

    assert sum(states.values()) == POLLS
    assert min(states.get(state, 0) for state in ("ok", "degraded", "failed")) > 20, states
    assert after["threads"] <= before["threads"] + 1
    assert after["sockets"] <= before["sockets"] + 1
    assert after["handles"] <= before["handles"] + 2
    assert after["objects"] < before["objects"] + FEW
    assert after["kibibytes"] < before["kibibytes"] + MEBIBYTES * 1024
