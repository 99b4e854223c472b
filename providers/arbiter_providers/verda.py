"""Verda (once DataCrunch): fixed prices, on-demand and spot, and where there is capacity now.

https://api.verda.com/v1: `POST /oauth2/token` gives a token for a client id and its secret, `GET
/instance-types` the prices as text, `GET /instance-availability` for each location the machine
types with free capacity, spot or not, `GET /locations` the locations with their country. Shapes
as in Verda's own SDKs. Spot has a list price too; what varies is whether there is any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import msgspec

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, ProviderError
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
from arbiter.quality import Malformed, malformed, read_price
from arbiter.regions import load_atlas
from arbiter_providers._account import base_url, key, key_variable
from arbiter_providers._http import Http, Rejected
from arbiter_providers._rows import once, open_page, read_row

ENDPOINT = "https://api.verda.com"
PREFIX = "/v1"
SOURCE = "verda:instance-types"
CLIENT_ID, CLIENT_SECRET = "VERDA_CLIENT_ID", "VERDA_CLIENT_SECRET"

TYPES, LOCATIONS = "instance-types", "locations"
AVAILABILITY = {
    "availability on_demand": Purchase.ON_DEMAND,
    "availability spot": Purchase.SPOT,
}

CAPACITY_LISTED = "capacity_listed"
UNIT = "1 where free capacity is listed"


class _Gpu(msgspec.Struct, frozen=True):
    number_of_gpus: int = 0
    description: str | None = None


class _Memory(msgspec.Struct, frozen=True):
    size_in_gigabytes: Decimal | None = None  # of all GPUs together


class _Type(msgspec.Struct, frozen=True):
    """What is read of a machine type, under the API's own names."""

    instance_type: str
    price_per_hour: Decimal | None = None
    spot_price: Decimal | None = None
    currency: str | None = None
    gpu: _Gpu | None = None
    gpu_memory: _Memory | None = None
    name: str | None = None
    model: str | None = None


class _Free(msgspec.Struct, frozen=True):
    location_code: str
    availabilities: list[str]


class _Location(msgspec.Struct, frozen=True):
    code: str
    country_code: str | None = None


class _Token(msgspec.Struct):
    access_token: str


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine type with a GPU, its price for each way to buy it, and why one is missing."""

    name: str
    gpu: str
    gpu_count: int
    prices: Mapping[Purchase, Price]
    skips: tuple[Skip, ...]


_read_token = msgspec.json.Decoder(_Token).decode
_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_type = msgspec.json.Decoder(_Type).decode
_read_free = msgspec.json.Decoder(_Free).decode
_read_location = msgspec.json.Decoder(_Location).decode


class Verda:
    """Prices and capacity of Verda's GPU machines.

    A machine is offered in the locations that list it as free, on-demand and spot apart: what is
    sold out has a price too, but cannot be bought, so its offer ends and begins anew with the
    capacity. The signal "capacity_listed" says the same without the price.

    `settings.endpoint` takes the place of https://api.verda.com. `settings.regions` limits what
    is kept; by default that is every location. In `settings.options`, `client_id_env` and
    `client_secret_env` name the environment variables with the credentials, VERDA_CLIENT_ID and
    VERDA_CLIENT_SECRET by default; `currency` is what is asked for, "usd" by default.
    """

    name = "verda"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._only = frozenset(settings.regions)
        self._currency = str(settings.options.get("currency") or "usd").lower()

    def fetch(self, progress: Progress) -> Fetched:
        """A token, then the prices, the capacity of both kinds, and the locations.

        Raises:
            ProviderError: there are no credentials, or neither prices nor capacity came.
        """
        base = base_url(self._settings, ENDPOINT, PREFIX)
        token, held_in = sign_in(self._settings, base, self._clock)
        pages: list[Page] = []
        degraded: list[str] = []
        failures: list[ProviderError] = []
        with Http(
            self.name,
            self._settings,
            headers={"Authorization": f"Bearer {token}"},
            credentials=held_in,
            clock=self._clock,
        ) as http:
            pages.append(_ask(http, TYPES, f"{base}/{TYPES}", {"currency": self._currency}))
            progress("machine types")
            for feed, purchase in AVAILABILITY.items():
                query = {"is_spot": "true" if purchase is Purchase.SPOT else "false"}
                try:
                    pages.append(_ask(http, feed, f"{base}/instance-availability", query))
                    progress(feed)
                except ProviderError as error:
                    failures.append(error)
                    degraded.append(f"{feed}: {error.message}")
            if len(failures) == len(AVAILABILITY):
                raise failures[0]
            try:
                pages.append(_ask(http, LOCATIONS, f"{base}/{LOCATIONS}", {}))
            except ProviderError as error:
                degraded.append(f"locations: {error.message}")
        return Fetched(tuple(pages), tuple(degraded))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """An offer for each machine type, location and way to buy with capacity.

        Covered is every known location for a way to buy whose capacity came: what its list
        leaves out is sold out.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        found = _Found(dict.fromkeys(load_atlas().regions(self.name)))
        for page in fetched.pages:
            for raw in open_page(f"verda: the page {page.feed}", page.body, _read_list):
                self._take(found, page.feed, raw)
        offers, repeated = once(
            offer
            for purchase, place in found.free
            for offer in _offers(found, purchase, place)
            if self._counts(offer.region)
        )
        feeds = {page.feed for page in fetched.pages}
        complete = [AVAILABILITY[feed] for feed in AVAILABILITY.keys() & feeds if TYPES in feeds]
        regions = [region for region in found.countries if self._counts(region)]
        return Parsed(
            offers,
            (*found.skips, *repeated),
            frozenset((region, purchase) for region in regions for purchase in complete),
            [_listed(offer) for offer in offers],
            frozenset({CAPACITY_LISTED}) if len(complete) == len(AVAILABILITY) else frozenset(),
        )

    def _take(self, found: _Found, feed: str, raw: msgspec.Raw) -> None:
        """What one row of a page says."""
        if feed == TYPES:
            machine = read_row(raw, _read_type, self._machine)
            if isinstance(machine, _Machine):
                found.machines[machine.name] = machine
                found.skips += machine.skips
            else:
                found.skips.append(machine)
        elif feed == LOCATIONS:
            location = read_row(raw, _read_location, _sound_location)
            if isinstance(location, Skip):
                found.skips.append(location)
            else:
                found.countries[location.code] = _country(location)
        elif feed in AVAILABILITY:
            free = read_row(raw, _read_free, _sound_free)
            if isinstance(free, Skip):
                found.skips.append(free)
            else:
                found.countries.setdefault(free.location_code, None)
                found.free.append((AVAILABILITY[feed], free))
        else:
            raise BadAnswer(f"verda: {feed!r} is not a page of this provider")

    def _machine(self, row: _Type) -> _Machine | Skip:
        """One machine type.

        Raises:
            Malformed: its name, its currency, its GPU or their number cannot be right.
        """
        if not row.instance_type:
            raise Malformed("row without instance_type")
        count = row.gpu.number_of_gpus if row.gpu else 0
        if count < 0:
            raise Malformed("negative number of GPUs")
        if count == 0:
            return Skip("not a GPU machine")
        currency = (row.currency or self._currency).upper()
        if len(currency) != 3 or not currency.isascii() or not currency.isalpha():
            raise Malformed("currency is not a code of three letters")
        prices, skips = {}, []
        for purchase, amount in (
            (Purchase.ON_DEMAND, row.price_per_hour),
            (Purchase.SPOT, row.spot_price),
        ):
            if amount is None:
                skips.append(Skip(f"no {purchase} price"))
                continue
            try:
                prices[purchase] = read_price(amount, currency)
            except Malformed as error:
                skips.append(malformed(f"{purchase}: {error}", f"{row.instance_type}: {amount}"))
        return _Machine(row.instance_type, _gpu(row, count), count, prices, tuple(skips))

    def _counts(self, region: str) -> bool:
        return region != "" and (not self._only or region in self._only)


