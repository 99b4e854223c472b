"""Vast.ai: a market of strangers' machines, as the lowest ask for each kind of machine.

`POST https://console.vast.ai/api/v0/bundles/` searches the asks that can be rented, documented
at docs.vast.ai (search offers). It needs no key, but then shows 64 at most; there are no pages.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from arbiter.clock import Clock, SystemClock
from arbiter.countries import EEA
from arbiter.domain import Purchase
from arbiter.errors import MissingCredentials, ProviderError
from arbiter.gpus import normalise
from arbiter.money import Price
from arbiter.provider import (
    Fetched,
    Page,
    Parsed,
    PricedOffer,
    Progress,
    ProviderSettings,
    Signal,
    Skip,
)
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http
from arbiter_providers._regions import EUROPE_BEYOND_THE_EEA
from arbiter_providers._rows import open_page, read_row

ENDPOINT = "https://console.vast.ai"
PREFIX = "/api/v0"
SOURCE = "vast:bundles"
KEY = "VAST_API_KEY"

COMPLETE, CUT_SHORT = "asks", "asks, cut short"

LIMIT = 5000
"""Asks that one request asks for."""

WITHOUT_KEY = 64
"""Asks that are shown at most to a request without a key."""

BETWEEN_S = 2.0
"""Seconds between two requests; the API's own description calls 2 the threshold."""

STOCK = "stock"
UNIT = "asks"

_CONTINENTS = frozenset({"AF", "AN", "AS", "EU", "NA", "OC", "SA"})


class _Ask(msgspec.Struct, frozen=True):
    """What is read of an ask, under the API's own names."""

    id: int
    gpu_name: str
    num_gpus: int
    dph_total: Decimal  # USD an hour for all of it
    min_bid: Decimal | None = None  # the same, for a machine that a higher bid takes away
    gpu_ram: Decimal | None = None  # MB of one GPU
    geolocation: str | None = None
    verification: str | None = None
    verified: bool | None = None
    hosting_type: int | None = None  # 0 at home, 1 and above in a data centre
    rentable: bool = True


class _Asks(msgspec.Struct):
    offers: list[msgspec.Raw]


_read_asks = msgspec.json.Decoder(_Asks).decode
_read_ask = msgspec.json.Decoder(_Ask).decode


class Vast:
    """Prices of Vast.ai, country by country.

    An ask is one host's offer of one machine; it comes, is rented, and is gone within hours, so
    the price of an ask is no series. What lasts is the kind of machine: so many of one GPU, in
    one country, of one class of hosts. Its price is the lowest ask, which is what renting one
    more would cost; spot is the lowest bid that would be taken. The host behind it changes.

    The region is the country that the host states ("DE"). The tiers are "datacenter" (verified,
    and in a data centre), "verified" and "unverified". Who the hosts are is not said, so the
    operator is unknown in every tier, and nothing is launched here: a lowest ask is no machine
    type that a launcher could be held to.

    `settings.endpoint` takes the place of https://console.vast.ai. `settings.regions` are country
    codes, by default the EEA, Great Britain and Switzerland. A key in VAST_API_KEY, or in the
    variable that `settings.options["api_key_env"]` names, is used where it is set.
    """

    name = "vast"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        chosen = settings.regions or sorted(EEA | EUROPE_BEYOND_THE_EEA)
        self._countries = tuple(dict.fromkeys(code.upper() for code in chosen))

    def fetch(self, progress: Progress) -> Fetched:
        """The asks of all countries; where an answer is cut short, of half of them at a time.

        Raises:
            ProviderError: nothing came.
        """
        variable = key_variable(self._settings, KEY)
        has_key = bool(os.environ.get(variable, "").strip())
        headers = {"Authorization": f"Bearer {key(self.name, variable)}"} if has_key else {}
        most = LIMIT if has_key else WITHOUT_KEY
        pages: list[Page] = []
        degraded: list[str] = []
        waiting = [self._countries]
        with Http(
            self.name,
            self._settings,
            headers=headers,
            credentials=variable if has_key else None,
            clock=self._clock,
        ) as http:
            try:
                while waiting:
                    page, waiting = self._next(http, waiting, most)
                    if page is not None:
                        pages.append(page)
                        progress(f"{len(page.region.split(','))} countries")
            except ProviderError as error:
                if not pages:
                    raise _hinted(error, variable) from None
                left = ", ".join(code for part in reversed(waiting) for code in part)
                degraded.append(f"{left}: {error.message}")
        short = [page.region for page in pages if page.feed == CUT_SHORT]
        if short:
            more = "" if has_key else f"; more are shown with a key: export {variable}=..."
            degraded.append(f"{', '.join(short)}: only {most} asks are shown{more}")
        return Fetched(tuple(pages), tuple(degraded))

    def _next(
        self, http: Http, waiting: Sequence[tuple[str, ...]], most: int
    ) -> tuple[Page | None, list[tuple[str, ...]]]:
        """Ask for the last countries that wait.

        Returns:
            Their page, or None where it was cut short and they are asked for again in halves;
            and who waits now.
        """
        *others, countries = waiting
        address = f"{base_url(self._settings, ENDPOINT, PREFIX)}/bundles/"
        body = http.post(address, json=_question(countries))
        # Exactly as many as are shown at most: whether there are more is not said.
        cut_short = len(open_page(_LIST, body, _read_asks).offers) in (most, LIMIT)
        half = len(countries) // 2
        if cut_short and half:
            self._clock.sleep(BETWEEN_S)
            return None, [*others, countries[half:], countries[:half]]
        if others:
            self._clock.sleep(BETWEEN_S)
        return Page(CUT_SHORT if cut_short else COMPLETE, ",".join(countries), body), others

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """The lowest ask and the lowest bid for each kind of machine, and how many asks there are.

        A country is covered where all of its asks were shown.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        kinds: dict[_Kind, _Market] = {}
        skips: list[Skip] = []
        complete: set[str] = set()
        seen: set[int] = set()
        for page in fetched.pages:
            if page.feed == COMPLETE:
                complete.update(filter(None, page.region.split(",")))
            for raw in open_page(_LIST, page.body, _read_asks).offers:
                read = read_row(raw, _read_ask, self._ask)
                if isinstance(read, Skip):
                    skips.append(read)
                elif read.id not in seen:
                    seen.add(read.id)
                    kinds.setdefault(read.kind, _Market()).add(read)
                    skips += read.skips
        return Parsed(
            [offer for kind, market in kinds.items() for offer in _offers(kind, market)],
            skips,
            frozenset((country, purchase) for country in complete for purchase in _PURCHASES),
            _stocks(kinds, complete),
            frozenset({STOCK}) if complete >= set(self._countries) else frozenset(),
        )

    def _ask(self, ask: _Ask) -> _Sound | Skip:
        """One ask.

        Raises:
            Malformed: its GPU, their number or its price cannot be right.
        """
        if not ask.rentable:
            return Skip("rented out")
        if not ask.gpu_name:
            raise Malformed("row without gpu_name")
        if ask.num_gpus < 1:
            raise Malformed("number of GPUs is not above 0")
        country = country_of(ask.geolocation)
        if country is None:
            return Skip("no country is stated")
        if country not in self._countries:
            return Skip("country that was not asked for")
        prices, skips = {Purchase.ON_DEMAND: read_price(ask.dph_total)}, []
        if ask.min_bid:
            try:
                prices[Purchase.SPOT] = read_price(ask.min_bid)
            except Malformed as error:
                skips.append(malformed(f"spot: {error}", f"ask {ask.id}: {ask.min_bid}"))
        return _Sound(ask.id, _kind(ask, country), prices, tuple(skips))


_LIST = "vast: the list of asks"
_PURCHASES = (Purchase.ON_DEMAND, Purchase.SPOT)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of machine: what a series of prices is about."""

    tier: str
    country: str
    instance_type: str
    gpu: str
    gpu_count: int


