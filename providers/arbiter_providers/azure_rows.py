"""One page of Azure's retail prices, row by row: each is an offer, or a reason why it is none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import PricedOffer, Skip
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers._rows import not_json
from arbiter_providers.azure_sizes import gpu_of

SOURCE = "azure:retail-prices"

NOT_GPU = Skip("not a GPU machine")
_NOT_PAYG = Skip("not pay-as-you-go")


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
class Line:
    """A row that is an offer, with the span in which its price holds."""

    key: tuple[str, str, Purchase]
    offer: PricedOffer
    starts: datetime
    ends: datetime | None
    rank: tuple[datetime, bool, int]  # of several for one key, the greatest counts

    def holds(self, now: datetime) -> bool:
        """Whether its price holds."""
        return self.starts <= now and (self.ends is None or now < self.ends)


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_row = msgspec.json.Decoder(_Row).decode


def open_page(body: object) -> tuple[list[bytes], str | None]:
    """The rows of a page, each as its own JSON, and the link to the next page."""
    if not isinstance(body, bytes | str):
        raise BadAnswer("azure: a page of prices is not text")
    try:
        envelope = _decode_envelope(body)
        return [bytes(row) for row in envelope.Items], envelope.NextPageLink
    except msgspec.ValidationError as error:
        raise BadAnswer(f"azure: a page of prices has another shape: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _open_lenient(body)


def _open_lenient(body: bytes | str) -> tuple[list[bytes], str | None]:
    """As `open_page`, for JSON with NaN and Infinity in it, which only some writers produce.

    Such a figure becomes text, so that its row alone is found malformed.
    """
    try:
        content = json.loads(body, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise not_json("azure: a page of prices", body) from error
    if not isinstance(content, dict) or not isinstance(content.get("Items"), list):
        raise BadAnswer("azure: a page of prices has another shape")
    link = content.get("NextPageLink")
    rows = [msgspec.json.encode(row) for row in content["Items"]]
    return rows, link if isinstance(link, str) else None


def read_row(raw: bytes) -> Line | Skip:
    """One row, judged by itself: an offer with its validity, or the reason why not."""
    try:
        row = _decode_row(raw)
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
    if row.type not in ("Consumption", None):
        return _NOT_PAYG
    if size is None:
        raise Malformed("row without armSkuName")
    if not size.startswith("Standard_N"):
        return NOT_GPU
    reason = _why_not(row, size)
    if reason is not None:
        return Skip(reason)
    gpu = gpu_of(size)
    return Skip(gpu) if isinstance(gpu, str) else None


def _why_not(row: _Row, size: str) -> str | None:
    product, sku, meter = row.productName or "", row.skuName or "", row.meterName or ""
    if row.serviceName not in ("Virtual Machines", None):
        return "not a virtual machine"
    if "_Type" in size:
        return "dedicated host"
    if "Windows" in product or product.endswith(" Win"):
        return "Windows"
    if "Cloud Services" in product or "CloudServices" in product:
        return "cloud services"
    if "Low Priority" in sku or "Low Priority" in meter:
        return "low priority, the older product"
    if "Expired" in sku or "Expired" in meter:
        return "expired meter"
    if "Promo" in size or "Promo" in sku:
        return "promotion"
    if row.unitOfMeasure not in ("1 Hour", None):
        return "not priced by the hour"
    return "price from a higher tier" if (row.tierMinimumUnits or 0) > 0 else None


def _line(row: _Row) -> Line:
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
    return Line(key, offer, starts, _end(row.effectiveEndDate), rank)


def _end(stated: datetime | None) -> datetime | None:
    """The instant at which a price ends: the stated minute, 23:59 of a day, is its last."""
    if stated is None:
        return None
    if stated.tzinfo is None:
        raise Malformed("effectiveEndDate without a time zone")
    return stated + timedelta(minutes=1)
