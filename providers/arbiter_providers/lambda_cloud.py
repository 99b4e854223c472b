"""Lambda: on-demand prices, and where there is capacity now. Lambda sells no spot machines.

`GET /api/v1/instance-types` of https://cloud.lambda.ai, documented by its OpenAPI file (1.9.3):
every machine type with one price in US cents an hour, the same in every region, and the regions
that have capacity for it. `GET /api/v1/images` names the regions whatever their capacity. The
API takes one request a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import msgspec

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import ProviderError
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
from arbiter.quality import Malformed, read_price
from arbiter.regions import load_atlas
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http
from arbiter_providers._rows import once, open_page, read_row

ENDPOINT = "https://cloud.lambda.ai"
PREFIX = "/api/v1"
SOURCE = "lambda:instance-types"
KEY = "LAMBDA_API_KEY"
TYPES, IMAGES = "instance-types", "images"

CAPACITY_LISTED = "capacity_listed"
UNIT = "1 where free capacity is listed"

BETWEEN_S = 1.1
"""Seconds between two requests: one a second is allowed."""


class _Region(msgspec.Struct, frozen=True):
    name: str


class _Specs(msgspec.Struct, frozen=True):
    gpus: int


class _Type(msgspec.Struct, frozen=True):
    name: str
    specs: _Specs
    price_cents_per_hour: Decimal
    gpu_description: str = ""
    description: str = ""


class _Item(msgspec.Struct, frozen=True):
    instance_type: _Type
    regions_with_capacity_available: list[_Region]


class _Types(msgspec.Struct):
    data: dict[str, msgspec.Raw]


class _Image(msgspec.Struct, frozen=True):
    region: _Region


class _Images(msgspec.Struct):
    data: list[msgspec.Raw]


class _Machine(msgspec.Struct, frozen=True):
    """A machine type that has a price, and where it can be had now."""

    name: str
    gpu: str
    gpu_count: int
    price: Price
    regions: tuple[str, ...]


_read_types = msgspec.json.Decoder(_Types).decode
_read_item = msgspec.json.Decoder(_Item).decode
_read_images = msgspec.json.Decoder(_Images).decode
_read_image = msgspec.json.Decoder(_Image).decode


class Lambda:
    """Prices and capacity of Lambda's GPU machines.

    A machine is offered in the regions that list capacity for it, and in no other. Its price is
    known everywhere, but what is sold out cannot be bought, and whatever is offered may be
    planned on. When the last capacity of a region goes, the offer ends there; when it returns, a
    new span begins. So the history says for every instant what could be had and for how much,
    and a gap in it means sold out. The signal "capacity_listed" says the same without the price;
    no capacity is no signal.

    `settings.endpoint` takes the place of https://cloud.lambda.ai. `settings.regions` limits what
    is kept; by default that is every region, for one answer has them all. In `settings.options`,
    `api_key_env` names the environment variable with the key, LAMBDA_API_KEY by default.
    """

    name = "lambda"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._only = frozenset(settings.regions)

    def fetch(self, progress: Progress) -> Fetched:
        """The machine types, and the images for their regions.

        Raises:
            ProviderError: there is no key, or the machine types did not come.
        """
        variable = key_variable(self._settings, KEY)
        headers = {"Authorization": f"Bearer {key(self.name, variable)}"}
        base = base_url(self._settings, ENDPOINT, PREFIX)
        degraded: list[str] = []
        with Http(
            self.name, self._settings, headers=headers, credentials=variable, clock=self._clock
        ) as http:
            types = http.get(f"{base}/{TYPES}")
            open_page("lambda: the list of machine types", types, _read_types)
            pages = [Page(TYPES, "", types)]
            progress("machine types")
            self._clock.sleep(BETWEEN_S)
            try:
                images = http.get(f"{base}/{IMAGES}")
                open_page("lambda: the list of images", images, _read_images)
                pages.append(Page(IMAGES, "", images))
                progress("regions")
            except ProviderError as error:
                degraded.append(f"regions of the images: {error.message}")
        return Fetched(tuple(pages), tuple(degraded))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """An offer for each machine type and region with capacity.

        Covered is every known region, with capacity or without: the list of machine types is
        complete, so what it leaves out is sold out.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        machines: list[_Machine] = []
        skips: list[Skip] = []
        regions: set[str] = set()
        complete = False
        for page in fetched.pages:
            if page.feed == IMAGES:
                images = open_page("lambda: the list of images", page.body, _read_images)
                for raw in images.data:
                    region = read_row(raw, _read_image, lambda image: image.region.name)
                    if isinstance(region, Skip):
                        skips.append(region)
                    else:
                        regions.add(region)
                continue
            types = open_page("lambda: the list of machine types", page.body, _read_types)
            complete = True
            for raw in types.data.values():
                read = read_row(raw, _read_item, _machine)
                if isinstance(read, Skip):
                    skips.append(read)
                else:
                    machines.append(read)
        offers, repeated = once(offer for one in machines for offer in self._offers(one))
        regions.update(offer.region for offer in offers)
        regions.update(load_atlas().regions(self.name))
        return Parsed(
            offers,
            (*skips, *repeated),
            frozenset((region, Purchase.ON_DEMAND) for region in regions if self._counts(region))
            if complete
            else frozenset(),
            [_listed(offer) for offer in offers],
            frozenset({CAPACITY_LISTED}) if complete else frozenset(),
        )

    def _offers(self, machine: _Machine) -> Iterator[PricedOffer]:
        for region in machine.regions:
            if self._counts(region):
                yield PricedOffer(
                    tier="standard",
                    region=region,
                    zone=None,
                    instance_type=machine.name,
                    gpu=machine.gpu,
                    gpu_count=machine.gpu_count,
                    purchase=Purchase.ON_DEMAND,
                    price=machine.price,
                    source=SOURCE,
                )

    def _counts(self, region: str) -> bool:
        """Lambda's own test regions never do."""
        wanted = not self._only or region in self._only
        return wanted and region != "" and not region.startswith("test-")


def _listed(offer: PricedOffer) -> Signal:
    return Signal(
        kind=CAPACITY_LISTED,
        unit=UNIT,
        region=offer.region,
        zone=None,
        instance_type=offer.instance_type,
        purchase=Purchase.ON_DEMAND,
        low=Decimal(1),
        high=Decimal(1),
    )


def _machine(item: _Item) -> _Machine | Skip:
    """One machine type.

    Raises:
        Malformed: its name, its price or its number of GPUs cannot be right.
    """
    found = item.instance_type
    if found.specs.gpus < 0:
        raise Malformed("negative number of GPUs")
    if found.specs.gpus == 0:
        return Skip("not a GPU machine")
    if not found.name:
        raise Malformed("row without name")
    if found.price_cents_per_hour == 0:
        return Skip("no list price")
    regions = dict.fromkeys(region.name for region in item.regions_with_capacity_available)
    price = read_price(found.price_cents_per_hour / 100)
    return _Machine(found.name, _gpu(found), found.specs.gpus, price, tuple(regions))


def _gpu(found: _Type) -> str:
    """The vocabulary's name ("A100 (40 GB SXM4)" says the memory), else Lambda's own.

    Raises:
        Malformed: the machine says nowhere what its GPU is.
    """
    for text in (found.gpu_description, found.description, found.name):
        known = normalise(text)
        if known:
            return known
    own = found.gpu_description.partition("(")[0].strip()
    if not own:
        raise Malformed("row without gpu_description")
    return own
