"""Fakes with memory, and the contract of providers: public, for authors of providers too."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from arbiter import registry
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, ProviderError
from arbiter.gpus import GPUS, RECORDED_ONLY, normalise
from arbiter.money import Price
from arbiter.provider import (
    Fetched,
    Page,
    Parsed,
    PricedOffer,
    Progress,
    Provider,
    ProviderSettings,
    Skip,
)

NOWHERE = "http://127.0.0.1:9"
"""An endpoint that refuses every connection: the discard port, which nothing serves."""


class FakeClock:
    """A clock that stands until it is moved; sleeping moves it."""

    def __init__(self, start: datetime = datetime(2026, 11, 1, tzinfo=UTC)) -> None:
        self._now = start
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The instant the clock shows."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on at once, and remember for how long."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock; a negative figure moves it back."""
        self._now += timedelta(seconds=seconds)


def priced(
    region: str = "eu-north-1",
    usd: str = "1.00",
    *,
    instance_type: str = "g6.xlarge",
    gpu: str = "L4",
    gpu_count: int = 1,
    purchase: Purchase = Purchase.SPOT,
    zone: str | None = None,
    tier: str = "standard",
    priced_at: datetime | None = None,
    country: str | None = None,
) -> PricedOffer:
    """One offer of a provider, for a test that cares about one or two of its fields."""
    return PricedOffer(
        tier=tier,
        region=region,
        zone=zone,
        instance_type=instance_type,
        gpu=gpu,
        gpu_count=gpu_count,
        purchase=purchase,
        price=Price.of(usd),
        priced_at=priced_at,
        source="fake",
        country=country,
    )


