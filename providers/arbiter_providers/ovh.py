"""OVHcloud: list prices of its GPU machines, and the regions that have them.

The order catalogue is public: a price in 1e-8 of the currency an hour, without VAT, the same in
every region of a kind. Which region has which machine is told to customers, by the flavors of
their project; to others by a list of order rules, where it answers them at all. There is no spot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import ProviderError
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
from arbiter_providers import ovh_account
from arbiter_providers._account import base_url
from arbiter_providers._http import Http
from arbiter_providers._regions import counts, european_gpu_regions, european_regions
from arbiter_providers.ovh_catalog import (
    HOURLY,
    Flavor,
    Listed,
    Places,
    Rule,
    flavors,
    listed,
    rules,
)

ENDPOINT = "https://eu.api.ovh.com"
PREFIX = "/1.0"
SUBSIDIARY = "FR"
"""Whose price list: the French one is in EUR."""

CATALOG, FLAVORS, RULES = "catalog", "flavors", "availability-rules"
UNIT = "offered to the project"
_WORDS = {True: "available", False: "not available"}


class Ovh:
    """Prices of OVHcloud's GPU machines.

    `settings.endpoint` takes the place of https://eu.api.ovh.com. `settings.options`:
    `subsidiary`, whose price list ("FR"). With a service account in OVH_CLIENT_ID and
    OVH_CLIENT_SECRET, the project in OVH_PROJECT_ID or else the first is asked for its regions.
    """

    name = "ovh"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        """The catalogue, and where its machines are.

        Raises:
            ProviderError: the catalogue did not come.
        """
        subsidiary = str(self._settings.options.get("subsidiary") or SUBSIDIARY)
        base = base_url(self._settings, ENDPOINT, PREFIX)
        query = {"ovhSubsidiary": subsidiary}
        with Http(self.name, self._settings, clock=self._clock) as http:
            body = http.get(f"{base}/order/catalog/public/cloud", query)
            listed(body)
            progress("catalogue")
            places, degraded = self._places(http, base, query)
        progress("regions")
        return Fetched((Page(CATALOG, "", body), *places), degraded)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """An offer for each GPU machine and region that has it.

        Without a list of the regions, for each that the region table knows to have GPUs.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        bodies = {page.feed: page.body for page in fetched.pages}
        places, rows = _places(bodies)
        read = listed(bodies[CATALOG]) if CATALOG in bodies else []
        plans = {plan.code: plan for plan in read if isinstance(plan, Listed)}
        known = FLAVORS in bodies or RULES in bodies
        if not known:
            places = {code: self._likely() for code in plans if code.endswith(HOURLY)}
        offers = self._offers(plans, places)
        asked = set(self._settings.regions or european_regions(self.name))
        regions = asked if known else set(self._likely())
        regions = regions | {region for region, _ in offers} if plans else set()
        signals = [_signal(row) for row in rows if isinstance(row, Flavor)]
        return Parsed(
            tuple(offers.values()),
            [one for one in (*read, *rows) if isinstance(one, Skip)],
            frozenset((region, Purchase.ON_DEMAND) for region in regions),
            [one for one in signals if one and (one.region, one.instance_type) in offers],
            frozenset({"stock"}) if FLAVORS in bodies else frozenset(),
        )

    def _places(
        self, http: Http, base: str, query: Mapping[str, str]
    ) -> tuple[list[Page], tuple[str, ...]]:
        """The best list of regions that is to be had, and what is missing."""
        degraded: list[str] = []
        try:
            if ovh_account.has_account():
                body = ovh_account.flavors(self._settings, base, self._clock)
                flavors(body)
                return [Page(FLAVORS, "", body)], ()
        except ProviderError as error:
            degraded.append(f"regions: {error.message}")
        try:
            body = http.get(f"{base}/cloud/order/rule/availability", query)
            rules(body)
            return [Page(RULES, "", body)], tuple(degraded)
        except ProviderError:
            where = ", ".join(self._likely()) or "no region"
            degraded.append(f"which region has which machine is not known: prices for {where}")
            return [], tuple(degraded)

    def _likely(self) -> tuple[str, ...]:
        return self._settings.regions or european_gpu_regions(self.name)

    def _offers(
        self, plans: Mapping[str, Listed], places: Places
    ) -> dict[tuple[str, str], PricedOffer]:
        """By region and flavor. Where two prices are told for one, the higher counts."""
        offers: dict[tuple[str, str], PricedOffer] = {}
        for code, regions in places.items():
            plan = plans.get(code)
            for region in regions if plan else ():
                if plan and counts(self.name, region, self._settings.regions):
                    offer = _offer(plan, region)
                    rival = offers.get((region, plan.flavor), offer)
                    offers[region, plan.flavor] = max(offer, rival, key=lambda o: o.price.micros)
        return offers


def _offer(plan: Listed, region: str) -> PricedOffer:
    return PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=plan.flavor,
        gpu=plan.gpu,
        gpu_count=plan.gpu_count,
        purchase=Purchase.ON_DEMAND,
        price=plan.price,
        source="ovh:catalog",
    )


def _places(bodies: Mapping[str, Any]) -> tuple[Places, Sequence[Flavor | Rule | Skip]]:
    """Plan code -> regions, and the rows that say so."""
    places: dict[str, tuple[str, ...]] = {}
    rows: list[Flavor | Rule | Skip] = []
    if FLAVORS in bodies:
        rows.extend(flavors(bodies[FLAVORS]))
    if RULES in bodies:
        rows.extend(rules(bodies[RULES]))
    for row in rows:
        if isinstance(row, Rule):
            places[row.code] = (*places.get(row.code, ()), *row.regions)
        elif isinstance(row, Flavor) and row.planCodes and row.planCodes.hourly:
            code = row.planCodes.hourly
            places[code] = (*places.get(code, ()), row.region)
    return places, rows


def _signal(flavor: Flavor) -> Signal | None:
    if flavor.available is None:
        return None
    word = _WORDS[flavor.available]
    return Signal("stock", UNIT, flavor.region, None, flavor.name, text=word)
