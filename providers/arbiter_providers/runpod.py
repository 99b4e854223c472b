"""RunPod: on-demand prices and stock of its secure and its community cloud, per data centre.

REST v2, documented by its OpenAPI file (2.0.0): `GET /v2/catalog/gpus` has one price per GPU-hour
for each GPU and cloud, the same everywhere, and with include=AVAILABILITY&product=POD the stock
for so many GPUs in one machine; `GET /v2/catalog/datacenters` has all data centres. Spot pods are
not sold any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, ProviderError
from arbiter.gpus import normalise
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
from arbiter.regions import load_atlas
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http
from arbiter_providers._rows import once, open_page, read_row

ENDPOINT = "https://api.runpod.io"
PREFIX = "/v2"
SOURCE = "runpod:catalog-gpus"
KEY = "RUNPOD_API_KEY"

TIERS = ("secure", "community")
COUNTS = range(1, 9)
"""GPUs in one machine. One request each and tier: stock for two is not twice the stock for one."""

NOWHERE = "unknown"
"""The region of what the community cloud has in stock without saying where. It is in no table, so
every rule that asks for a country refuses it."""

STOCK = "stock"
UNIT = "NONE, LOW, MEDIUM or HIGH"
_SOLD, _SOLD_OUT = ("LOW", "MEDIUM", "HIGH"), "NONE"

DATACENTERS = "datacenters"


class _PerTier(msgspec.Struct, frozen=True):
    secure: Decimal | None = None
    community: Decimal | None = None


class _Stock(msgspec.Struct, frozen=True):
    id: str
    availability: str | None = None


class _Gpu(msgspec.Struct, frozen=True):
    """What is read of a GPU, under the API's own names."""

    id: str
    name: str
    secure: bool
    community: bool
    price: _PerTier
    maxCount: _PerTier = _PerTier()
    memory: int | None = None  # GB of one GPU
    availability: str | None = None
    dataCenters: list[_Stock] | None = None


class _Gpus(msgspec.Struct):
    gpus: list[msgspec.Raw]


class _Center(msgspec.Struct, frozen=True):
    id: str


class _Centers(msgspec.Struct):
    dataCenters: list[msgspec.Raw]


_read_gpus = msgspec.json.Decoder(_Gpus).decode
_read_gpu = msgspec.json.Decoder(_Gpu).decode
_read_centers = msgspec.json.Decoder(_Centers).decode
_read_center = msgspec.json.Decoder(_Center).decode


