"""Vast.ai: the lowest ask of strangers, country by country."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, RateLimited
from arbiter.launchable import not_launchable
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.regions import load_atlas
from arbiter.sovereignty import Level, Refused, Rule, judge
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.vast import COMPLETE, CUT_SHORT, LIMIT, WITHOUT_KEY, Vast, country_of

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SECRET = "vast-0123456789"
EUROPE = ",".join(Vast(ProviderSettings())._countries)


def recorded() -> bytes:
    return (RECORDINGS / "vast" / "asks.json").read_bytes()


def recording() -> Fetched:
    return Fetched((Page(COMPLETE, EUROPE, recorded()),))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Vast(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *countries: str) -> Parsed:
    return Vast(ProviderSettings(regions=countries)).parse(fetched, NOW)


def ask(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A sound ask for an RTX 4090 in Sweden, changed."""
    found: dict[str, Any] = json.loads(recorded())["offers"][1]
    return {**found, "id": number, **changes}


def page(*asks: Any, feed: str = COMPLETE, countries: str = "SE") -> Fetched:
    return Fetched((Page(feed, countries, json.dumps({"offers": asks}).encode()),))


def only(parsed: Parsed, purchase: Purchase = Purchase.ON_DEMAND) -> PricedOffer:
    (found,) = [one for one in parsed.offers if one.purchase is purchase]
    return found


def reasons(parsed: Parsed, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in parsed.skips if skip.malformed is malformed)


def test_the_lowest_ask_of_each_kind_is_its_price() -> None:
    found = {
        (one.tier, one.region, one.instance_type, str(one.purchase)): str(one.price)
        for one in parse(recording()).offers
        if one.region == "SE"
    }
    assert found == {
        ("verified", "SE", "1x RTX 4090", "on_demand"): "0.29 USD",
        # Of another host: the lowest bid is looked for among all of them.
        ("verified", "SE", "1x RTX 4090", "spot"): "0.1867 USD",
        ("unverified", "SE", "1x RTX 4090", "on_demand"): "0.22 USD",
        ("unverified", "SE", "1x RTX 4090", "spot"): "0.11 USD",
        ("datacenter", "SE", "2x RTX 4090", "on_demand"): "0.61 USD",
        ("datacenter", "SE", "2x RTX 4090", "spot"): "0.41 USD",
    }


def test_gpus_of_two_sizes_are_two_kinds() -> None:
    found = {one.instance_type: one.gpu for one in parse(recording()).offers if one.region == "BG"}
    assert found == {"1x A100 SXM4 80GB": "A100-80GB", "1x A100 SXM4 40GB": "A100-40GB"}


def test_a_gpu_outside_the_vocabulary_keeps_its_name() -> None:
    found = {one.region: (one.gpu, one.gpu_count) for one in parse(recording()).offers}
    assert found["DE"] == ("GTX 1080 Ti", 4)
    assert found["CH"] == ("RTXPRO6000", 1)
    assert found["DK"] == ("H100", 8)


def test_without_a_bid_there_is_no_spot_price() -> None:
    found = [one.purchase for one in parse(recording()).offers if one.region == "CZ"]
    assert found == [Purchase.ON_DEMAND]


def test_hosts_without_a_country_and_countries_not_asked_for_are_left_out() -> None:
    parsed = parse(recording())
    assert reasons(parsed, malformed=False) == {
        "no country is stated": 1,
        "country that was not asked for": 1,
    }
    assert not reasons(parsed, malformed=True)


def test_the_number_of_asks_is_a_signal_for_all_tiers_together() -> None:
    parsed = parse(recording())
    assert parsed.signal_kinds == {"stock"}
    asks = {(one.region, one.instance_type): one.low for one in parsed.signals}
    assert asks["SE", "1x RTX 4090"] == Decimal(3)
    assert asks["SE", "2x RTX 4090"] == Decimal(1)


def test_every_country_whose_asks_were_all_shown_is_covered() -> None:
    parsed = parse(recording())
    assert {region for region, _ in parsed.covered} == set(EUROPE.split(","))
    assert {purchase for _, purchase in parsed.covered} == {Purchase.SPOT, Purchase.ON_DEMAND}


def test_a_country_whose_asks_were_cut_short_is_not_covered() -> None:
    parsed = parse(page(ask(), feed=CUT_SHORT))
    assert parsed.offers
    assert not parsed.covered
    assert not parsed.signals
    assert not parsed.signal_kinds


def test_an_ask_that_is_shown_twice_counts_once() -> None:
    parsed = parse(page(ask(), ask()))
    assert [one.low for one in parsed.signals] == [Decimal(1)]


