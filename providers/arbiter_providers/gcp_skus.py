"""From the price list of GCP to the prices of whole machines.

The list has one row (a SKU) for a vCPU, a GiB of memory, a GPU or a GiB of local SSD, told apart
by their description alone; a machine costs the sum of its parts. Regions come from the row's
`serviceRegions`, never from the place in its description, which may mean several ("Americas").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

from arbiter.domain import Purchase
from arbiter.provider import Skip
from arbiter.quality import Malformed, malformed
from arbiter_providers._rows import open_page
from arbiter_providers.gcp_machines import Machine

HOURS_A_MONTH = 730
GB_A_GIB = Decimal(2**30) / Decimal(10**9)
NANO = Decimal("1e-9")

NOT_GPU = Skip("not a part of a GPU machine")
OTHER_WAY = Skip("a commitment, a reservation or another special way to buy")
ELSEWHERE = Skip("region that was not asked for")
FUTURE = Skip("not valid yet")
OLDER = Skip("older row of the same part")


class Part(NamedTuple):
    """What a row prices, in one region.

    Attributes:
        kind: "core", "ram", "gpu", "ssd", or "slice": a GPU with its share of all the rest.
        of: the machine series ("A3PLUS") or GCP's name of the GPU ("nvidia-l4"); "" for local SSD
            of any series.
    """

    kind: str
    of: str
    purchase: Purchase


class Rate(NamedTuple):
    """The price of one unit of a part: a vCPU, a GiB, a GPU.

    Attributes:
        amount: USD per unit and hour.
        since: when the row says it took effect, or None.
    """

    amount: Decimal
    since: datetime | None


Rates = dict[tuple[str, Part], Rate]
"""(region, part) -> its price."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """What the pages of the price list say.

    Attributes:
        regions: every region that a part is priced in.
        whole: the last page is there, and it is not the only one and empty.
    """

    rates: Rates
    regions: frozenset[str]
    skips: list[Skip]
    whole: bool

    def price(self, machine: Machine, region: str, purchase: Purchase) -> Rate | str:
        """The price of a whole machine in USD per hour, or what it lacks."""
        sliced = self.rates.get((region, Part("slice", machine.accelerator, purchase)))
        if sliced is not None:
            return Rate(machine.gpu_count * sliced.amount, sliced.since)
        # A row may stand on a page that is missing, so nothing may stand in for it then.
        series = machine.series if self.whole else machine.series[:1]
        parts: list[tuple[str, tuple[str, ...], Decimal]] = [
            ("gpu", (machine.accelerator,), Decimal(machine.gpu_count)),
            ("core", series, Decimal(machine.vcpus)),
            ("ram", series, machine.memory_gib),
        ]
        if machine.ssd_gib:
            parts.append(("ssd", (machine.series[0], ""), Decimal(machine.ssd_gib)))
        total, since = Decimal(0), None
        for kind, names, units in parts:
            found = [
                rate
                for name in names
                if (rate := self.rates.get((region, Part(kind, name, purchase))))
            ]
            if not found:
                return f"no price for its {_IN_WORDS[kind]}"
            total += units * found[0].amount
            since = max(filter(None, (since, found[0].since)), default=None)
        return Rate(total, since)


_IN_WORDS = {"gpu": "GPU", "core": "vCPU", "ram": "memory", "ssd": "local SSD"}


def read_price_list(
    bodies: Iterable[object], wanted: Callable[[str], bool], now: datetime
) -> PriceList:
    """The prices of parts in the wanted regions; of several for one part, the newest.

    Raises:
        BadAnswer: a page is not JSON, or not an answer of this API.
    """
    rates: Rates = {}
    skips: list[Skip] = []
    rows_seen, unfinished = 0, True
    for body in bodies:
        page = _open(body)
        unfinished = bool(page.nextPageToken)
        rows_seen += len(page.skus)
        for raw in page.skus:
            read = _read(raw, wanted, now)
            if isinstance(read, Skip):
                skips.append(read)
                continue
            part, rate, regions = read
            for region in regions:
                _keep(rates, (region, part), rate, skips)
    regions_seen = frozenset(region for region, _ in rates)
    return PriceList(rates, regions_seen, skips, rows_seen > 0 and not unfinished)


def next_page(body: object) -> tuple[int, str]:
    """How many rows a page has, and the token of the next page, "" on the last.

    Raises:
        BadAnswer: not a page of the price list.
    """
    page = _open(body)
    return len(page.skus), page.nextPageToken or ""


def _keep(rates: Rates, key: tuple[str, Part], rate: Rate, skips: list[Skip]) -> None:
    """Of two rows for one part the newer counts, and of two as new the dearer."""
    rival = rates.get(key)
    if rival is None:
        rates[key] = rate
        return
    skips.append(OLDER)
    rates[key] = max(rate, rival, key=lambda one: (one.since or _LONG_AGO, one.amount))


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


# --- one row ----------------------------------------------------------------------------------


class _Category(msgspec.Struct, gc=False):
    resourceFamily: str = ""
    resourceGroup: str = ""
    usageType: str = ""


class _Head(msgspec.Struct, gc=False):
    """What tells a row of interest from the thousands of others."""

    description: str
    category: _Category = msgspec.field(default_factory=_Category)


class _Money(msgspec.Struct, gc=False):
    """Either of the two numbers is left out where it is 0."""

    currencyCode: str = ""
    units: str | int = 0
    nanos: int = 0


class _Tier(msgspec.Struct, gc=False):
    unitPrice: _Money
    startUsageAmount: Decimal = Decimal(0)


class _Expression(msgspec.Struct, gc=False):
    usageUnit: str
    tieredRates: list[_Tier]


class _Pricing(msgspec.Struct, gc=False):
    pricingExpression: _Expression
    effectiveTime: datetime | None = None


class _Sku(msgspec.Struct, gc=False):
    serviceRegions: list[str]
    pricingInfo: list[_Pricing]


class _Page(msgspec.Struct, gc=False):
    skus: list[msgspec.Raw] = msgspec.field(default_factory=list)
    nextPageToken: str | None = None


_read_page = msgspec.json.Decoder(_Page).decode
_read_head = msgspec.json.Decoder(_Head).decode
_read_sku = msgspec.json.Decoder(_Sku).decode


def _open(body: object) -> _Page:
    return open_page("gcp: a page of the price list", body, _read_page)


def _read(
    raw: msgspec.Raw, wanted: Callable[[str], bool], now: datetime
) -> tuple[Part, Rate, list[str]] | Skip:
    try:
        head = _read_head(raw)
        part = part_of(head.description, head.category.resourceFamily, head.category.usageType)
        if isinstance(part, Skip):
            return part
        sku = _read_sku(raw)
        if not sku.serviceRegions:
            raise Malformed("row without serviceRegions")
        regions = [region for region in sku.serviceRegions if region and wanted(region)]
        if not regions:
            return ELSEWHERE
        rate = _rate(part, sku.pricingInfo, now)
        return FUTURE if rate is None else (part, rate, regions)
    except Malformed as error:
        return malformed(str(error), bytes(raw))
    except msgspec.MsgspecError as error:
        return malformed(f"row of the wrong shape: {error}", bytes(raw))
    except (ArithmeticError, UnicodeDecodeError):
        return malformed("number that cannot be read", bytes(raw))


def _rate(part: Part, priced: list[_Pricing], now: datetime) -> Rate | None:
    """The newest price that has taken effect, for one unit and hour; None before the first.

    Raises:
        Malformed: a value cannot be right.
    """
    if not priced:
        raise Malformed("row without pricingInfo")
    if any(one.effectiveTime and one.effectiveTime.tzinfo is None for one in priced):
        raise Malformed("effectiveTime without a time zone")
    standing = [one for one in priced if one.effectiveTime is None or one.effectiveTime <= now]
    if not standing:
        return None
    newest = max(standing, key=lambda one: one.effectiveTime or _LONG_AGO)
    expression = newest.pricingExpression
    if not expression.tieredRates:
        raise Malformed("row without tieredRates")
    tier = max(expression.tieredRates, key=lambda one: one.startUsageAmount)
    amount = money(tier.unitPrice.units, tier.unitPrice.nanos)
    if tier.unitPrice.currencyCode != "USD":
        raise Malformed(f"currency is {tier.unitPrice.currencyCode[:8]}, asked for USD")
    if amount == 0:
        raise Malformed("price is 0")
    if amount < 0:
        raise Malformed("price is negative")
    per_hour = amount * _per_unit_and_hour(part.kind, expression.usageUnit)
    since = newest.effectiveTime.astimezone(UTC) if newest.effectiveTime else None
    return Rate(per_hour, since)


def money(units: str | int, nanos: int) -> Decimal:
    """An amount of Google's type Money: whole units and billionths.

    Raises:
        Malformed: it is not a number.
    """
    try:
        amount = Decimal(units) + nanos * NANO
    except ArithmeticError:
        raise Malformed("price is not a number") from None
    if not amount.is_finite():
        raise Malformed("price is not a number")
    return amount


def _per_unit_and_hour(kind: str, unit: str) -> Decimal:
    """What a price per `usageUnit` is multiplied by, to be per vCPU, GPU or GiB, and hour.

    A month has 730 hours, as Google's own calculator has it.
    """
    if kind in ("core", "gpu", "slice") and unit == "h":
        return Decimal(1)
    size, _, time = unit.partition(".")
    if kind in ("ram", "ssd") and size in ("GiBy", "GBy") and time in ("h", "mo"):
        hours = Decimal(1) if time == "h" else Decimal(HOURS_A_MONTH)
        return (GB_A_GIB if size == "GBy" else Decimal(1)) / hours
    raise Malformed(f"unit of {kind} is {unit[:16]}")


# --- descriptions -----------------------------------------------------------------------------

_OTHER_WAYS = re.compile(
    r"commitment|reserv|sole.tenan|custom|workstation|vws|vgpu|dws|defined duration|calendar mode"
    r"|flex.?start|extended|premium|suspended|vm state|upgrade",
    re.IGNORECASE,
)
_PLACE = re.compile(r" (?:running )?in .*", re.IGNORECASE)
_SPOT_BEFORE = re.compile(r"^(?:(?:spot )?preemptible |spot )", re.IGNORECASE)
_SPOT_AFTER = re.compile(
    r" attached to (?:spot preemptible|spot|preemptible) vms?\b", re.IGNORECASE
)
_CORE_OR_RAM = re.compile(
    r"([ag]\d+x?) ?(plus|mega|ultra|high|edge)? ?instance (core|ram)", re.IGNORECASE
)
_LOCAL_SSD = re.compile(r"ssd backed local storage|([ag]\d+x?) ?instance local ssd", re.IGNORECASE)
_SLICE = re.compile(r"[ag]\d+x? nvidia (\w+) \(1 gpu slice\)", re.IGNORECASE)

_KINDS = {"plus": "PLUS", "mega": "PLUS", "ultra": "ULTRA"}  # "A3 High" is priced as A3

_GPUS = {
    "a100": "nvidia-tesla-a100",
    "a100 40gb": "nvidia-tesla-a100",
    "a100 80gb": "nvidia-a100-80gb",
    "l4": "nvidia-l4",
    "h100 80gb": "nvidia-h100-80gb",
    "h100 80gb mega": "nvidia-h100-mega-80gb",
    "h100 mega 80gb": "nvidia-h100-mega-80gb",
    "h100 80gb plus": "nvidia-h100-mega-80gb",
    "h200 141gb": "nvidia-h200-141gb",
    "b200": "nvidia-b200",
    "rtx 6000 96gb": "nvidia-rtx-pro-6000",
    "rtx pro 6000": "nvidia-rtx-pro-6000",
}
_ATTACHED = frozenset({"t4", "v100", "p100", "p4", "k80"})


@lru_cache(maxsize=65_536)  # the list has some 30,000 rows, and every poll brings them again
def part_of(description: str, family: str, usage: str) -> Part | Skip:
    """What a row prices, by its description and category.

    Spot is told by the usage type or by the description: not all rows of spot prices have the
    usage type Preemptible.
    """
    if family not in ("Compute", "Storage", ""):
        return NOT_GPU
    text = _PLACE.sub("", description)
    bare = _SPOT_AFTER.sub("", _SPOT_BEFORE.sub("", text))
    found = _named(bare)
    # Only what looks like ours is worth a word on why it is left out.
    if found is None and not (family == "Compute" and "gpu" in text.lower()):
        return NOT_GPU
    if usage not in ("OnDemand", "Preemptible") or _OTHER_WAYS.search(description):
        return OTHER_WAY
    if found is None:
        return Skip("GPU that is not in the table")
    kind, of = found
    if of in _ATTACHED:
        return Skip("GPU that has no machine type of its own")
    spot = usage == "Preemptible" or bare != text
    return Part(kind, of, Purchase.SPOT if spot else Purchase.ON_DEMAND)


def _named(text: str) -> tuple[str, str] | None:
    """Kind and name of the part that a description is about, without place and purchase."""
    instance = _CORE_OR_RAM.fullmatch(text)
    if instance:
        series, kind, resource = instance.groups()
        return resource.lower(), series.upper() + _KINDS.get((kind or "").lower(), "")
    ssd = _LOCAL_SSD.fullmatch(text)
    if ssd:
        return "ssd", (ssd.group(1) or "").upper()
    slices = _SLICE.fullmatch(text)
    if slices:
        return "slice", f"nvidia-{slices.group(1).lower()}"
    name = text.lower().removesuffix(" gpu").removeprefix("nvidia ").removeprefix("tesla ")
    if name in _ATTACHED:
        return "gpu", name
    return ("gpu", _GPUS[name]) if name in _GPUS else None
