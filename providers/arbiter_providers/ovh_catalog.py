"""Reading OVHcloud's answers: the public catalogue, and the two lists of regions. All pure.

Plan codes: `<flavor>.consumption` is the price an hour, with an ending for another kind of region
(`.3AZ`, `.LZ.EU`); `<flavor>.monthly.postpaid` is by the month; `win-<flavor>` has Windows in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from arbiter.errors import BadAnswer
from arbiter.gpus import normalise
from arbiter.money import Price
from arbiter.provider import Skip
from arbiter.quality import Malformed, read_price
from arbiter_providers._rows import open_page, read_row

SCALE = Decimal(10) ** 8
"""Units of a price in one unit of its currency."""

HOURLY = ".consumption"


@dataclass(frozen=True, slots=True)
class Listed:
    """A GPU machine of the catalogue, with its price an hour."""

    code: str
    flavor: str
    gpu: str
    gpu_count: int
    price: Price


class _GpuMemory(msgspec.Struct, gc=False):
    size: float | None = None  # GB of one GPU


class _Gpu(msgspec.Struct, gc=False):
    model: str | None = None
    number: int | None = None
    memory: _GpuMemory | None = None


class _System(msgspec.Struct, gc=False):
    family: str | None = None


class _Technical(msgspec.Struct, gc=False):
    gpu: _Gpu | None = None
    os: _System | None = None


class _Blobs(msgspec.Struct, gc=False):
    technical: _Technical | None = None
    tags: list[str] | None = None


class _Pricing(msgspec.Struct, gc=False):
    price: int
    interval: int | None = None
    intervalUnit: str | None = None
    commitment: int | None = None
    phase: int | None = None
    mode: str | None = None
    type: str | None = None


class _Addon(msgspec.Struct, gc=False):
    """What is read of a plan, under the API's own names."""

    planCode: str
    product: str | None = None
    pricings: list[_Pricing] | None = None
    blobs: _Blobs | None = None


class _Locale(msgspec.Struct, gc=False):
    currencyCode: str


class _Catalog(msgspec.Struct, gc=False):
    locale: _Locale
    addons: list[msgspec.Raw]


class _PlanCodes(msgspec.Struct, gc=False):
    hourly: str | None = None


class Flavor(msgspec.Struct, gc=False):
    """A flavor of a project in one region."""

    name: str
    region: str
    available: bool | None = None
    planCodes: _PlanCodes | None = None


class Rule(msgspec.Struct, gc=False):
    """A plan, and every region in which it may be ordered."""

    code: str
    regions: list[str] = []


class _Rules(msgspec.Struct, gc=False):
    plans: list[msgspec.Raw]


_read_catalog = msgspec.json.Decoder(_Catalog).decode
_read_addon = msgspec.json.Decoder(_Addon).decode
_read_flavors = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_flavor = msgspec.json.Decoder(Flavor).decode
_read_rules = msgspec.json.Decoder(_Rules).decode
_read_rule = msgspec.json.Decoder(Rule).decode


def listed(body: Any) -> list[Listed | Skip]:
    """The GPU machines of the catalogue, and why each other plan is none.

    Raises:
        BadAnswer: not this catalogue.
    """
    catalog = open_page("ovh: the catalogue", body, _read_catalog)
    currency = catalog.locale.currencyCode
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise BadAnswer(f"ovh: the catalogue is in the currency {currency[:10]!r}")
    return [
        read_row(raw, _read_addon, lambda addon: _passed_over(addon) or _listed(addon, currency))
        for raw in catalog.addons
    ]


def flavors(body: Any) -> list[Flavor | Skip]:
    """A project's flavors.

    Raises:
        BadAnswer: not such a list.
    """
    rows = open_page("ovh: the list of flavors", body, _read_flavors)
    return [read_row(raw, _read_flavor, lambda flavor: flavor) for raw in rows]


def rules(body: Any) -> list[Rule | Skip]:
    """Where each plan may be ordered.

    Raises:
        BadAnswer: not such a list.
    """
    rows = open_page("ovh: the list of regions", body, _read_rules).plans
    return [read_row(raw, _read_rule, lambda rule: rule) for raw in rows]


def _passed_over(addon: _Addon) -> Skip | None:
    technical = addon.blobs.technical if addon.blobs else None
    if addon.product != "publiccloud-instance":
        return Skip("not a machine")
    if technical is None or technical.gpu is None:
        return Skip("not a GPU machine")
    system = technical.os.family if technical.os else None
    tags = addon.blobs.tags if addon.blobs else None
    for reason, found in (
        ("not priced by the hour", HOURLY not in addon.planCode),
        ("Windows", addon.planCode.startswith("win-") or system == "windows"),
        ("no longer sold", tags is not None and "active" not in tags),
    ):
        if found:
            return Skip(reason)
    return None


def _listed(addon: _Addon, currency: str) -> Listed:
    gpu = addon.blobs.technical.gpu if addon.blobs and addon.blobs.technical else None
    if gpu is None or not gpu.model or not gpu.number or gpu.number < 1:
        raise Malformed("GPU machine that does not tell its GPU")
    memory = gpu.memory.size if gpu.memory else None
    return Listed(
        code=addon.planCode,
        flavor=addon.planCode.partition(HOURLY)[0],
        gpu=normalise(gpu.model, memory) or gpu.model,
        gpu_count=gpu.number,
        price=_price(addon.pricings or (), currency),
    )


def _price(pricings: Any, currency: str) -> Price:
    """The price of an hour without commitment; of several, the first phase's."""
    hourly = [
        one
        for one in pricings
        if (one.interval, one.intervalUnit) == (1, "hour")
        and not one.commitment
        and one.mode in ("default", None)
        and one.type in ("consumption", None)
    ]
    if not hourly:
        raise Malformed("plan without a price an hour")
    first = min(hourly, key=lambda one: (one.phase or 0, -one.price))
    return read_price(Decimal(first.price) / SCALE, currency)


Places = Mapping[str, tuple[str, ...]]
"""Plan code -> the regions that have it."""