def test_no_level_lets_it_in_and_nothing_is_launched_there() -> None:
    place = load_atlas().place("vast", "SE")
    for tier in ("datacenter", "verified", "unverified"):
        for level in Level:
            if level is not Level.ANY:
                verdict = judge(place, Rule(level), tier)
                assert isinstance(verdict, Refused)
                assert verdict.rule == "tier_operator_unknown"
    # A rule that asks nothing refuses nothing; what is left is refused as not launchable.
    assert "vast" in not_launchable("skypilot")


@pytest.mark.parametrize(
    ("geolocation", "country"),
    [
        ("Sweden, SE", "SE"),
        ("Denmark, DK, EU", "DK"),
        ("Sverdlovsk Oblast, RU, EU", "RU"),
        ("South Korea, KR, AS", "KR"),
        (", CA, NA", "CA"),
        ("Oregon, US, NA", "US"),
        (", CA", "CA"),
        ("DE", "DE"),
        ("Yutakacho, Shinagawa, Tokyo, JP", "JP"),
        ("Riyadh Region, SA, AS", "SA"),
        ("Saudi Arabia, SA", "SA"),
        ("US, CA", None),  # Canada, or California
        ("somewhere, EU", None),
        ("Sweden", None),
        ("Sweden, se", None),
        ("", None),
        (None, None),
    ],
)
def test_the_country_of_a_host(geolocation: str | None, country: str | None) -> None:
    assert country_of(geolocation) == country


@pytest.mark.parametrize(
    ("verification", "verified", "hosting", "tier"),
    [
        ("verified", True, 1, "datacenter"),
        ("verified", None, 0, "verified"),
        ("unverified", True, 1, "unverified"),
        ("deverified", None, 2, "unverified"),
        (None, True, None, "verified"),
        (None, None, 1, "unverified"),
    ],
)
def test_tiers(verification: str | None, verified: bool | None, hosting: Any, tier: str) -> None:
    host = ask(verification=verification, verified=verified, hosting_type=hosting)
    assert only(parse(page(host))).tier == tier


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dph_total": 0}, "price is 0"),
        ({"dph_total": -1}, "price is negative"),
        ({"dph_total": None}, "row of the wrong shape"),
        ({"dph_total": "cheap"}, "row of the wrong shape"),
        ({"num_gpus": 0}, "number of GPUs is not above 0"),
        ({"num_gpus": 0.5}, "row of the wrong shape"),
        ({"gpu_name": ""}, "row without gpu_name"),
        ({"gpu_name": None}, "row of the wrong shape"),
        ({"id": None}, "row of the wrong shape"),
        ({"geolocation": 7}, "row of the wrong shape"),
    ],
)
def test_a_malformed_ask_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    parsed = parse(page(ask(**changes), ask(2)))
    assert only(parsed).instance_type == "1x RTX 4090"
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


def test_a_wrong_bid_leaves_the_ask_and_is_reported() -> None:
    parsed = parse(page(ask(min_bid=-1)))
    assert only(parsed)
    assert reasons(parsed, malformed=True) == {"spot: price is negative": 1}


def test_what_is_rented_out_is_no_ask() -> None:
    parsed = parse(page(ask(rentable=False)))
    assert not parsed.offers
    assert reasons(parsed, malformed=False) == {"rented out": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(ask())), JSON))
def test_no_ask_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    sound = ask(-1, gpu_name="L4", gpu_ram=23034)
    parsed = parse(page({**ask(), **changes}, sound))
    assert any(one.gpu == "L4" for one in parsed.offers)
    assert all(one.price.micros > 0 for one in parsed.offers)


# Asking


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAST_API_KEY", raising=False)


def fetch(
    server: LoopbackServer, *countries: str, clock: FakeClock | None = None, **more: Any
) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, regions=countries, timeout_s=5.0, **more)
    return Vast(settings, clock=clock or FakeClock()).fetch(lambda _: None)


def asked_for(request: Request) -> list[str]:
    found: list[str] = json.loads(request.body)["geolocation"]["in"]
    return found


def crowded(**asks: int) -> Callable[[Request], Answer]:
    """A market with so many asks in each country, that shows the cheapest few as Vast does."""

    def answer(request: Request) -> Answer:
        most = LIMIT if request.headers.get("authorization") == f"Bearer {SECRET}" else WITHOUT_KEY
        shown = [
            ask(1000 * at + number, geolocation=f"Somewhere, {country}")
            for at, country in enumerate(sorted(asks))
            for number in range(asks[country])
            if country in asked_for(request)
        ]
        return as_json({"success": True, "offers": shown[:most]})

    return answer