class RunPod:
    """Prices and stock of RunPod's GPUs, as machines of one to eight.

    The region of an offer is the data centre. A machine is offered where the stock for its number
    of GPUs is not NONE: what is sold out has a list price too, but cannot be bought, so its offer
    ends and begins anew with the stock. The tiers "secure" and "community" have prices and stock
    of their own; machines of the community stand with third parties, sometimes nobody says where.

    A machine is called as SkyPilot's catalog calls it ("2x_H100-SXM_SECURE"), which knows those
    of the secure cloud alone.

    `settings.endpoint` takes the place of https://api.runpod.io. `settings.regions` limits what
    is kept; by default that is every data centre, for one answer has them all. In
    `settings.options`, `api_key_env` names the environment variable with the key, RUNPOD_API_KEY
    by default.
    """

    name = "runpod"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._only = frozenset(settings.regions)

    def fetch(self, progress: Progress) -> Fetched:
        """The GPUs for each tier and number of them, and the data centres.

        After the first request that fails no other is made: most likely it would fail as well.

        Raises:
            ProviderError: there is no key, or nothing came.
        """
        variable = key_variable(self._settings, KEY)
        headers = {"Authorization": f"Bearer {key(self.name, variable)}"}
        base = base_url(self._settings, ENDPOINT, PREFIX)
        pages: list[Page] = []
        degraded: tuple[str, ...] = ()
        with Http(
            self.name, self._settings, headers=headers, credentials=variable, clock=self._clock
        ) as http:
            try:
                for tier, count in _WANTED:
                    body = http.get(f"{base}/catalog/gpus", _query(tier, count))
                    open_page(_GPU_LIST, body, _read_gpus)
                    pages.append(Page(feed(tier, count), "", body))
                    progress(f"{tier}, {count} of {COUNTS[-1]} GPUs")
                body = http.get(f"{base}/catalog/datacenters")
                open_page(_CENTER_LIST, body, _read_centers)
                pages.append(Page(DATACENTERS, "", body))
            except ProviderError as error:
                if not pages:
                    raise
                degraded = (f"{len(pages)} of {len(_WANTED) + 1} answers came: {error.message}",)
        return Fetched(tuple(pages), degraded)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """An offer for each tier, data centre, GPU and number of them in stock.

        Nothing is covered where an answer for one tier or number is missing: any data centre may
        have been in it.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        found = _Found()
        regions = {NOWHERE, *load_atlas().regions(self.name)}
        missing = set(_WANTED)
        for page in fetched.pages:
            if page.feed == DATACENTERS:
                centers = open_page(_CENTER_LIST, page.body, _read_centers)
                for raw in centers.dataCenters:
                    center = read_row(raw, _read_center, lambda one: one.id)
                    if isinstance(center, Skip):
                        found.skips.append(center)
                    else:
                        regions.add(center)
                continue
            tier, count = _asked(page.feed)
            missing.discard((tier, count))
            for raw in open_page(_GPU_LIST, page.body, _read_gpus).gpus:
                read = read_row(raw, _read_gpu, partial(_machine, tier=tier, count=count))
                if isinstance(read, Skip):
                    found.skips.append(read)
                else:
                    found.add(read)
        offers, repeated = once(one for one in found.offers if self._counts(one.region))
        signals = {(one.region, one.instance_type): one for one in found.signals}
        regions.update(offer.region for offer in offers)
        counted = [region for region in regions if self._counts(region)]
        return Parsed(
            offers,
            (*found.skips, *repeated),
            frozenset() if missing else frozenset((one, Purchase.ON_DEMAND) for one in counted),
            [one for one in signals.values() if self._counts(one.region)],
            frozenset() if missing else frozenset({STOCK}),
        )

    def _counts(self, region: str) -> bool:
        return region != "" and (not self._only or region in self._only)


_WANTED = tuple((tier, count) for tier in TIERS for count in COUNTS)
_GPU_LIST, _CENTER_LIST = "runpod: the list of GPUs", "runpod: the list of data centres"


def _query(tier: str, count: int) -> dict[str, str]:
    return {
        "include": "AVAILABILITY",
        "product": "POD",
        "cloud": tier.upper(),
        "count": str(count),
    }


def feed(tier: str, count: int) -> str:
    """The feed of the page that was asked for with this tier and number of GPUs."""
    return f"gpus {tier} {count}"


def _asked(name: str) -> tuple[str, int]:
    for tier, count in _WANTED:
        if name == feed(tier, count):
            return tier, count
    raise BadAnswer(f"runpod: {name!r} is not a page of this provider")


@dataclass(frozen=True, slots=True)
class _Found:
    """What rows say."""

    offers: list[PricedOffer] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        self.offers.extend(other.offers)
        self.signals.extend(other.signals)
        self.skips.extend(other.skips)


def _machine(gpu: _Gpu, tier: str, count: int) -> _Found | Skip:
    """The machine with so many of one GPU, wherever one tier has it.

    Raises:
        Malformed: what it is, or what it costs, cannot be right.
    """
    if not gpu.id or not gpu.name:
        raise Malformed("row without id or name")
    if gpu.id == "unknown":
        return Skip("not a GPU")
    if "MIG" in f"{gpu.id} {gpu.name}".split():
        return Skip("a fraction of a GPU")
    if not (gpu.secure if tier == "secure" else gpu.community):
        return Skip("not sold in this tier")
    largest = getattr(gpu.maxCount, tier)
    if largest is not None and count > largest:
        return Skip("more GPUs than the largest machine has")
    each = getattr(gpu.price, tier)
    if each is None:
        raise Malformed(f"row without price.{tier}")
    price = read_price(each * count)
    name = machine_name(gpu.name, tier, count)
    known = normalise(gpu.name, gpu.memory) or normalise(gpu.id, gpu.memory)
    found = _Found()
    for region, level in _stock(gpu, tier):
        if level not in (*_SOLD, _SOLD_OUT):
            found.skips.append(malformed("stock of an unknown level", f"{name} {region} {level}"))
            continue
        found.signals.append(Signal(STOCK, UNIT, region, None, name, text=level))
        if level in _SOLD:
            found.offers.append(
                PricedOffer(
                    tier=tier,
                    region=region,
                    zone=None,
                    instance_type=name,
                    gpu=known or gpu.name,
                    gpu_count=count,
                    purchase=Purchase.ON_DEMAND,
                    price=price,
                    source=SOURCE,
                )
            )
    return found if found.signals or found.skips else Skip("no stock is stated for any place")


def _stock(gpu: _Gpu, tier: str) -> Iterator[tuple[str, str | None]]:
    """Each place and its stock.

    The community cloud may have something in stock and name no data centre. Where the secure
    cloud does so, nothing is known that could be rented.
    """
    for center in gpu.dataCenters or ():
        yield center.id, center.availability
    if not gpu.dataCenters and gpu.availability is not None and tier == "community":
        yield NOWHERE, gpu.availability


_NAMES = {"A100-PCIe": "A100-80GB", "A100-SXM": "A100-80GB-SXM", "H100-PCIe": "H100"}
"""Where SkyPilot 0.14.1 keeps an older name than the rule below gives."""


def machine_name(gpu_name: str, tier: str, count: int) -> str:
    """What SkyPilot's catalog calls a machine: ("RTX 4090", "secure", 2) is 2x_RTX4090_SECURE."""
    plain = gpu_name.replace("RTX PRO ", "RTXPRO").replace("RTX ", "RTX").replace(" ", "-")
    return f"{count}x_{_NAMES.get(plain, plain)}_{tier.upper()}"
