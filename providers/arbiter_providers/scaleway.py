"""Scaleway: list prices and stock of its GPU machines, per zone. No account is needed.

`GET /instance/v1/zones/{zone}/products/servers` lists the machine types with their price in EUR
an hour, `.../products/servers/availability` says of each whether it is to be had. Both are paged
by `page` and `per_page`, and count all rows in the header X-Total-Count. There is no spot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.gpus import GPUS, normalise
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
from arbiter.quality import Malformed, read_price
from arbiter_providers._http import Http
from arbiter_providers._regions import ask_regions, european_regions
from arbiter_providers._rows import open_page, read_row

ENDPOINT = "https://api.scaleway.com"
PATH = "/instance/v1/zones/{zone}/products/servers"
SERVERS, STOCK = "servers", "stock"
_PATHS = {SERVERS: PATH, STOCK: f"{PATH}/availability"}
CURRENCY = "EUR"
"""The answer names no currency; the same prices in Scaleway's product catalog do."""

UNIT = "available, scarce or shortage"

WORKERS = 4
PER_PAGE = 100
SHORT_PAGE = 50
"""Rows of a page where the server does not go by per_page. Fewer can only be the last page."""

MOST_PAGES = 50


class _Gpu(msgspec.Struct, gc=False):
    gpu_name: str | None = None
    gpu_manufacturer: str | None = None
    gpu_memory: int | None = None  # bytes of one GPU


class _Server(msgspec.Struct, gc=False):
    """What is read of a machine type, under the API's own names."""

    gpu: int | None = None
    gpu_info: _Gpu | None = None
    hourly_price: Decimal | None = None
    arch: str | None = None
    mig_profile: Any = None
    end_of_service: bool = False


class _Stock(msgspec.Struct, gc=False):
    availability: str


class _Envelope(msgspec.Struct, gc=False):
    servers: dict[str, msgspec.Raw]


class _Asked(msgspec.Struct, gc=False):
    """A page as `fetch` keeps it: the answer, and how many rows there are on all pages."""

    answer: bytes
    total: int | None = None


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_server = msgspec.json.Decoder(_Server).decode
_read_stock = msgspec.json.Decoder(_Stock).decode


class Scaleway:
    """Prices and stock of Scaleway's GPU machines. A region is what Scaleway calls a zone.

    `settings.endpoint` takes the place of https://api.scaleway.com; `settings.regions` are zones
    ("fr-par-2"), by default all of the region table.
    """

    name = "scaleway"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        """Every page of every zone. Without a zone's stock its prices still come.

        Raises:
            ProviderError: no zone answered for its prices.
        """
        zones = self._settings.regions or european_regions(self.name)
        degraded: list[str] = []
        with Http(self.name, self._settings, clock=self._clock) as http:
            prices, errors = ask_regions(
                zones, lambda zone: self._pages(http, SERVERS, zone), progress, workers=WORKERS
            )
            if errors and not prices:
                raise next(iter(errors.values()))
            stock, unknown = ask_regions(
                tuple(prices),
                lambda zone: self._pages(http, STOCK, zone),
                progress,
                workers=WORKERS,
            )
        degraded += [f"{zone}: {error.message}" for zone, error in errors.items()]
        degraded += [f"{zone}: stock, {error.message}" for zone, error in unknown.items()]
        pages = [page for found in (*prices.values(), *stock.values()) for page in found]
        cut_short = _Content(pages).unfinished
        degraded += [f"{zone}: the pages of {feed} do not end" for feed, zone in sorted(cut_short)]
        return Fetched(tuple(pages), tuple(degraded))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """The types with GPUs, and the stock of each.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        content = _Content(fetched.pages)
        rows = [_read(*row) for row in content.rows(SERVERS)]
        offers = [row for row in rows if isinstance(row, PricedOffer)]
        sold = {(offer.region, offer.instance_type) for offer in offers}
        stock = [_stock(*row) for row in content.rows(STOCK) if row[:2] in sold]
        zones = [zone for zone in content.zones(SERVERS) if content.complete(SERVERS, zone)]
        known = zones and all(content.complete(STOCK, zone) for zone in zones)
        return Parsed(
            offers,
            [one for one in (*rows, *stock) if isinstance(one, Skip)],
            frozenset((zone, Purchase.ON_DEMAND) for zone in zones),
            [one for one in stock if isinstance(one, Signal)],
            frozenset({"stock"}) if known and not fetched.degraded else frozenset(),
        )

    def _pages(self, http: Http, feed: str, zone: str) -> list[Page]:
        """The pages of one feed and zone, until every row is there or a page brings none."""
        base = (self._settings.endpoint or ENDPOINT).rstrip("/")
        address = base + _PATHS[feed].format(zone=zone)
        pages: list[Page] = []
        seen: set[str] = set()
        while len(pages) < MOST_PAGES:
            query = {"page": str(len(pages) + 1), "per_page": str(PER_PAGE)}
            answer = http.ask(address, query)
            total = answer.headers.get("x-total-count", "")
            counted = int(total) if total.isascii() and total.isdigit() else None
            rows = _servers(answer.body)
            fresh = rows.keys() - seen
            seen |= rows.keys()
            pages.append(Page(feed, zone, {"answer": answer.body, "total": counted}))
            enough = len(rows) < SHORT_PAGE if counted is None else len(seen) >= counted
            if enough or not fresh:
                break
        return pages


class _Content:
    """The rows of all pages, and which feeds of which zones are there to the end."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self._rows: dict[tuple[str, str], dict[str, bytes]] = {}
        self._totals: dict[tuple[str, str], int | None] = {}
        self._last: dict[tuple[str, str], int] = {}
        for page in pages:
            asked = _asked(page.body)
            key, rows = (page.feed, page.region), _servers(asked.answer)
            self._rows.setdefault(key, {}).update(rows)
            self._totals[key] = asked.total
            self._last[key] = len(rows)

    def zones(self, feed: str) -> list[str]:
        """The zones of one feed."""
        return [zone for of, zone in self._rows if of == feed]

    def rows(self, feed: str) -> Iterator[tuple[str, str, bytes]]:
        """Zone, machine type and row of one feed."""
        for zone in self.zones(feed):
            for name, raw in self._rows[feed, zone].items():
                yield zone, name, raw

    def complete(self, feed: str, zone: str) -> bool:
        """Whether all rows are there."""
        return (feed, zone) in self._rows and (feed, zone) not in self.unfinished

    @property
    def unfinished(self) -> frozenset[tuple[str, str]]:
        """Feeds and zones whose pages were cut short."""
        return frozenset(key for key in self._rows if not self._ended(key))

    def _ended(self, key: tuple[str, str]) -> bool:
        total = self._totals[key]
        return self._last[key] < SHORT_PAGE if total is None else len(self._rows[key]) >= total