def test_one_request_is_enough_where_nothing_is_cut_short(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(recorded())
    assert fetch(server) == recording()
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v0/bundles/")
    question = json.loads(request.body)
    assert question["type"] == "on-demand"
    assert question["rentable"] == {"eq": True}
    assert {"DE", "IS", "NO", "GB", "CH"} <= set(question["geolocation"]["in"])
    assert "authorization" not in request.headers


def test_an_answer_that_is_cut_short_is_asked_for_in_halves(server: LoopbackServer) -> None:
    server.answer = crowded(DE=40, FI=3, FR=40, SE=30)
    clock = FakeClock()
    fetched = fetch(server, "DE", "FI", "FR", "SE", clock=clock)
    assert fetched.degraded == ()
    parsed = parse(fetched, "DE", "FI", "FR", "SE")
    assert {one.region: one.low for one in parsed.signals} == {
        "DE": Decimal(40), "FI": Decimal(3), "FR": Decimal(40), "SE": Decimal(30),
    }  # fmt: skip
    assert {region for region, _ in parsed.covered} == {"DE", "FI", "FR", "SE"}
    assert len(server.requests) == 1 + 2 + 2
    assert len(clock.slept) == len(server.requests) - 1
    assert min(clock.slept) >= 2


def test_a_country_with_more_asks_than_are_shown_is_said_and_not_covered(
    server: LoopbackServer,
) -> None:
    server.answer = crowded(DE=200, SE=5)
    fetched = fetch(server, "DE", "SE")
    assert fetched.degraded == (
        "DE: only 64 asks are shown; more are shown with a key: export VAST_API_KEY=...",
    )
    parsed = parse(fetched, "DE", "SE")
    assert {one.region for one in parsed.offers} == {"DE", "SE"}
    assert {region for region, _ in parsed.covered} == {"SE"}


def test_with_a_key_more_is_shown(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", SECRET)
    server.answer = crowded(DE=200, SE=5)
    fetched = fetch(server, "DE", "SE")
    assert fetched.degraded == ()
    assert len(server.requests) == 1
    assert json.loads(server.requests[0].body)["limit"] == LIMIT


def test_a_refused_key_is_told_and_not_shown(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", SECRET)
    server.answer = lambda _: as_json({"success": False, "error": "auth_error"}, 401)
    with pytest.raises(BadCredentials, match="check VAST_API_KEY") as caught:
        fetch(server)
    assert SECRET not in str(caught.value)


def test_should_it_ask_for_a_key_one_day_the_variable_is_named(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=401)
    with pytest.raises(MissingCredentials, match="export VAST_API_KEY="):
        fetch(server)


@pytest.mark.parametrize("answer", [Answer(status=401), Answer(b"<html>"), Answer(status=500)])
def test_a_failure_in_the_middle_keeps_what_came(server: LoopbackServer, answer: Answer) -> None:
    market = crowded(DE=40, FI=3, FR=40, SE=30)
    server.answer = lambda request: answer if len(server.requests) > 2 else market(request)
    fetched = fetch(server, "DE", "FI", "FR", "SE", max_attempts=1)
    (reason,) = fetched.degraded
    assert reason.startswith("FR, SE: vast: ")
    parsed = parse(fetched, "DE", "FI", "FR", "SE")
    assert {region for region, _ in parsed.covered} == {"DE", "FI"}
    assert parsed.signal_kinds == frozenset()


def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: LoopbackServer) -> None:
    def busy_once(_: Request) -> Answer:
        first = len(server.requests) == 1
        return Answer(status=429, headers={"Retry-After": "5"}) if first else Answer(recorded())

    server.answer = busy_once
    clock = FakeClock()
    assert fetch(server, clock=clock) == recording()
    assert clock.slept == [5.0]


def test_a_rate_limit_without_end_is_a_rate_limit(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=429)
    with pytest.raises(RateLimited):
        fetch(server, max_attempts=2)


def test_a_page_of_html_is_no_answer(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(b"<html>maintenance</html>")
    with pytest.raises(BadAnswer, match="vast: the list of asks is not JSON"):
        fetch(server)


# The larger recordings


def test_places_and_gpus_of_the_catalog_are_understood(shared_recordings: Path) -> None:
    import csv

    catalog = shared_recordings.parent / "catalog" / "vast" / "vms.csv"
    with catalog.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows
    for line in rows:
        country = country_of(line["Region"])
        assert country is not None, line["Region"]
        assert line["Region"].split(", ")[-2 if len(line["Region"].split(", ")) > 2 else -1] == (
            country
        )
