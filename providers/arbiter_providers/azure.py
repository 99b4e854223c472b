"""Azure: the public retail prices, on-demand and spot, per region. No account is needed.

`GET https://prices.azure.com/api/retail/prices` answers at most 1,000 rows a page, with a link
to the next. Documented at learn.microsoft.com/rest/api/cost-management/retail-prices; its filter
knows `eq`, `and` and `contains`. Spot is a list price there too, valid for about a month. With an
account, eviction rates and past spot prices come from the Resource Graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, ProviderError
from arbiter.provider import (
    Fetched,
    Page,
    Parsed,
    ParsedHistory,
    PricedOffer,
    Progress,
    ProviderSettings,
    Signal,
    Skip,
)
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers import azure_history, azure_signals
from arbiter_providers._http import Http, Rejected
from arbiter_providers._regions import ask_regions, european_regions
from arbiter_providers.azure_sizes import gpu_of

ENDPOINT = "https://prices.azure.com"
PATH = "/api/retail/prices"
FEED = "retail-prices"
SOURCE = "azure:retail-prices"

WORKERS = 4
"""Regions asked at once: some twenty at a time have been answered with 429."""

MOST_PAGES = 200
"""Pages per region; a region has about twenty without the narrow filter, one or two with it."""


class _Row(msgspec.Struct, gc=False, frozen=True):
    """What is read of a price row, under the API's own names.

    A key that is absent or null is None; a wrong type is an error.
    """

    type: str | None = None
    serviceName: str | None = None
    armSkuName: str | None = None
    armRegionName: str | None = None
    productName: str | None = None
    skuName: str | None = None
    meterName: str | None = None
    unitOfMeasure: str | None = None
    currencyCode: str | None = None
    retailPrice: Decimal | None = None
    tierMinimumUnits: Decimal | None = None
    effectiveStartDate: datetime | None = None
    effectiveEndDate: datetime | None = None
    isPrimaryMeterRegion: bool = True


class _Envelope(msgspec.Struct, gc=False):
    Items: list[msgspec.Raw]
    NextPageLink: str | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """A row that is an offer, with the span in which its price holds."""

    key: tuple[str, str, Purchase]
    offer: PricedOffer
    starts: datetime
    ends: datetime | None
    rank: tuple[datetime, bool, int]  # of several for one key, the greatest counts


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_row = msgspec.json.Decoder(_Row).decode


class Azure:
    """Prices of Azure's GPU machines under Linux.

    `settings.endpoint` takes the place of https://prices.azure.com, and of the addresses that
    `options.login_endpoint` and `options.management_endpoint` do not name; `settings.regions`
    limits both what is asked and what is kept, and is by default every European region.
    `options.signals`: false to ask for prices only.
    """

    name = "azure"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._only = frozenset(region.lower() for region in settings.regions)
        # Rows seen in the last poll, by their bytes: an unchanged row costs one look-up.
        self._seen: dict[bytes, _Line | Skip] = {}
        self._evictions = azure_signals.EvictionRates(settings, clock or SystemClock())

    def fetch(self, progress: Progress) -> Fetched:
        """Every page of every region.

        Asks for the N series alone first; where that brings nothing at all, as from a stand-in
        that does not know `contains`, asks for all virtual machines.

        Raises:
            ProviderError: no region answered, or none with a single row.
        """
        regions = self._regions
        with Http(self.name, self._settings, clock=self._clock) as http:
            answers, errors = self._ask(http, regions, progress, narrow=True)
            if not _any_row(answers) and _only_rejected(errors):
                answers, errors = self._ask(http, regions, progress, narrow=False)
        if errors and not answers:
            raise next(iter(errors.values()))
        if not _any_row(answers) and not errors:
            raise BadAnswer(f"azure: not one price row for any of {len(regions)} regions")
        degraded = [f"{region}: {error.message}" for region, error in errors.items()]
        degraded += [f"{region}: the pages do not end" for region in _endless(answers)]
        pages = tuple(page for pages in answers.values() for page in pages)
        evictions = self._evictions.fetch(regions)
        return Fetched((*pages, *evictions), (*degraded, *self._evictions.notes))

    def fetch_history(
        self,
        since: datetime,  # noqa: ARG002 (the contract's; Azure tells all of its 90 days or nothing)
        until: datetime,  # noqa: ARG002
        progress: Progress,
    ) -> Fetched:
        """The spot prices of the last 90 days, whatever part of them is asked for.

        Raises:
            MissingCredentials: no account is set.
            ProviderError: nothing came.
        """
        return azure_history.fetch(self._settings, self._regions, self._clock, progress)

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        """Each price with the instants between which it stood.

        Raises:
            BadAnswer: a page is not an answer of the Resource Graph.
        """
        return azure_history.parse(fetched, now)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """The offers whose price holds now; of several rows for one, the newest.

        A row counts for the region that it names itself, whatever region was asked for: a server
        that ignores the filter does no harm.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        entries: dict[bytes, _Line | Skip] = {}
        others: list[Skip] = []
        unfinished: dict[str, bool] = {}
        graph = [page for page in fetched.pages if page.feed == azure_signals.FEED]
        signals, kinds = azure_signals.read(graph)
        for page in fetched.pages:
            if page.feed == azure_signals.FEED:
                continue
            rows, next_link = _open(page.body)
            unfinished[page.region] = bool(next_link)
            for row in rows:
                entry = self._seen.get(row) or _read(row)
                if entry is _NOT_GPU:
                    others.append(entry)
                else:
                    entries[row] = entry
        self._seen = entries
        offers, skips = self._choose(entries.values(), now)
        covered = frozenset(
            (region, purchase)
            for region, more in unfinished.items()
            for purchase in (Purchase.SPOT, Purchase.ON_DEMAND)
            if region and not more
        )
        wrong = [one for one in signals if isinstance(one, Skip)]
        told = [one for one in signals if isinstance(one, Signal)]
        return Parsed(offers, (*skips, *others, *wrong), covered, told, kinds)

    @property
    def _regions(self) -> tuple[str, ...]:
        return tuple(sorted(self._only)) or european_regions(self.name)

    def _choose(
        self, entries: Iterable[_Line | Skip], now: datetime
    ) -> tuple[tuple[PricedOffer, ...], tuple[Skip, ...]]:
        best: dict[tuple[str, str, Purchase], _Line] = {}
        skips: list[Skip] = []
        for entry in entries:
            if isinstance(entry, Skip):
                skips.append(entry)
            elif entry.starts > now:
                skips.append(_FUTURE)
            elif entry.ends is not None and now >= entry.ends:
                skips.append(_EXPIRED)
            elif self._only and entry.offer.region not in self._only:
                skips.append(_ELSEWHERE)
            elif entry.key not in best:
                best[entry.key] = entry
            else:
                skips.append(_OLDER)
                best[entry.key] = max(entry, best[entry.key], key=lambda line: line.rank)
        return tuple(line.offer for line in best.values()), tuple(skips)

    def _ask(
        self, http: Http, regions: Sequence[str], progress: Progress, *, narrow: bool
    ) -> tuple[dict[str, list[Page]], dict[str, ProviderError]]:
        def ask(region: str) -> list[Page]:
            return [Page(FEED, region, body) for body in self._pages(http, region, narrow)]

        return ask_regions(regions, ask, progress, workers=WORKERS)

    def _pages(self, http: Http, region: str, narrow: bool) -> Iterator[bytes]:
        """The bodies of one region, until there is no next link, or one that leads nowhere new.

        A link names the real host whatever the endpoint is, so only its query is followed.
        """
        base = (self._settings.endpoint or ENDPOINT).rstrip("/")
        address = base if base.endswith(PATH) else base + PATH
        query = {**_VERSION, "$filter": _filter(region, narrow)}
        asked: list[dict[str, str]] = []
        while query not in asked and len(asked) < MOST_PAGES:
            asked.append(query)
            body = http.get(address, query)
            link = _open(body)[1]
            yield body
            if not link:
                return
            query = {**_VERSION, **dict(parse_qsl(urlsplit(link).query))}