class FakeProvider:
    """A provider that sells what it is told to, and remembers that it was asked.

    It keeps selling the same until told otherwise, so it can be polled any number of times.
    Every region and purchase in it counts as covered, unless `sells` says which are.
    """

    def __init__(self, name: str = "fake", offers: Iterable[PricedOffer] = ()) -> None:
        self.name = name
        self.fetches = 0
        self._error: ProviderError | None = None
        self._parsed = Parsed(())
        self._degraded: tuple[str, ...] = ()
        self._notes: tuple[str, ...] = ()
        self.sells(offers)

    def sells(
        self,
        offers: Iterable[PricedOffer],
        *,
        skips: Sequence[Skip] = (),
        covered: Iterable[tuple[str, Purchase]] | None = None,
        degraded: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """What the next polls bring. Pairs covered before stay covered when it sells nothing."""
        sold = tuple(offers)
        pairs = {(offer.region, offer.purchase) for offer in sold}
        pairs = pairs | self._parsed.covered if covered is None else set(covered)
        self._parsed = Parsed(sold, tuple(skips), frozenset(pairs))
        self._degraded, self._notes = tuple(degraded), tuple(notes)
        self._error = None

    def fails(self, error: ProviderError) -> None:
        """The next polls fail with this error, until it sells again."""
        self._error = error

    def fetch(self, progress: Progress) -> Fetched:
        """What it was told."""
        self.fetches += 1
        progress(f"{self.name}, poll {self.fetches}")
        if self._error is not None:
            raise self._error
        return Fetched((Page("fake", "", self._parsed),), self._degraded, self._notes)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """What was in the page."""
        if not fetched.pages:
            return Parsed(())
        body = fetched.pages[0].body
        if not isinstance(body, Parsed):
            raise BadAnswer(f"{self.name}: not a page of this fake")
        return body


class ProviderContract:
    """What every provider must hold to. Subclass it in your tests:

        class TestMyCloud(ProviderContract):
            def provider(self, settings: ProviderSettings) -> Provider:
                return MyCloud(settings)

            def recording(self) -> Fetched:
                return Fetched((Page("prices", "", (HERE / "prices.json").read_bytes()),))

            now = datetime(2026, 11, 10, tzinfo=UTC)

    Each `test_` method is one promise. The recording must bring at least one offer at `now`.
    Works under any test runner: a broken promise is an AssertionError that says which.
    """

    now: datetime

    def provider(self, settings: ProviderSettings) -> Provider:
        """A new instance of the provider under test."""
        raise NotImplementedError

    def recording(self) -> Fetched:
        """A recorded poll that worked."""
        raise NotImplementedError

    def _parsed(self) -> Parsed:
        return self.provider(ProviderSettings()).parse(self.recording(), self.now)

    def test_it_is_registered_by_its_own_name(self) -> None:
        name = self.provider(ProviderSettings()).name
        _expect(name in registry.names(), f"{name!r} is not in the registry")
        loaded = registry.load(name, ProviderSettings())
        _expect(loaded.name == name, f"the registry's {name!r} calls itself {loaded.name!r}")
        _expect(isinstance(loaded, Provider), f"{name} lacks a method of Provider")

    def test_a_recording_brings_offers(self) -> None:
        _expect(bool(self._parsed().offers), "the recording brings no offer")

    def test_parsing_is_pure(self) -> None:
        fetched, untouched = self.recording(), copy.deepcopy(self.recording())
        provider = self.provider(ProviderSettings())
        first, again = provider.parse(fetched, self.now), provider.parse(fetched, self.now)
        _expect(first == again, "the same pages gave two results")
        _expect(first == self._parsed(), "another instance gave another result")
        _expect(fetched == untouched, "parsing changed what was fetched")

    def test_prices_are_exact_known_and_above_zero(self) -> None:
        for offer in self._parsed().offers:
            price = offer.price
            _expect(type(price) is Price, f"{offer}: price is a {type(price).__name__}")
            _expect(type(price.micros) is int and price.micros > 0, f"{offer}: price {price}")
            iso = len(price.currency) == 3 and price.currency.isupper()
            _expect(iso, f"{offer}: currency {price.currency!r}")

    def test_gpus_have_the_names_of_the_vocabulary(self) -> None:
        for offer in self._parsed().offers:
            known = offer.gpu in GPUS or offer.gpu in RECORDED_ONLY
            unknown = bool(offer.gpu) and normalise(offer.gpu) is None
            foreign = "(" in offer.gpu  # "H100 (arm64)": known, but not as the vocabulary means it
            _expect(known or unknown or foreign, f"{offer.gpu!r} has another name: normalise it")
            _expect(type(offer.gpu_count) is int and offer.gpu_count > 0, f"{offer}: gpu_count")

    def test_times_are_utc_and_not_in_the_future(self) -> None:
        for offer in self._parsed().offers:
            if offer.priced_at is not None:
                _expect(offer.priced_at.utcoffset() == timedelta(0), f"{offer}: not UTC")
                _expect(offer.priced_at <= self.now, f"{offer}: priced in the future")

    def test_an_offer_comes_once_and_says_where_it_is_from(self) -> None:
        seen = set()
        for offer in self._parsed().offers:
            key = (offer.tier, offer.region, offer.zone, offer.instance_type, offer.purchase)
            _expect(key not in seen, f"{key} comes twice")
            seen.add(key)
            named = offer.tier and offer.region and offer.instance_type and offer.source
            _expect(bool(named), f"{offer}: tier, region, instance_type or source is empty")
            _expect(offer.zone != "", f"{offer}: an unknown zone is None")
            _expect(isinstance(offer.purchase, Purchase), f"{offer}: purchase")

    def test_what_is_covered_are_regions_and_purchases(self) -> None:
        for region, purchase in self._parsed().covered:
            _expect(isinstance(region, str) and region != "", f"covered region {region!r}")
            _expect(isinstance(purchase, Purchase), f"covered purchase {purchase!r}")

    def test_nothing_is_covered_by_no_answer(self) -> None:
        nothing = self.provider(ProviderSettings()).parse(Fetched(()), self.now)
        _expect(not nothing.offers and not nothing.covered, "no pages, and yet a result")

    def test_skips_are_short_and_countable(self) -> None:
        for skip in self._parsed().skips:
            _expect(0 < len(skip.reason) <= 80, f"reason {skip.reason!r}")
            _expect(len(skip.sample) <= 120, f"sample of {len(skip.sample)} characters")

    def test_garbage_is_a_bad_answer_and_nothing_else(self) -> None:
        for page, must_fail in _damaged(self.recording()):
            provider = self.provider(ProviderSettings())
            try:
                provider.parse(page, self.now)
            except BadAnswer as error:
                _expect("\n" not in str(error), f"more than one line: {error}")
            else:
                _expect(not must_fail, f"accepted {str(page)[:160]}")

    def test_a_dead_endpoint_is_a_provider_error(self) -> None:
        settings = ProviderSettings(endpoint=NOWHERE, timeout_s=2.0, max_attempts=1)
        try:
            self.provider(settings).fetch(lambda _: None)
        except ProviderError as error:
            _expect("\n" not in str(error), f"more than one line: {error}")
        else:
            raise AssertionError("fetched from an endpoint that nothing serves")


def _damaged(recording: Fetched) -> Iterator[tuple[Fetched, bool]]:
    """The recording with each of its pages damaged, and whether that must be noticed."""
    for at, page in enumerate(recording.pages):
        for body, must_fail in _garbage(page.body):
            pages = list(recording.pages)
            pages[at] = Page(page.feed, page.region, body)
            yield Fetched(tuple(pages)), must_fail


def _garbage(body: Any) -> Iterator[tuple[Any, bool]]:
    yield b"<html><body>502 Bad Gateway</body></html>", True
    yield b"", True
    yield b"\xff\xfe\x00", True
    yield None, True
    yield 17, True
    oddities: tuple[Any, ...] = ([], {}, [None], {"": []}, b"[]", b"{}", b"null")
    for odd in oddities:
        yield odd, False
    if isinstance(body, bytes | str):
        yield body[: len(body) // 2], True
    elif isinstance(body, dict):
        for key in body:
            yield {**body, key: 17}, False
            yield {k: v for k, v in body.items() if k != key}, False


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
