"""Lambda: prices in cents, and capacity by what is listed."""

from __future__ import annotations

import json
from collections import Counter
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
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.lambda_cloud import IMAGES, TYPES, Lambda

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SECRET = "secret_lambda-key.0123456789"


def recorded(name: str) -> bytes:
    return (RECORDINGS / "lambda" / f"{name}.json").read_bytes()


def recording() -> Fetched:
    return Fetched((Page(TYPES, "", recorded(TYPES)), Page(IMAGES, "", recorded(IMAGES))))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Lambda(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *regions: str) -> Parsed:
    return Lambda(ProviderSettings(regions=regions)).parse(fetched, NOW)


def item(**changes: Any) -> dict[str, Any]:
    """A sound machine type, changed."""
    found: dict[str, Any] = json.loads(recorded(TYPES))["data"]["gpu_1x_a10"]
    return {**found, "instance_type": {**found["instance_type"], **changes}}


def types(**items: Any) -> Fetched:
    return Fetched((Page(TYPES, "", json.dumps({"data": items}).encode()),))


def reasons(parsed: Parsed, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in parsed.skips if skip.malformed is malformed)


def only(parsed: Parsed) -> PricedOffer:
    assert len(parsed.offers) == 1, parsed
    return parsed.offers[0]


def test_an_offer_for_each_region_with_capacity() -> None:
    found = {
        (one.region, one.instance_type): (one.gpu, one.gpu_count, str(one.price))
        for one in parse(recording()).offers
    }
    assert found == {
        ("us-west-1", "gpu_1x_a10"): ("A10", 1, "0.75 USD"),
        ("europe-central-1", "gpu_1x_a10"): ("A10", 1, "0.75 USD"),
        ("us-east-1", "gpu_1x_a100_sxm4"): ("A100-40GB", 1, "1.29 USD"),
        ("us-east-1", "gpu_8x_a100_80gb_sxm4"): ("A100-80GB", 8, "14.32 USD"),
        ("us-west-1", "gpu_1x_h100_pcie"): ("H100-PCIe", 1, "2.49 USD"),
        ("europe-central-1", "gpu_8x_h100_sxm5"): ("H100", 8, "23.92 USD"),
        ("us-east-1", "gpu_1x_gh200"): ("GH200", 1, "1.49 USD"),
        ("us-east-1", "gpu_1x_rtx6000"): ("Quadro RTX 6000", 1, "0.5 USD"),
        ("us-east-1", "gpu_8x_v100_n"): ("V100-16GB", 8, "4.4 USD"),
    }


def test_what_is_sold_out_is_no_offer_and_its_regions_are_covered() -> None:
    parsed = parse(recording())
    assert not [one for one in parsed.offers if one.instance_type == "gpu_8x_b200_sxm6"]
    regions = {region for region, _ in parsed.covered}
    # One of the images alone, one of the region table alone.
    assert {"asia-northeast-2", "us-midwest-1", "europe-central-1"} <= regions
    assert {purchase for _, purchase in parsed.covered} == {Purchase.ON_DEMAND}


def test_capacity_that_is_listed_is_a_signal_and_none_is_none() -> None:
    parsed = parse(recording())
    assert parsed.signal_kinds == {"capacity_listed"}
    listed = {(one.region, one.instance_type) for one in parsed.signals}
    assert listed == {(one.region, one.instance_type) for one in parsed.offers}
    assert {(one.low, one.high) for one in parsed.signals} == {(Decimal(1), Decimal(1))}


def test_what_is_left_out_is_counted() -> None:
    parsed = parse(recording())
    assert reasons(parsed, malformed=False) == {"not a GPU machine": 1, "no list price": 1}
    assert not reasons(parsed, malformed=True)


def test_the_test_regions_of_lambda_itself_count_nowhere() -> None:
    parsed = parse(recording())
    everywhere = {one.region for one in parsed.offers} | {region for region, _ in parsed.covered}
    assert not [region for region in everywhere if region.startswith("test-")]


def test_regions_that_the_settings_name_are_the_only_ones_kept() -> None:
    parsed = parse(recording(), "europe-central-1")
    assert {one.region for one in parsed.offers} == {"europe-central-1"}
    assert {region for region, _ in parsed.covered} == {"europe-central-1"}


@pytest.mark.parametrize(
    ("description", "gpu"),
    [
        ("A100 (40 GB SXM4)", "A100-40GB"),
        ("NVIDIA A100 (80 GB)", "A100-80GB"),
        ("A100", "A100"),  # which of the two is not said, and is not guessed
        ("GB300", "GB300"),
    ],
)
def test_the_memory_is_that_of_the_description(description: str, gpu: str) -> None:
    bare = item(gpu_description=description, description="", name="gpu_1x_new")
    assert only(parse(types(x=bare), "us-west-1")).gpu == gpu


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price_cents_per_hour": -1}, "price is negative"),
        ({"price_cents_per_hour": None}, "row of the wrong shape"),
        ({"price_cents_per_hour": "soon"}, "row of the wrong shape"),
        ({"price_cents_per_hour": True}, "row of the wrong shape"),
        ({"price_cents_per_hour": 10**12}, "price is above"),
        ({"specs": {}}, "row of the wrong shape"),
        ({"specs": {"gpus": -1}}, "negative number of GPUs"),
        ({"specs": {"gpus": 1.5}}, "row of the wrong shape"),
        ({"name": ""}, "row without name"),
        ({"name": "x", "gpu_description": "", "description": ""}, "row without gpu_description"),
    ],
)
def test_a_malformed_row_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    parsed = parse(types(bad=item(**changes), good=item()), "us-west-1")
    assert only(parsed).instance_type == "gpu_1x_a10"
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


