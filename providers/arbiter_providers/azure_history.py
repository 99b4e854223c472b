"""Azure's spot prices of the last 90 days, for those who have an account.

The Resource Graph keeps for each size, system and region a short list of prices, newest first,
each with the instant from which it held. It is told whole: there is no asking for a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import MissingCredentials, ProviderError
from arbiter.provider import (
    Fetched,
    Page,
    ParsedHistory,
    PastPrice,
    PricedOffer,
    Progress,
    ProviderSettings,
    Skip,
)
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers import azure_graph
from arbiter_providers._rows import read_row
from arbiter_providers.azure_sizes import gpu_of, size_named

FEED = "spot-price-history"
TABLE = "skuspotpricehistory/ostype/location"
LINUX = "properties.osType =~ 'linux'"
COLUMN = "spotPrices = properties.spotPrices"


class _Price(msgspec.Struct, gc=False):
    priceUSD: Decimal
    effectiveDate: datetime


class _Row(msgspec.Struct, gc=False):
    skuName: str
    location: str
    spotPrices: list[msgspec.Raw] | str  # some answers have the list as a text of JSON


_read_row = msgspec.json.Decoder(_Row).decode
_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_price = msgspec.json.Decoder(_Price).decode


def fetch(
    settings: ProviderSettings, regions: Sequence[str], clock: Clock | None, progress: Progress
) -> Fetched:
    """Every price that the Resource Graph keeps of GPU sizes in these regions.

    Raises:
        MissingCredentials: no account is set.
        ProviderError: not one page came.
    """
    absent = azure_graph.missing()
    if absent:
        raise MissingCredentials(
            f"azure: past spot prices are told to accounts only: {', '.join(absent)} not set",
            f"export {absent[0]}=...",
        )
    query = azure_graph.query(TABLE, regions, also=LINUX, wanted=COLUMN)
    pages: list[Page] = []
    try:
        for page in azure_graph.ask(FEED, query, settings, clock):
            pages.append(page)
            progress(f"past prices, page {len(pages)}")
    except ProviderError as error:
        if not pages:
            raise
        return Fetched(tuple(pages), (f"some sizes are missing, {error.message}",))
    more = azure_graph.rows(pages[-1].body)[1]
    return Fetched(tuple(pages), ("some sizes are missing, the pages do not end",) if more else ())


def parse(fetched: Fetched, now: datetime) -> ParsedHistory:
    """Each price with the instants between which it stood; the newest is open.

    Raises:
        BadAnswer: a page is not an answer of the Resource Graph.
    """
    prices: list[PastPrice] = []
    skips: list[Skip] = []
    for page in fetched.pages:
        for raw in azure_graph.rows(page.body)[0]:
            read = read_row(raw, _read_row, lambda row: list(_series(row, now)))
            for one in [read] if isinstance(read, Skip) else read:
                if isinstance(one, Skip):
                    skips.append(one)
                else:
                    prices.append(one)
    return ParsedHistory(prices, skips)


def _series(row: _Row, now: datetime) -> Iterator[PastPrice | Skip]:
    """The prices of one size and region, whatever their order."""
    if not row.location:
        raise Malformed("row without location")
    size = size_named(row.skuName)
    gpu = gpu_of(size) if size else "GPU size that is not in the table"
    if size is None or isinstance(gpu, str):
        yield Skip(str(gpu))
        return
    listed = _read_list(row.spotPrices) if isinstance(row.spotPrices, str) else row.spotPrices
    told: dict[datetime, PricedOffer] = {}
    for raw in listed:
        try:
            offer = _offer(size, gpu, row.location.lower(), raw, now)
        except (msgspec.MsgspecError, Malformed) as error:
            yield malformed(f"past price: {error}", f"{size} {row.location} {bytes(raw)[:80]!r}")
            continue
        if isinstance(offer, Skip):
            yield offer
        elif offer.priced_at is not None:
            rival = told.get(offer.priced_at, offer)
            told[offer.priced_at] = max(offer, rival, key=lambda one: one.price.micros)
    starts = sorted(told)
    for start, end in zip(starts, [*starts[1:], None], strict=False):
        yield PastPrice(told[start], start, end)


def _offer(
    size: str, gpu: tuple[str, int], region: str, raw: msgspec.Raw, now: datetime
) -> PricedOffer | Skip:
    price = _read_price(raw)
    if price.effectiveDate.tzinfo is None:
        raise Malformed("effectiveDate without a time zone")
    start = price.effectiveDate.astimezone(UTC)
    if start > now:
        return Skip("not valid yet")
    return PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=size,
        gpu=gpu[0],
        gpu_count=gpu[1],
        purchase=Purchase.SPOT,
        price=read_price(price.priceUSD),
        priced_at=start,
        source="azure:spot-price-history",
    )
