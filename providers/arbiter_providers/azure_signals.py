"""How often Azure takes spot machines back: a band for each size and region, beside the prices.

For those with an account only. The band is a percentage of machines per hour, over the last 28
days; it says neither when it was measured nor of how many machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import ProviderError
from arbiter.provider import Page, ProviderSettings, Signal, Skip
from arbiter.quality import Malformed
from arbiter_providers import azure_graph
from arbiter_providers._bands import bounds
from arbiter_providers._http import Rejected
from arbiter_providers._rhythm import Rhythm, hurried, wanted
from arbiter_providers._rows import read_row
from arbiter_providers.azure_sizes import size_named

FEED = "spot-eviction-rate"
TABLE = "skuspotevictionrate/location"
COLUMN = "evictionRate = tostring(properties.evictionRate)"
KIND, UNIT = "eviction_rate", "percent per hour over 28 days"

EVERY = timedelta(hours=6)
"""28 days do not change from poll to poll."""


class _Row(msgspec.Struct, gc=False):
    skuName: str
    location: str
    evictionRate: str | None = None


_read_row = msgspec.json.Decoder(_Row).decode


class EvictionRates:
    """Asks for the bands at their own pace. Lives as long as its provider.

    Without an account there are none, and that is no failure; nor is it one where a stand-in for
    Azure's addresses does not have them.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = hurried(settings)
        self._clock = clock
        self._wanted = wanted(settings)
        self._rhythm = Rhythm(clock, EVERY)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing, and why."""
        return self._rhythm.notes

    def fetch(self, regions: Sequence[str]) -> tuple[Page, ...]:
        """The pages when they are due, all or none. Never raises a ProviderError."""
        if not (self._wanted and self._rhythm.due and azure_graph.has_account()):
            return ()
        query = azure_graph.query(TABLE, regions, also="", wanted=COLUMN)
        try:
            pages = tuple(azure_graph.ask(FEED, query, self._settings, self._clock))
        except Rejected as error:
            if not (self._settings.endpoint and error.status == 404):
                self._rhythm.failed("eviction rates", error)
                return ()
            pages = ()
        except ProviderError as error:
            self._rhythm.failed("eviction rates", error)
            return ()
        self._rhythm.succeeded()
        return pages


def read(pages: Sequence[Page]) -> tuple[list[Signal | Skip], frozenset[str]]:
    """The signals, and their kind where the pages show all of it.

    Raises:
        BadAnswer: a page is not an answer of the Resource Graph.
    """
    found: list[Signal | Skip] = []
    more: str | None = None
    for page in pages:
        rows, more = azure_graph.rows(page.body)
        found += _signals(rows)
    return found, frozenset({KIND}) if pages and not more else frozenset()


def _signals(rows: Iterable[msgspec.Raw]) -> list[Signal | Skip]:
    return [read_row(raw, _read_row, _signal) for raw in rows]


def _signal(row: _Row) -> Signal | Skip:
    if not row.location:
        raise Malformed("row without location")
    size = size_named(row.skuName)
    if size is None:
        return Skip("GPU size that is not in the table")
    if not row.evictionRate:
        return Skip("no eviction rate")
    low, high = bounds(row.evictionRate)
    region = row.location.lower()
    return Signal(KIND, UNIT, region, None, size, Purchase.SPOT, low, high, row.evictionRate)
