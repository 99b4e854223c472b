"""Reading AWS's on-demand prices, of GetProducts and of the public list. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from arbiter.domain import Purchase
from arbiter.provider import PricedOffer, Skip
from arbiter.quality import Malformed, malformed, read_price
from arbiter.typed import convert, decode
from arbiter_providers.aws_types import Machines, machine


class _Dimension(msgspec.Struct, gc=False):
    unit: str
    pricePerUnit: dict[str, str]


class _Term(msgspec.Struct, gc=False):
    priceDimensions: dict[str, _Dimension]
    effectiveDate: datetime | None = None


class _Terms(msgspec.Struct, gc=False):
    OnDemand: dict[str, _Term] = msgspec.field(default_factory=dict)


class _ProductBody(msgspec.Struct, gc=False):
    attributes: dict[str, str]


class _Product(msgspec.Struct, gc=False):
    product: _ProductBody
    terms: _Terms = msgspec.field(default_factory=_Terms)


class Listed(msgspec.Struct, gc=False):
    """One on-demand price as either price list states it."""

    instance_type: str
    region: str
    system: str
    tenancy: str
    status: str
    software: str
    market: str
    unit: str
    price: str
    currency: str
    effective: datetime | None = None


def products(
    rows: Iterable[Any], region: str, machines: Machines, now: datetime
) -> Iterator[PricedOffer | Skip]:
    """Rows of GetProducts, each a text of JSON (or, from some recordings, already decoded)."""
    listed: list[Listed | Skip] = []
    for raw in rows:
        try:
            if isinstance(raw, str | bytes):
                product = decode(raw, _Product)
            else:
                product = convert(raw, _Product)
            listed.extend(_product_prices(product, region))
        except (msgspec.MsgspecError, UnicodeError) as error:
            listed.append(malformed(f"row of the wrong shape: {error}", raw))
    return on_demand(listed, machines, now)


def _product_prices(product: _Product, region: str) -> Iterator[Listed]:
    has = product.product.attributes
    for term in product.terms.OnDemand.values():
        for dimension in term.priceDimensions.values():
            prices = dimension.pricePerUnit
            currency = "USD" if "USD" in prices else next(iter(prices), "")
            yield Listed(
                instance_type=has.get("instanceType", ""),
                region=has.get("regionCode", region),
                system=has.get("operatingSystem", ""),
                tenancy=has.get("tenancy", ""),
                status=has.get("capacitystatus", ""),
                software=has.get("preInstalledSw", ""),
                market=has.get("marketoption", ""),
                unit=dimension.unit,
                price=prices.get(currency, ""),
                currency=currency,
                effective=term.effectiveDate,
            )


def price_list(
    rows: Iterable[Any], region: str, machines: Machines, now: datetime
) -> Iterator[PricedOffer | Skip]:
    """Rows of the public price list, as `aws_public` keeps them: column name -> text."""
    listed: list[Listed | Skip] = []
    for raw in rows:
        try:
            listed.append(_listed_row(convert(raw, dict[str, str]), region))
        except (msgspec.ValidationError, ValueError) as error:
            listed.append(malformed(f"row of the wrong shape: {error}", raw))
    return on_demand(listed, machines, now)


def _listed_row(row: Mapping[str, str], region: str) -> Listed:
    term, effective = row.get("TermType", ""), row.get("EffectiveDate")
    return Listed(
        instance_type=row.get("Instance Type", ""),
        region=row.get("Region Code") or region,
        system=row.get("Operating System", ""),
        tenancy=row.get("Tenancy", ""),
        status=row.get("CapacityStatus", ""),
        software=row.get("Pre Installed S/W", ""),
        market=row.get("MarketOption", "") if term in ("OnDemand", "") else term,
        unit=row.get("Unit", ""),
        price=row.get("PricePerUnit", ""),
        currency=row.get("Currency", ""),
        effective=datetime.fromisoformat(effective).replace(tzinfo=UTC) if effective else None,
    )


def on_demand(
    listed: Iterable[Listed | Skip], machines: Machines, now: datetime
) -> Iterator[PricedOffer | Skip]:
    """The Linux on-demand price of each type: of several, the newest that has begun."""
    newest: dict[tuple[str, str], PricedOffer] = {}
    for row in listed:
        if isinstance(row, Skip):
            yield row
            continue
        try:
            offer = _on_demand_offer(row, machines, now)
        except (Malformed, ArithmeticError) as error:
            yield malformed(str(error), f"{row.instance_type} {row.region} {row.price}")
            continue
        if isinstance(offer, Skip):
            yield offer
            continue
        key = (offer.region, offer.instance_type)
        if key in newest:
            yield Skip("older row of the same offer")
            offer = max(offer, newest[key], key=_rank)
        newest[key] = offer
    yield from newest.values()


def _on_demand_offer(row: Listed, machines: Machines, now: datetime) -> PricedOffer | Skip:
    if not row.instance_type:
        return Skip("not a machine")
    gpu = machine(row.instance_type, machines)
    if isinstance(gpu, str):
        return Skip(gpu)
    for reason, found in (
        ("not Linux", row.system != "Linux"),
        ("not shared tenancy", row.tenancy != "Shared"),
        ("capacity reservation", row.status != "Used"),
        ("software in the price", row.software not in ("NA", "")),
        ("not on-demand", row.market not in ("OnDemand", "")),
        ("not priced by the hour", row.unit != "Hrs"),
        ("not valid yet", row.effective is not None and _aware(row.effective) > now),
        ("no on-demand price", _is_zero(row.price)),
    ):
        if found:
            return Skip(reason)
    if row.currency != "USD":
        raise Malformed(f"currency is {row.currency[:8]}, asked for USD")
    return PricedOffer(
        tier="standard",
        region=row.region,
        zone=None,
        instance_type=row.instance_type,
        gpu=gpu[0],
        gpu_count=gpu[1],
        purchase=Purchase.ON_DEMAND,
        price=read_price(row.price),
        priced_at=_aware(row.effective) if row.effective else None,
        source="aws:price-list",
    )


def _rank(offer: PricedOffer) -> tuple[bool, datetime | None, int]:
    return offer.priced_at is not None, offer.priced_at, offer.price.micros


def _is_zero(price: str) -> bool:
    """AWS lists what it does not sell on demand, capacity blocks among it, at 0.0000000000."""
    try:
        return Decimal(price) == 0
    except InvalidOperation:
        return False


def _aware(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