def test_of_one_machine_sold_twice_the_dearer_counts_and_the_user_is_told() -> None:
    parsed = parse(types(a=item(), b=item(price_cents_per_hour=99)), "us-west-1")
    assert str(only(parsed).price) == "0.99 USD"
    assert reasons(parsed, malformed=True) == {"offer that comes twice": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(item()["instance_type"])), JSON))
def test_no_row_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    sound = item(name="sound")
    parsed = parse(types(strange=item(**changes), sound=sound), "europe-central-1")
    assert any(one.instance_type == "sound" for one in parsed.offers)
    assert all(one.price.micros > 0 for one in parsed.offers)


# Asking


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", SECRET)


def as_lambda(request: Request) -> Answer:
    if request.headers.get("authorization") != f"Bearer {SECRET}":
        return as_json({"error": {"code": "global/invalid-api-key"}}, 401)
    name = request.path.removeprefix("/api/v1/")
    return Answer(recorded(name)) if name in (TYPES, IMAGES) else Answer(status=404)


def fetch(server: LoopbackServer, clock: FakeClock | None = None, **more: Any) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, timeout_s=5.0, **more)
    return Lambda(settings, clock=clock or FakeClock()).fetch(lambda _: None)


@pytest.mark.usefixtures("_key")
def test_both_lists_are_asked_for_one_second_apart(server: LoopbackServer) -> None:
    server.answer = as_lambda
    clock = FakeClock()
    assert fetch(server, clock) == recording()
    assert [request.path for request in server.requests] == [
        "/api/v1/instance-types",
        "/api/v1/images",
    ]
    assert sum(clock.slept) >= 1.0


@pytest.mark.usefixtures("_key")
def test_an_endpoint_that_has_the_version_is_used_as_it_is(server: LoopbackServer) -> None:
    server.answer = as_lambda
    settings = ProviderSettings(endpoint=f"{server.url}/api/v1/")
    Lambda(settings, clock=FakeClock()).fetch(lambda _: None)
    assert server.requests[0].path == "/api/v1/instance-types"


def test_without_a_key_nothing_is_asked_and_the_variable_is_named(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAMBDA_API_KEY", raising=False)
    with pytest.raises(MissingCredentials, match="export LAMBDA_API_KEY="):
        fetch(server)
    assert server.requests == []


def test_the_variable_may_have_another_name(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", f"  {SECRET}\n")
    server.answer = as_lambda
    assert fetch(server, options={"api_key_env": "OUR_KEY"}).degraded == ()


@pytest.mark.parametrize("wrong", ["an-expired-key", "two\nlines", "schlüssel"])
def test_a_wrong_key_is_told_and_not_shown(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", wrong)
    server.answer = as_lambda
    with pytest.raises(BadCredentials, match="check LAMBDA_API_KEY") as caught:
        fetch(server)
    assert wrong not in str(caught.value)


@pytest.mark.usefixtures("_key")
def test_a_key_that_expires_in_the_middle_costs_only_the_regions(server: LoopbackServer) -> None:
    server.answer = lambda r: Answer(status=401) if r.path.endswith(IMAGES) else as_lambda(r)
    fetched = fetch(server)
    assert len(fetched.degraded) == 1
    assert "401" in fetched.degraded[0]
    assert SECRET not in fetched.degraded[0]
    assert parse(fetched).offers == parse(recording()).offers


@pytest.mark.usefixtures("_key")
def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: LoopbackServer) -> None:
    def busy_once(request: Request) -> Answer:
        first = len(server.requests) == 1
        return Answer(status=429, headers={"Retry-After": "7"}) if first else as_lambda(request)

    server.answer = busy_once
    clock = FakeClock()
    assert fetch(server, clock) == recording()
    assert 7.0 in clock.slept


@pytest.mark.usefixtures("_key")
def test_a_rate_limit_without_end_is_a_rate_limit(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=429)
    with pytest.raises(RateLimited):
        fetch(server, max_attempts=2)


@pytest.mark.usefixtures("_key")
def test_a_page_of_html_is_no_answer(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(b"<html>maintenance</html>")
    with pytest.raises(BadAnswer, match="lambda: the list of machine types is not JSON"):
        fetch(server)


# The larger recordings


def test_the_published_example_has_no_price_and_no_offer(shared_recordings: Path) -> None:
    file = shared_recordings / "lambda" / "instance_types_openapi_example_1.9.3.json"
    parsed = parse(Fetched((Page(TYPES, "", file.read_bytes()),)))
    assert not parsed.offers
    assert reasons(parsed, malformed=False) == {"no list price": 1}
    assert not reasons(parsed, malformed=True)


def test_gpus_agree_with_the_catalog(shared_recordings: Path) -> None:
    catalog = shared_recordings.parent / "catalog" / "lambda" / "vms.csv"
    known = {one.instance_type: one for one in parse(recording()).offers}
    sizes = {"A100": "A100-40GB", "V100": "V100-16GB", "RTX6000": "Quadro RTX 6000"}
    compared = set()
    for line in catalog.read_text().splitlines()[1:]:
        name, gpu, count = line.split(",")[:3]
        if name in known:
            compared.add(name)
            assert known[name].gpu.removesuffix("-PCIe") == sizes.get(gpu, gpu)
            assert known[name].gpu_count == float(count)
    assert len(compared) == len(known)


def test_an_odd_image_harms_no_other() -> None:
    body = json.dumps({"data": [None, {"region": []}, {"region": {"name": "europe-north-9"}}]})
    types_page = recording().pages[0]
    parsed = parse(Fetched((types_page, Page(IMAGES, "", body.encode()))))
    assert parsed.offers == parse(Fetched((types_page,))).offers
    assert ("europe-north-9", Purchase.ON_DEMAND) in parsed.covered
    assert sum(skip.malformed for skip in parsed.skips) == 2
