"""The contract notices what it promises to notice, and the fakes remember."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from arbiter import registry
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, Unreachable
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, Progress, Provider, ProviderSettings, Skip
from arbiter.testing import FakeProvider, ProviderContract, priced

NOW = datetime(2026, 11, 10, tzinfo=UTC)

Bend = Callable[[Parsed], Parsed]


class Honest:
    """A provider that keeps the contract: a page is a JSON list of regions."""

    name = "honest"
    bend: Bend = staticmethod(lambda parsed: parsed)

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    def fetch(self, progress: Progress) -> Fetched:
        raise Unreachable("honest: nothing there")

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        regions: list[Any] = []
        for page in fetched.pages:
            try:
                regions += [str(one) for one in json.loads(page.body)["regions"]]
            except (ValueError, TypeError, KeyError) as error:
                raise BadAnswer("honest: not its page") from error
        offers = [priced(region, priced_at=now) for region in regions]
        covered = frozenset((region, Purchase.SPOT) for region in regions)
        return self.bend(Parsed(offers, (), covered))


@pytest.fixture
def contract(monkeypatch: pytest.MonkeyPatch) -> type[ProviderContract]:
    monkeypatch.setitem(registry.BUILT_IN, "honest", f"{__name__}:Honest")

    class Contract(ProviderContract):
        now = NOW
        made: Any = Honest

        def provider(self, settings: ProviderSettings) -> Provider:
            made: Provider = type(self).made(settings)
            return made

        def recording(self) -> Fetched:
            return Fetched((Page("regions", "", b'{"regions": ["eu-north-1", "eu-west-1"]}'),))

    return Contract


PROMISES = [name for name in dir(ProviderContract) if name.startswith("test_")]


def broken_promises(contract: type[ProviderContract]) -> set[str]:
    broken = set()
    for promise in PROMISES:
        try:
            getattr(contract(), promise)()
        except AssertionError:
            broken.add(promise)
    return broken


def test_an_honest_provider_keeps_every_promise(contract: type[ProviderContract]) -> None:
    assert broken_promises(contract) == set()


def bent(change: Callable[[Any], Any]) -> Bend:
    """Every offer changed."""
    return lambda parsed: replace(parsed, offers=[change(offer) for offer in parsed.offers])


def price(micros: Any, currency: str = "USD") -> Bend:
    return bent(lambda offer: replace(offer, price=Price(micros, currency)))


@pytest.mark.parametrize(
    ("bend", "promise"),
    [
        (price(1.5), "test_prices_are_exact_known_and_above_zero"),
        (price(0), "test_prices_are_exact_known_and_above_zero"),
        (price(-1), "test_prices_are_exact_known_and_above_zero"),
        (price(1, "usd"), "test_prices_are_exact_known_and_above_zero"),
        (bent(lambda o: replace(o, price=1)), "test_prices_are_exact_known_and_above_zero"),
        (bent(lambda o: replace(o, gpu="NVIDIA L4")), "test_gpus_have_the_names_of_the_vocabulary"),
        (bent(lambda o: replace(o, gpu="")), "test_gpus_have_the_names_of_the_vocabulary"),
        (bent(lambda o: replace(o, gpu_count=0)), "test_gpus_have_the_names_of_the_vocabulary"),
        (
            bent(lambda o: replace(o, priced_at=NOW.replace(tzinfo=None))),
            "test_times_are_utc_and_not_in_the_future",
        ),
        (
            bent(lambda o: replace(o, priced_at=NOW + timedelta(seconds=1))),
            "test_times_are_utc_and_not_in_the_future",
        ),
        (
            bent(lambda o: replace(o, region="eu-north-1")),
            "test_an_offer_comes_once_and_says_where_it_is_from",
        ),
        (
            bent(lambda o: replace(o, zone="")),
            "test_an_offer_comes_once_and_says_where_it_is_from",
        ),
        (
            lambda parsed: replace(parsed, covered=frozenset({("", Purchase.SPOT)})),
            "test_what_is_covered_are_regions_and_purchases",
        ),
        (
            lambda parsed: replace(parsed, skips=(Skip("x" * 81),)),
            "test_skips_are_short_and_countable",
        ),
        (lambda parsed: replace(parsed, offers=()), "test_a_recording_brings_offers"),
    ],
)
def test_a_broken_promise_is_noticed(
    contract: type[ProviderContract], bend: Bend, promise: str
) -> None:
    class Bent(Honest):
        pass

    Bent.bend = staticmethod(bend)
    contract.made = Bent  # type: ignore[attr-defined]
    assert promise in broken_promises(contract)


def test_a_parser_with_a_memory_is_noticed(contract: type[ProviderContract]) -> None:
    class Forgetful(Honest):
        calls = 0

        def parse(self, fetched: Fetched, now: datetime) -> Parsed:
            type(self).calls += 1
            parsed = super().parse(fetched, now)
            return replace(parsed, offers=parsed.offers[: 1 + self.calls % 2])

    contract.made = Forgetful  # type: ignore[attr-defined]
    assert "test_parsing_is_pure" in broken_promises(contract)


def test_a_parser_that_changes_its_input_is_noticed(contract: type[ProviderContract]) -> None:
    class Greedy(Honest):
        def parse(self, fetched: Fetched, now: datetime) -> Parsed:
            for page in fetched.pages:
                if isinstance(page.body, dict):
                    page.body.clear()
            return Parsed([priced()])

    class Contract(contract):  # type: ignore[misc, valid-type]
        made = Greedy

        def recording(self) -> Fetched:
            return Fetched((Page("regions", "", {"regions": []}),))

    assert "test_parsing_is_pure" in broken_promises(Contract)


def test_a_parser_that_takes_anything_is_noticed(contract: type[ProviderContract]) -> None:
    class Gullible(Honest):
        def parse(self, fetched: Fetched, now: datetime) -> Parsed:
            return Parsed([priced()], (), frozenset({("eu-north-1", Purchase.SPOT)}))

    contract.made = Gullible  # type: ignore[attr-defined]
    assert broken_promises(contract) == {
        "test_garbage_is_a_bad_answer_and_nothing_else",
        "test_nothing_is_covered_by_no_answer",
    }


def test_a_fetch_from_nowhere_that_succeeds_is_noticed(contract: type[ProviderContract]) -> None:
    class Liar(Honest):
        def fetch(self, progress: Progress) -> Fetched:
            return Fetched(())

    contract.made = Liar  # type: ignore[attr-defined]
    assert broken_promises(contract) == {"test_a_dead_endpoint_is_a_provider_error"}


def test_a_provider_under_a_name_that_is_not_registered_is_noticed(
    contract: type[ProviderContract],
) -> None:
    class Stranger(Honest):
        name = "stranger"

    contract.made = Stranger  # type: ignore[attr-defined]
    assert broken_promises(contract) == {"test_it_is_registered_by_its_own_name"}


# The fake provider


def poll(fake: FakeProvider) -> Parsed:
    return fake.parse(fake.fetch(lambda _: None), NOW)


def test_the_fake_sells_the_same_until_told_otherwise() -> None:
    fake = FakeProvider(offers=[priced(usd="1")])
    assert poll(fake) == poll(fake)
    fake.sells([priced(usd="2")])
    assert [str(offer.price) for offer in poll(fake).offers] == ["2 USD"]
    assert fake.fetches == 3


def test_the_fake_that_sells_nothing_more_still_covers_what_it_sold() -> None:
    fake = FakeProvider(offers=[priced("eu-west-1")])
    fake.sells([])
    assert poll(fake) == Parsed((), (), frozenset({("eu-west-1", Purchase.SPOT)}))


def test_the_fake_fails_until_it_sells_again() -> None:
    fake = FakeProvider(offers=[priced()])
    fake.fails(Unreachable("fake: gone"))
    for _ in range(2):
        with pytest.raises(Unreachable):
            poll(fake)
    fake.sells([priced()], degraded=("eu-west-1: slow",), notes=("of last week",))
    fetched = fake.fetch(lambda _: None)
    assert (fetched.degraded, fetched.notes) == (("eu-west-1: slow",), ("of last week",))


def test_the_fake_is_a_provider() -> None:
    assert isinstance(FakeProvider(), Provider)