@dataclass(frozen=True, slots=True)
class _Sound:
    """An ask that can be used."""

    id: int
    kind: _Kind
    prices: dict[Purchase, Price]
    skips: tuple[Skip, ...]


@dataclass(slots=True)
class _Market:
    """The asks for one kind of machine."""

    asks: int = 0
    lowest: dict[Purchase, Price] = field(default_factory=dict)

    def add(self, ask: _Sound) -> None:
        self.asks += 1
        for purchase, price in ask.prices.items():
            known = self.lowest.get(purchase)
            if known is None or price < known:
                self.lowest[purchase] = price


def _hinted(error: ProviderError, variable: str) -> ProviderError:
    if isinstance(error, MissingCredentials):
        return MissingCredentials(error.message, f"export {variable}=...")
    return error


def _question(countries: Sequence[str]) -> dict[str, Any]:
    return {
        "limit": LIMIT,
        "type": "on-demand",
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "geolocation": {"in": list(countries)},
        "order": [["dph_total", "asc"]],
    }


def country_of(geolocation: str | None) -> str | None:
    """The country of a host: "Sweden, SE", "Denmark, DK, EU" and ", CA, NA" end with its code.

    A continent may follow it. None where there is no code, or where two could be meant.
    """
    parts = [part.strip() for part in (geolocation or "").split(",")]
    codes = [part for part in parts if len(part) == 2 and part.isascii() and part.isupper()]
    if len(codes) > 1 and codes[-1] in _CONTINENTS and parts[-1] == codes[-1]:
        codes = codes[:-1]
    if len(codes) != 1 or codes[0] in ("EU", "OC", "UK"):
        return None
    return codes[0]


def _kind(ask: _Ask, country: str) -> _Kind:
    """Of a GPU that comes with two sizes of memory, the size is part of the name."""
    memory = float(ask.gpu_ram / 1024) if ask.gpu_ram else None
    gpu = normalise(ask.gpu_name, memory) or ask.gpu_name
    size = gpu.rpartition("-")[2]
    sized = f" {size}" if size.endswith("GB") and size not in ask.gpu_name else ""
    return _Kind(_tier(ask), country, f"{ask.num_gpus}x {ask.gpu_name}{sized}", gpu, ask.num_gpus)


def _tier(ask: _Ask) -> str:
    verified = ask.verification == "verified" if ask.verification else ask.verified is True
    if not verified:
        return "unverified"
    return "datacenter" if (ask.hosting_type or 0) > 0 else "verified"


def _offers(kind: _Kind, market: _Market) -> Iterable[PricedOffer]:
    for purchase, price in market.lowest.items():
        yield PricedOffer(
            tier=kind.tier,
            region=kind.country,
            zone=None,
            instance_type=kind.instance_type,
            gpu=kind.gpu,
            gpu_count=kind.gpu_count,
            purchase=purchase,
            price=price,
            source=SOURCE,
            country=kind.country,
        )


def _stocks(kinds: Mapping[_Kind, _Market], complete: Collection[str]) -> list[Signal]:
    """How many asks there are for a machine in a country, of all tiers together."""
    asks: Counter[tuple[str, str]] = Counter()
    for kind, market in kinds.items():
        if kind.country in complete:
            asks[kind.country, kind.instance_type] += market.asks
    return [
        Signal(STOCK, UNIT, country, None, machine, low=Decimal(count), high=Decimal(count))
        for (country, machine), count in asks.items()
    ]
