"""Verda: fixed prices for both ways to buy, offered where capacity is listed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, ProviderError
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.verda import AVAILABILITY, LOCATIONS, TYPES, Verda

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
CLIENT, SECRET, TOKEN = "client-0123", "secret-4567", "token-89ab"
FILES = {
    TYPES: "instance-types",
    "availability on_demand": "availability-on-demand",
    "availability spot": "availability-spot",
    LOCATIONS: "locations",
}


def recorded(feed: str) -> bytes:
    return (RECORDINGS / "verda" / f"{FILES[feed]}.json").read_bytes()


def recording() -> Fetched:
    return Fetched(tuple(Page(feed, "", recorded(feed)) for feed in FILES))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Verda(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *regions: str, **options: Any) -> Parsed:
    return Verda(ProviderSettings(regions=regions, options=options)).parse(fetched, NOW)


def row(**changes: Any) -> dict[str, Any]:
    """A sound machine type, changed."""
    found: dict[str, Any] = json.loads(recorded(TYPES))[0]
    return {**found, **changes}


def pages(*rows: Any, free: Any = None) -> Fetched:
    """Machine types, all of them free in FIN-01 for both ways to buy."""
    names = [one["instance_type"] for one in rows if isinstance(one, dict)]
    listed = [{"location_code": "FIN-01", "availabilities": names}] if free is None else free
    bodies = {TYPES: rows, **dict.fromkeys(AVAILABILITY, listed)}
    return Fetched(
        tuple(Page(feed, "", json.dumps(body).encode()) for feed, body in bodies.items())
    )


def only(parsed: Parsed, purchase: Purchase = Purchase.ON_DEMAND) -> PricedOffer:
    (found,) = [one for one in parsed.offers if one.purchase is purchase]
    return found


def reasons(parsed: Parsed, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in parsed.skips if skip.malformed is malformed)


def test_an_offer_for_each_place_and_way_to_buy_with_capacity() -> None:
    found = {
        (one.region, one.instance_type, str(one.purchase)): (one.gpu, one.gpu_count, str(one.price))
        for one in parse(recording()).offers
    }
    assert found == {
        ("FIN-01", "1A100.22V", "on_demand"): ("A100-80GB", 1, "1.29 USD"),
        ("FIN-01", "1A100.22V", "spot"): ("A100-80GB", 1, "0.58 USD"),
        ("FIN-01", "2A6000.20V", "on_demand"): ("A6000", 2, "0.98 USD"),
        ("FIN-01", "1RTX6000ADA.10V", "on_demand"): ("RTX6000Ada", 1, "0.8262 USD"),
        ("FIN-02", "8H200.141S.176V", "on_demand"): ("H200", 8, "23.92 USD"),
        ("FIN-02", "8H200.141S.176V", "spot"): ("H200", 8, "11.96 USD"),
        ("FIN-02", "1H100.80S.30V", "spot"): ("H100", 1, "0.995 USD"),
        ("FIN-03", "8A100.40S.176V", "on_demand"): ("A100-40GB", 8, "5.769 USD"),
        ("FIN-03", "1GB300.32V", "on_demand"): ("GB300", 1, "5.45 USD"),
        ("FIN-03", "2V100.10V", "on_demand"): ("V100-16GB", 2, "0.2762 USD"),
    }


def test_the_country_is_the_one_that_the_location_states() -> None:
    assert {one.region: one.country for one in parse(recording()).offers} == {
        "FIN-01": "FI",
        "FIN-02": "FI",
        "FIN-03": "FI",
    }


def test_every_location_is_covered_also_one_that_has_nothing() -> None:
    covered = parse(recording()).covered
    assert covered == {
        (region, purchase)
        for region in ("FIN-01", "FIN-02", "FIN-03", "ICE-01")
        for purchase in (Purchase.ON_DEMAND, Purchase.SPOT)
    }


def test_a_way_to_buy_whose_capacity_did_not_come_is_not_covered() -> None:
    without = [page for page in recording().pages if page.feed != "availability spot"]
    parsed = parse(Fetched(tuple(without)))
    assert {purchase for _, purchase in parsed.covered} == {Purchase.ON_DEMAND}
    assert {one.purchase for one in parsed.offers} == {Purchase.ON_DEMAND}
    assert parsed.signal_kinds == frozenset()


def test_without_prices_nothing_is_covered() -> None:
    without = [page for page in recording().pages if page.feed != TYPES]
    parsed = parse(Fetched(tuple(without)))
    assert not parsed.offers
    assert not parsed.covered


def test_capacity_that_is_listed_is_a_signal() -> None:
    parsed = parse(recording())
    assert parsed.signal_kinds == {"capacity_listed"}
    listed = {(one.region, one.instance_type, one.purchase) for one in parsed.signals}
    assert listed == {(one.region, one.instance_type, one.purchase) for one in parsed.offers}


def test_a_location_that_the_settings_do_not_name_is_left_out() -> None:
    parsed = parse(recording(), "FIN-02")
    assert {one.region for one in parsed.offers} == {"FIN-02"}
    assert {region for region, _ in parsed.covered} == {"FIN-02"}


def test_the_currency_is_the_one_that_the_row_states() -> None:
    assert str(only(parse(pages(row(currency="eur")))).price) == "2.29 EUR"


def test_a_row_without_a_currency_is_in_the_one_that_was_asked_for() -> None:
    assert str(only(parse(pages(row(currency=None)), currency="eur")).price) == "2.29 EUR"


def test_a_price_may_be_a_number_too() -> None:
    assert str(only(parse(pages(row(price_per_hour=2.3)))).price) == "2.3 USD"


def test_without_a_spot_price_there_is_on_demand_alone() -> None:
    parsed = parse(pages(row(spot_price=None)))
    assert [one.purchase for one in parsed.offers] == [Purchase.ON_DEMAND]
    assert reasons(parsed, malformed=False) == {"no spot price": 1}


def test_a_wrong_spot_price_leaves_on_demand_alone_and_is_reported() -> None:
    parsed = parse(pages(row(spot_price="0.00")))
    assert [one.purchase for one in parsed.offers] == [Purchase.ON_DEMAND]
    assert reasons(parsed, malformed=True) == {"spot: price is 0": 1}


def test_a_type_that_is_listed_twice_in_a_place_is_one_offer() -> None:
    free = [{"location_code": "FIN-01", "availabilities": ["1H100.80S.30V", "1H100.80S.30V", "?"]}]
    parsed = parse(pages(row(), free=free))
    assert len(parsed.offers) == 2
    assert not parsed.skips


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price_per_hour": "soon"}, "row of the wrong shape"),
        ({"price_per_hour": "NaN"}, "on_demand: price is not a number"),
        ({"price_per_hour": "-1"}, "on_demand: price is negative"),
        ({"currency": "dollars"}, "currency is not a code of three letters"),
        ({"currency": 1}, "row of the wrong shape"),
        ({"instance_type": ""}, "row without instance_type"),
        ({"gpu": {"number_of_gpus": -1}}, "negative number of GPUs"),
        ({"gpu": []}, "row of the wrong shape"),
        (
            {"name": None, "model": "", "gpu": {"number_of_gpus": 1}},
            "row without model",
        ),
    ],
)
def test_a_malformed_row_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    parsed = parse(pages(row(**changes), row(instance_type="good")))
    assert only(parsed).instance_type == "good"
    (skip,) = [skip for skip in parsed.skips if skip.malformed]
    assert skip.reason.startswith(reason)


@pytest.mark.parametrize("bad", [{}, {"location_code": ""}, {"location_code": "X"}, 7, None])
def test_a_malformed_place_harms_no_other(bad: Any) -> None:
    free = [bad, {"location_code": "FIN-01", "availabilities": ["1H100.80S.30V"]}]
    parsed = parse(pages(row(), free=free))
    assert len(parsed.offers) == 2
    assert sum(reasons(parsed, malformed=True).values()) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(set(row()) - {"instance_type"})), JSON))
def test_no_row_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    parsed = parse(pages(row(**changes), row(instance_type="good")))
    assert any(one.instance_type == "good" for one in parsed.offers)
    assert all(one.price.micros > 0 for one in parsed.offers)


# Asking


@pytest.fixture
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERDA_CLIENT_ID", CLIENT)
    monkeypatch.setenv("VERDA_CLIENT_SECRET", SECRET)


def as_verda(request: Request) -> Answer:
    if request.path == "/v1/oauth2/token":
        asked = json.loads(request.body)
        sound = (asked["client_id"], asked["client_secret"]) == (CLIENT, SECRET)
        right = sound and asked["grant_type"] == "client_credentials"
        token = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        return as_json(token) if right else as_json({"code": "unauthorized_request"}, 401)
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return as_json({"code": "unauthorized_request"}, 401)
    return Answer(recorded(asked_for(request)))


def asked_for(request: Request) -> str:
    name = request.path.removeprefix("/v1/")
    if name != "instance-availability":
        return name
    return f"availability {'spot' if request.query['is_spot'] == 'true' else 'on_demand'}"


def fetch(server: LoopbackServer, clock: FakeClock | None = None, **more: Any) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, timeout_s=5.0, **more)
    return Verda(settings, clock=clock or FakeClock()).fetch(lambda _: None)


@pytest.mark.usefixtures("_account")
def test_a_token_is_bought_and_everything_asked_with_it(server: LoopbackServer) -> None:
    server.answer = as_verda
    assert fetch(server) == recording()
    assert [request.method for request in server.requests] == ["POST", "GET", "GET", "GET", "GET"]
    assert server.requests[1].query == {"currency": "usd"}


@pytest.mark.parametrize("missing", ["VERDA_CLIENT_ID", "VERDA_CLIENT_SECRET"])
@pytest.mark.usefixtures("_account")
def test_without_credentials_the_variable_is_named(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(MissingCredentials, match=f"export {missing}="):
        fetch(server)
    assert server.requests == []


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.usefixtures("_account")
def test_refused_credentials_are_told_and_not_shown(server: LoopbackServer, status: int) -> None:
    server.answer = lambda _: as_json({"error": "invalid_client", "was": SECRET}, status)
    with pytest.raises(BadCredentials, match="check VERDA_CLIENT_ID and VERDA_CLIENT_SECRET") as e:
        fetch(server)
    assert CLIENT not in str(e.value)
    assert SECRET not in str(e.value)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"access_token": "two\\nlines"}', b"[]"])
@pytest.mark.usefixtures("_account")
def test_a_token_that_is_none_is_no_answer(server: LoopbackServer, body: bytes) -> None:
    server.answer = lambda _: Answer(body)
    with pytest.raises(BadAnswer, match="verda: the token"):
        fetch(server)


@pytest.mark.parametrize("late", ["availability spot", LOCATIONS])
@pytest.mark.parametrize("answer", [Answer(status=401), Answer(b"<html>")])
@pytest.mark.usefixtures("_account")
def test_what_fails_in_the_middle_is_missing_and_said(
    server: LoopbackServer, late: str, answer: Answer
) -> None:
    def half(request: Request) -> Answer:
        failing = request.method == "GET" and asked_for(request) == late
        return answer if failing else as_verda(request)

    server.answer = half
    fetched = fetch(server)
    assert len(fetched.pages) == 3
    (reason,) = fetched.degraded
    assert reason.startswith(f"{late}: verda: ")
    assert TOKEN not in reason
    assert parse(fetched).offers


@pytest.mark.usefixtures("_account")
def test_prices_without_any_capacity_are_no_poll(server: LoopbackServer) -> None:
    def half(request: Request) -> Answer:
        return Answer(status=404) if "availability" in request.path else as_verda(request)

    server.answer = half
    with pytest.raises(ProviderError, match="404"):
        fetch(server)


@pytest.mark.usefixtures("_account")
def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: LoopbackServer) -> None:
    def busy(request: Request) -> Answer:
        limited = len(server.requests) == 3
        return Answer(status=429, headers={"Retry-After": "9"}) if limited else as_verda(request)

    server.answer = busy
    clock = FakeClock()
    assert fetch(server, clock) == recording()
    assert clock.slept == [9.0]


# The larger recordings


def test_the_published_recording_is_understood(shared_recordings: Path) -> None:
    folder = shared_recordings / "verda"
    files = {
        TYPES: "instance_types",
        "availability spot": "instance_availability_is_spot_true",
        LOCATIONS: "locations",
    }
    fetched = Fetched(
        tuple(Page(f, "", (folder / f"{name}.json").read_bytes()) for f, name in files.items())
    )
    parsed = parse(fetched)
    found = {(one.region, one.instance_type, one.gpu): str(one.price) for one in parsed.offers}
    assert found == {
        ("FIN-01", "2A6000.20V", "A6000"): "0.7 USD",
        ("FIN-01", "1V100.6V", "V100-16GB"): "0.25 USD",
    }
    assert not reasons(parsed, malformed=True)


def test_gpus_agree_with_the_catalog(shared_recordings: Path) -> None:
    catalog = shared_recordings.parent / "catalog" / "verda" / "vms.csv"
    lines = [line.split(",") for line in catalog.read_text().splitlines()[1:]]
    theirs = {line[0]: (line[3], float(line[4])) for line in lines}
    spelt = {"A100": "A100-40GB", "V100": "V100-16GB", "RTX-6000-Ada": "RTX6000Ada",
             "RTX-A6000": "A6000"}  # fmt: skip
    compared = 0
    for one in parse(recording()).offers:
        if one.instance_type in theirs:
            gpu, count = theirs[one.instance_type]
            assert (one.gpu, one.gpu_count) == (spelt.get(gpu, gpu), count)
            compared += 1
    assert compared >= 8
