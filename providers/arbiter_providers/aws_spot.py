"""Reading AWS's spot prices, of an account and of the public feed. All of it is pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.provider import PricedOffer, Skip
from arbiter.quality import Malformed, malformed, read_price
from arbiter.typed import convert, decode
from arbiter_providers._rows import read_row
from arbiter_providers.aws_types import Machines, machine

OLDEST = timedelta(days=100)
"""AWS keeps 90 days of spot prices; what claims to be older is not a price of today."""

_LINUX = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")

_OLD_REGION_NAMES = {
    "us-east": "us-east-1",
    "us-west": "us-west-1",
    "eu-ireland": "eu-west-1",
    "apac-sin": "ap-southeast-1",
    "apac-syd": "ap-southeast-2",
    "apac-tokyo": "ap-northeast-1",
}
"""Spellings that the public spot feed has used for its oldest regions."""


class _SpotRow(msgspec.Struct, gc=False):
    AvailabilityZone: str | None = None
    AvailabilityZoneId: str | None = None
    InstanceType: str | None = None
    ProductDescription: str | None = None
    SpotPrice: str | None = None
    Timestamp: datetime | None = None


def spot_history(
    rows: Iterable[Any], region: str, machines: Machines, zones: Mapping[str, str], now: datetime
) -> Iterator[PricedOffer | Skip]:
    """Rows of DescribeSpotPriceHistory: the newest of each zone and type that is not after now.

    Args:
        zones: the account's zone names -> stable zone ids, for rows that carry only the name.
    """
    newest: dict[tuple[str, str], PricedOffer] = {}
    for raw in rows:
        offer = spot_offer(raw, region, machines, zones, now, oldest=OLDEST)
        if isinstance(offer, Skip):
            yield offer
            continue
        key = (offer.zone or "", offer.instance_type)
        rival = newest.get(key)
        if rival is None:
            newest[key] = offer
        else:
            yield Skip("older row of the same offer")
            newest[key] = max(offer, rival, key=_age_rank)
    yield from newest.values()


def spot_offer(
    raw: Any,
    region: str,
    machines: Machines,
    zones: Mapping[str, str],
    now: datetime,
    *,
    oldest: timedelta | None = None,
) -> PricedOffer | Skip:
    """One row of DescribeSpotPriceHistory: its Timestamp is the `priced_at`.

    Args:
        oldest: how old it may be; None where it may be as old as it likes.
    """
    try:
        row = convert(raw, _SpotRow)
        return _spot_offer(row, region, machines, zones, now, oldest)
    except msgspec.ValidationError as error:
        return malformed(f"row of the wrong shape: {error}", raw)
    except Malformed as error:
        return malformed(str(error), raw)


def _age_rank(offer: PricedOffer) -> tuple[datetime, int]:
    return offer.priced_at or datetime.min.replace(tzinfo=UTC), offer.price.micros


def _spot_offer(
    row: _SpotRow,
    region: str,
    machines: Machines,
    zones: Mapping[str, str],
    now: datetime,
    oldest: timedelta | None,
) -> PricedOffer | Skip:
    if not row.InstanceType:
        raise Malformed("row without InstanceType")
    gpu = machine(row.InstanceType, machines)
    if isinstance(gpu, str):
        return Skip(gpu)
    if row.ProductDescription not in _LINUX:
        return Skip("not Linux")
    zone = row.AvailabilityZoneId or zones.get(row.AvailabilityZone or "")
    if not zone:
        return Skip("zone without a stable id", sample=str(row.AvailabilityZone)[:120])
    if row.Timestamp is None or row.Timestamp.tzinfo is None:
        raise Malformed("row without Timestamp")
    if row.Timestamp > now:
        return Skip("not valid yet")
    if oldest is not None and now - row.Timestamp > oldest:
        raise Malformed(f"spot price older than {oldest.days} days")
    return PricedOffer(
        tier="standard",
        region=region,
        zone=zone,
        instance_type=row.InstanceType,
        gpu=gpu[0],
        gpu_count=gpu[1],
        purchase=Purchase.SPOT,
        price=read_price(row.SpotPrice),
        priced_at=row.Timestamp.astimezone(UTC),
        source="aws:spot-price-history",
    )


class _Column(msgspec.Struct, gc=False):
    name: str
    prices: dict[str, str]


class _Size(msgspec.Struct, gc=False):
    size: str
    valueColumns: list[_Column]


class _Family(msgspec.Struct, gc=False):
    sizes: list[msgspec.Raw]


class _Region(msgspec.Struct, gc=False):
    region: str
    instanceTypes: list[msgspec.Raw]


class _Config(msgspec.Struct, gc=False):
    regions: list[msgspec.Raw]


class _Feed(msgspec.Struct, gc=False):
    config: _Config


_read_region = msgspec.json.Decoder(_Region).decode
_read_family = msgspec.json.Decoder(_Family).decode


def spot_feed(
    body: bytes | str, machines: Machines, asked: Collection[str] | None
) -> dict[str, tuple[bool, list[PricedOffer | Skip]]]:
    """The public spot feed by region. Its prices hold for a whole region and have no age.

    Args:
        asked: the regions to read, None meaning all.

    Returns:
        Region -> whether all of it could be read, and its sizes; "" -> rows without a region.

    Raises:
        BadAnswer: not this feed.
    """
    try:
        feed = decode(body, _Feed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"aws: the public spot feed cannot be read: {error}") from error
    found: dict[str, tuple[bool, list[PricedOffer | Skip]]] = {}
    for raw in feed.config.regions:
        listed = read_row(raw, _read_region, lambda region: region)
        if isinstance(listed, Skip) or not listed.region:
            found.setdefault("", (False, []))[1].append(_unread(listed, raw))
            continue
        region = _OLD_REGION_NAMES.get(listed.region, listed.region)
        if asked is not None and region not in asked:
            continue
        families = [read_row(one, _read_family, lambda one: one) for one in listed.instanceTypes]
        sizes = [one for family in families if isinstance(family, _Family) for one in family.sizes]
        unread = [one for one in families if isinstance(one, Skip)]
        whole, rows = found.get(region, (True, []))
        rows += [*_feed_region(sizes, region, machines), *unread]
        found[region] = whole and not unread, rows
    return found


def _unread(listed: _Region | Skip, raw: msgspec.Raw) -> Skip:
    return listed if isinstance(listed, Skip) else malformed("row without a region", bytes(raw))


def _feed_region(
    sizes: Iterable[msgspec.Raw], region: str, machines: Machines
) -> Iterator[PricedOffer | Skip]:
    """The sizes of one region. A size that is listed twice counts once, at its higher price."""
    dearest: dict[str, PricedOffer] = {}
    for raw in sizes:
        try:
            size = decode(raw, _Size)
            offer = _feed_offer(size, region, machines)
        except msgspec.MsgspecError as error:
            yield malformed(f"row of the wrong shape: {error}", bytes(raw))
            continue
        except Malformed as error:
            yield malformed(str(error), bytes(raw))
            continue
        if isinstance(offer, Skip):
            yield offer
            continue
        rival = dearest.get(offer.instance_type, offer)
        dearest[offer.instance_type] = max(offer, rival, key=lambda one: one.price.micros)
    yield from dearest.values()


def _feed_offer(size: _Size, region: str, machines: Machines) -> PricedOffer | Skip:
    gpu = machine(size.size, machines)
    if isinstance(gpu, str):
        return Skip(gpu)
    stated = [column.prices.get("USD") for column in size.valueColumns if column.name == "linux"]
    if not stated or stated[0] is None:
        raise Malformed("row without a price for linux")
    if stated[0].startswith("N/A"):
        return Skip("not offered as spot")
    return PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=size.size,
        gpu=gpu[0],
        gpu_count=gpu[1],
        purchase=Purchase.SPOT,
        price=read_price(stated[0]),
        source="aws:public-spot-feed",
    )
