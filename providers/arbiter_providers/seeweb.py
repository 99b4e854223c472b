"""Seeweb: list prices of its GPU plans, per region, and which can be activated now.

`GET /ecs/v2/plans` lists the plans with their price in EUR an hour and the regions they belong
to; `available` there says that a plan is sold, not that one is free. `GET /ecs/v2/plans/availables`
lists those that can be activated now. Both ask for the customer's token. There is no spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

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
from arbiter.quality import Malformed, read_price
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http
from arbiter_providers._regions import counts, european_regions
from arbiter_providers._rows import open_page, read_row

ENDPOINT = "https://api.seeweb.it"
PREFIX = "/ecs/v2"
VARIABLE = "SEEWEB_API_KEY"
"""As SkyPilot's own tools for Seeweb call it; `options.api_key_env` names another."""

PLANS, STOCK = "plans", "plans-availables"
CURRENCY = "EUR"
UNIT = "can be activated now"
_WORDS = {True: "available", False: "not available"}


class _Place(msgspec.Struct, gc=False):
    """A region, under either of the names that the two lists give it."""

    location: str = ""
    region: str = ""

    @property
    def name(self) -> str:
        return (self.location or self.region).strip()


class _Plan(msgspec.Struct, gc=False):
    """What is read of a plan, under the API's own names; numbers come as texts, too."""

    name: str
    gpu: int | str | None = None
    gpu_label: str | None = None
    hourly_price: Decimal | None = None
    available: bool = True
    available_regions: list[_Place] | None = None


class _Startable(msgspec.Struct, gc=False):
    """A plan that can be activated, and where; the key has been seen in both numbers."""

    name: str
    region_availables: list[_Place] | None = None
    region_available: list[_Place] | None = None


class _Envelope(msgspec.Struct, gc=False):
    plans: list[msgspec.Raw]
    status: str = "ok"


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_plan = msgspec.json.Decoder(_Plan).decode
_read_startable = msgspec.json.Decoder(_Startable).decode


class Seeweb:
    """Prices of Seeweb's GPU plans.

    `settings.endpoint` takes the place of https://api.seeweb.it. `settings.options`:
    `api_key_env`, the name of the variable that holds the token.
    """

    name = "seeweb"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        """Both lists. Without that of what can be activated, the prices still come.

        Raises:
            MissingCredentials: the variable is not set.
            BadCredentials: the token was refused.
            ProviderError: the plans did not come.
        """
        variable = key_variable(self._settings, VARIABLE)
        headers = {"X-APITOKEN": key(self.name, variable)}
        base = base_url(self._settings, ENDPOINT, PREFIX)
        degraded: tuple[str, ...] = ()
        with Http(
            self.name, self._settings, headers=headers, credentials=variable, clock=self._clock
        ) as http:
            pages = [Page(PLANS, "", http.get(f"{base}/plans"))]
            _plans(pages[0].body)
            progress("plans")
            try:
                stock = http.get(f"{base}/plans/availables")
                _plans(stock)
                pages.append(Page(STOCK, "", stock))
                progress("stock")
            except ProviderError as error:
                degraded = (f"stock: {error.message}",)
        return Fetched(tuple(pages), degraded)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """An offer for each GPU plan and region it is sold in.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        plans = [raw for page in fetched.pages if page.feed == PLANS for raw in _plans(page.body)]
        read = [read_row(raw, _read_plan, self._offers) for raw in plans]
        skips = [one for one in read if isinstance(one, Skip)]
        offers = {
            (one.region, one.instance_type): one
            for found in read
            if not isinstance(found, Skip)
            for one in found
        }
        asked = self._settings.regions or european_regions(self.name)
        regions = {*asked, *(region for region, _ in offers)} if plans else set()
        stock = [page for page in fetched.pages if page.feed == STOCK]
        signals, wrong = _signals(stock, tuple(offers))
        return Parsed(
            tuple(offers.values()),
            (*skips, *wrong),
            frozenset((region, Purchase.ON_DEMAND) for region in regions),
            signals,
            frozenset({"stock"}) if stock and not wrong else frozenset(),
        )

    def _offers(self, plan: _Plan) -> Sequence[PricedOffer] | Skip:
        """A plan in each of its regions."""
        count = _count(plan.gpu)
        if not count:
            return Skip("not a GPU machine")
        if not plan.available:
            return Skip("no longer sold")
        if plan.available_regions is None:
            raise Malformed("plan without available_regions")
        regions = {place.name for place in plan.available_regions} - {""}
        if not regions:
            return Skip("sold in no region")
        kept = [one for one in regions if counts(self.name, one, self._settings.regions)]
        if not kept:
            return Skip("region that was not asked for")
        return [_offer(plan, count, region) for region in sorted(kept)]


def _offer(plan: _Plan, count: int, region: str) -> PricedOffer:
    if not plan.gpu_label:
        raise Malformed("GPU plan that does not tell its GPU")
    if plan.hourly_price is None:
        raise Malformed("plan without hourly_price")
    return PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=plan.name,
        gpu=normalise(plan.gpu_label) or plan.gpu_label,
        gpu_count=count,
        purchase=Purchase.ON_DEMAND,
        price=read_price(plan.hourly_price, CURRENCY),
        source="seeweb:plans",
    )


def _count(stated: int | str | None) -> int:
    """How many GPUs: 0 for none."""
    text = str(stated or 0).strip()
    if not text.isascii() or not text.isdigit():
        raise Malformed("number of GPUs is not a number")
    return int(text)


def _plans(body: Any) -> list[msgspec.Raw]:
    """The rows of either list."""
    envelope = open_page("seeweb: a list of plans", body, _read_envelope)
    if envelope.status != "ok":
        raise BadAnswer(f"seeweb: a list of plans came with the status {envelope.status[:40]!r}")
    return envelope.plans


def _signals(
    pages: Sequence[Page], sold: Sequence[tuple[str, str]]
) -> tuple[list[Signal], list[Skip]]:
    """For what is sold, whether the list of what can be activated has it.

    Not to be in the list is an answer only where every row of it could be read.
    """
    read = [read_row(raw, _read_startable, _places) for page in pages for raw in _plans(page.body)]
    wrong = [one for one in read if isinstance(one, Skip)]
    free = {place for found in read if not isinstance(found, Skip) for place in found}
    signals = [
        Signal("stock", UNIT, region, None, name, text=_WORDS[(region, name) in free])
        for region, name in sold
        if (region, name) in free or (pages and not wrong)
    ]
    return signals, wrong


def _places(plan: _Startable) -> list[tuple[str, str]]:
    listed = plan.region_availables
    if listed is None:
        listed = plan.region_available
    if listed is None:
        raise Malformed("plan without region_availables")
    return [(place.name, plan.name) for place in listed]