def _asked(body: Any) -> _Asked:
    """A page with its total; a bare answer, as from a recording, is one whose total is unknown."""
    if isinstance(body, bytes | str):
        return _Asked(body.encode() if isinstance(body, str) else body)
    if not isinstance(body, Mapping) or not isinstance(body.get("answer"), bytes):
        raise BadAnswer("scaleway: a page has another shape")
    total = body.get("total")
    return _Asked(body["answer"], total if isinstance(total, int) else None)


def _servers(body: bytes) -> dict[str, bytes]:
    """Name -> row, as its own JSON."""
    listed = open_page("scaleway: a page of machine types", body, _read_envelope).servers
    return {name: bytes(raw) for name, raw in listed.items()}


def _read(zone: str, name: str, raw: bytes) -> PricedOffer | Skip:
    """One machine type: an offer, or the reason why not."""
    return read_row(
        msgspec.Raw(raw),
        _read_server,
        lambda server: _passed_over(name, server) or _offer(zone, name, server),
    )


def _passed_over(name: str, server: _Server) -> Skip | None:
    if not server.gpu:
        return Skip("not a GPU machine")
    for reason, found in (
        ("a fraction of a GPU", bool(server.mig_profile)),
        ("no longer sold", server.end_of_service),
        ("Windows", name.endswith("-WIN")),
    ):
        if found:
            return Skip(reason)
    return None


def _offer(zone: str, name: str, server: _Server) -> PricedOffer:
    if server.gpu is None or server.gpu < 1 or server.gpu_info is None:
        raise Malformed("GPU machine that does not tell its GPU")
    if server.hourly_price is None:
        raise Malformed("row without hourly_price")
    return PricedOffer(
        tier="standard",
        region=zone,
        zone=None,
        instance_type=name,
        gpu=_gpu(server.gpu_info, server.arch),
        gpu_count=server.gpu,
        purchase=Purchase.ON_DEMAND,
        price=read_price(server.hourly_price, CURRENCY),
        source="scaleway:products-servers",
    )


def _gpu(info: _Gpu, arch: str | None) -> str:
    """The vocabulary's name, or Scaleway's own for what the vocabulary does not know."""
    if not info.gpu_name:
        raise Malformed("GPU machine that does not tell its GPU")
    gib = info.gpu_memory / 2**30 if info.gpu_memory else None
    gpu = normalise(info.gpu_name, gib)
    if gpu in GPUS and arch not in (None, "x86_64"):
        return f"{info.gpu_name} ({arch})"  # our servers do not run there as they are
    return gpu or info.gpu_name


def _stock(zone: str, name: str, raw: bytes) -> Signal | Skip:
    return read_row(
        msgspec.Raw(raw),
        _read_stock,
        lambda stock: Signal("stock", UNIT, zone, None, name, text=stock.availability),
    )