def sign_in(settings: ProviderSettings, base: str, clock: Clock | None) -> tuple[str, str]:
    """A token for some minutes, and the names of the variables that it rests on.

    Raises:
        ProviderError: they are not set, are refused, or no token came.
    """
    names = (
        key_variable(settings, CLIENT_ID, "client_id_env"),
        key_variable(settings, CLIENT_SECRET, "client_secret_env"),
    )
    client, secret = (key(Verda.name, name) for name in names)
    held_in = " and ".join(names)
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    with Http(Verda.name, settings, credentials=held_in, clock=clock) as http:
        try:
            body = http.post(f"{base}/oauth2/token", json=form)
        except Rejected as error:
            if error.status != 400:
                raise
            # What OAuth answers to an unknown client or a wrong secret, beside 401.
            raise BadCredentials(error.message, f"check {held_in}") from None
    token = open_page("verda: the token", body, _read_token).access_token
    if not token or not token.isascii() or not token.isprintable():
        raise BadAnswer("verda: the token is empty, or is none")
    return token, held_in


@dataclass(slots=True)
class _Found:
    """What the rows say, before prices and capacity are brought together.

    Attributes:
        countries: location -> country as the API states it; of every location that is known.
        free: where and how something can be bought now.
    """

    countries: dict[str, str | None]
    machines: dict[str, _Machine] = field(default_factory=dict)
    free: list[tuple[Purchase, _Free]] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)


def _ask(http: Http, feed: str, url: str, query: Mapping[str, str]) -> Page:
    body = http.get(url, query)
    open_page(f"verda: the page {feed}", body, _read_list)
    return Page(feed, "", body)


def _offers(found: _Found, purchase: Purchase, place: _Free) -> Iterator[PricedOffer]:
    """What one location has for sale. Types that are not machines with GPUs are passed over."""
    for name in dict.fromkeys(place.availabilities):
        machine = found.machines.get(name)
        price = machine.prices.get(purchase) if machine else None
        if machine is None or price is None:
            continue
        yield PricedOffer(
            tier="standard",
            region=place.location_code,
            zone=None,
            instance_type=name,
            gpu=machine.gpu,
            gpu_count=machine.gpu_count,
            purchase=purchase,
            price=price,
            source=SOURCE,
            country=found.countries.get(place.location_code),
        )


def _listed(offer: PricedOffer) -> Signal:
    return Signal(
        kind=CAPACITY_LISTED,
        unit=UNIT,
        region=offer.region,
        zone=None,
        instance_type=offer.instance_type,
        purchase=offer.purchase,
        low=Decimal(1),
        high=Decimal(1),
    )


def _sound_location(location: _Location) -> _Location:
    if not location.code:
        raise Malformed("location without code")
    return location


def _sound_free(free: _Free) -> _Free:
    if not free.location_code:
        raise Malformed("availability without location_code")
    return free


def _country(location: _Location) -> str | None:
    code = location.country_code or ""
    return code if len(code) == 2 and code.isascii() and code.isupper() else None


def _gpu(row: _Type, count: int) -> str:
    """The vocabulary's name, else Verda's own.

    Raises:
        Malformed: the machine says nowhere what its GPU is.
    """
    size = row.gpu_memory.size_in_gigabytes if row.gpu_memory else None
    each = float(size / count) if size else None
    described = row.gpu.description if row.gpu else None
    for text in (row.name, described, row.model):
        known = normalise(text or "", each)
        if known:
            return known
    own = row.model or row.name
    if not own:
        raise Malformed("row without model")
    return own