_VERSION = {"api-version": "2023-01-01-preview", "currencyCode": "USD"}

_NOT_GPU = Skip("not a GPU machine")
_NOT_PAYG = Skip("not pay-as-you-go")
_FUTURE = Skip("not valid yet")
_EXPIRED = Skip("no longer valid")
_OLDER = Skip("older row of the same offer")
_ELSEWHERE = Skip("region that was not asked for")


def _filter(region: str, narrow: bool) -> str:
    parts = [
        "serviceName eq 'Virtual Machines'",
        f"armRegionName eq '{region}'",
        "priceType eq 'Consumption'",
    ]
    if narrow:
        parts.append("contains(armSkuName, 'Standard_N')")
    return " and ".join(parts)


def _any_row(answers: Mapping[str, Sequence[Page]]) -> bool:
    return any(_open(page.body)[0] for pages in answers.values() for page in pages)


def _only_rejected(errors: Mapping[str, ProviderError]) -> bool:
    return all(isinstance(error, Rejected) and error.status == 400 for error in errors.values())


def _endless(answers: Mapping[str, Sequence[Page]]) -> list[str]:
    return [region for region, pages in answers.items() if _open(pages[-1].body)[1]]


def _open(body: object) -> tuple[list[bytes], str | None]:
    """The rows of a page, each as its own JSON, and the link to the next page."""
    if not isinstance(body, bytes | str):
        raise BadAnswer("azure: a page of prices is not text")
    try:
        envelope = _read_envelope(body)
        return [bytes(row) for row in envelope.Items], envelope.NextPageLink
    except msgspec.ValidationError as error:
        raise BadAnswer(f"azure: a page of prices has another shape: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _open_lenient(body)


def _open_lenient(body: bytes | str) -> tuple[list[bytes], str | None]:
    """As `_open`, for JSON with NaN and Infinity in it, which only some writers produce.

    Such a figure becomes text, so that its row alone is found malformed.
    """
    try:
        content = json.loads(body, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("azure: a page of prices is not JSON, or breaks off") from error
    if not isinstance(content, dict) or not isinstance(content.get("Items"), list):
        raise BadAnswer("azure: a page of prices has another shape")
    link = content.get("NextPageLink")
    rows = [msgspec.json.encode(row) for row in content["Items"]]
    return rows, link if isinstance(link, str) else None


def _read(raw: bytes) -> _Line | Skip:
    """One row, judged by itself: an offer with its validity, or the reason why not."""
    try:
        row = _read_row(raw)
        return _passed_over(row) or _line(row)
    except msgspec.MsgspecError as error:
        return malformed(f"row of the wrong shape: {error}", raw)
    except Malformed as error:
        return malformed(str(error), raw)
    except ArithmeticError:
        return malformed("number or date out of range", raw)


def _passed_over(row: _Row) -> Skip | None:
    """Why a row of sound shape is not a Linux machine with a GPU at an hourly price.

    Raises:
        Malformed: there is nothing to tell the machine by.
    """
    size = row.armSkuName
    product, sku, meter = row.productName or "", row.skuName or "", row.meterName or ""
    if row.type not in ("Consumption", None):
        return _NOT_PAYG
    if size is None:
        raise Malformed("row without armSkuName")
    if not size.startswith("Standard_N"):
        return _NOT_GPU
    for reason, found in (
        ("not a virtual machine", row.serviceName not in ("Virtual Machines", None)),
        ("dedicated host", "_Type" in size),
        ("Windows", "Windows" in product or product.endswith(" Win")),
        ("cloud services", "Cloud Services" in product or "CloudServices" in product),
        ("low priority, the older product", "Low Priority" in sku or "Low Priority" in meter),
        ("expired meter", "Expired" in sku or "Expired" in meter),
        ("promotion", "Promo" in size or "Promo" in sku),
        ("not priced by the hour", row.unitOfMeasure not in ("1 Hour", None)),
        ("price from a higher tier", (row.tierMinimumUnits or 0) > 0),
    ):
        if found:
            return Skip(reason)
    gpu = gpu_of(size)
    return Skip(gpu) if isinstance(gpu, str) else None


def _line(row: _Row) -> _Line:
    """The offer of a row that was not passed over.

    Raises:
        Malformed: a key is missing, or a value cannot be right.
    """
    for name in ("type", "armRegionName", "productName", "skuName", "meterName", "unitOfMeasure"):
        if not getattr(row, name):
            raise Malformed(f"row without {name}")
    size, starts = row.armSkuName or "", row.effectiveStartDate
    if starts is None or starts.tzinfo is None:
        raise Malformed("row without effectiveStartDate")
    if row.retailPrice is None:
        raise Malformed("row without retailPrice")
    if row.currencyCode != "USD":
        raise Malformed(f"currency is {str(row.currencyCode)[:8]}, asked for USD")
    spot = (row.skuName or "").endswith(" Spot")
    if not spot and "Spot" in (row.meterName or ""):
        raise Malformed("spot by its meter and not by its name")
    purchase = Purchase.SPOT if spot else Purchase.ON_DEMAND
    gpu = gpu_of(size)
    if isinstance(gpu, str):
        raise Malformed(gpu)
    offer = PricedOffer(
        tier="standard",
        region=(row.armRegionName or "").lower(),
        zone=None,
        instance_type=size,
        gpu=gpu[0],
        gpu_count=gpu[1],
        purchase=purchase,
        price=read_price(row.retailPrice),
        priced_at=starts.astimezone(UTC),
        source=SOURCE,
    )
    key = (offer.region, size, purchase)
    rank = (starts, row.isPrimaryMeterRegion, offer.price.micros)
    return _Line(key, offer, starts, _end(row.effectiveEndDate), rank)


def _end(stated: datetime | None) -> datetime | None:
    """The instant at which a price ends: the stated minute, 23:59 of a day, is its last."""
    if stated is None:
        return None
    if stated.tzinfo is None:
        raise Malformed("effectiveEndDate without a time zone")
    return stated + timedelta(minutes=1)
