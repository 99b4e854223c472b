"""RunPod: one price for each cloud, stock for each data centre and number of GPUs."""

from __future__ import annotations

import ast
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials
from arbiter.launchable import not_launchable
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Provider, ProviderSettings
from arbiter.regions import load_atlas
from arbiter.sovereignty import Level, Refused, Rule, judge
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.runpod import (
    COUNTS,
    DATACENTERS,
    NOWHERE,
    TIERS,
    RunPod,
    feed,
    machine_name,
)

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SECRET = "rpa_0123456789"
WANTED = [(tier, count) for tier in TIERS for count in COUNTS]


def gpus(tier: str, count: int) -> bytes:
    """The recorded answer for the number of GPUs, or for the next lower one that there is."""
    pages = json.loads((RECORDINGS / "runpod" / "gpus.json").read_bytes())
    recorded = max(one for one in (1, 2, 8) if one <= count)
    return json.dumps(pages[f"{tier} {recorded}"]).encode()


def centers() -> bytes:
    return (RECORDINGS / "runpod" / "datacenters.json").read_bytes()


def recording() -> Fetched:
    pages = [Page(feed(tier, count), "", gpus(tier, count)) for tier, count in WANTED]
    return Fetched((*pages, Page(DATACENTERS, "", centers())))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return RunPod(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *regions: str) -> Parsed:
    return RunPod(ProviderSettings(regions=regions)).parse(fetched, NOW)


def gpu(**changes: Any) -> dict[str, Any]:
    """A sound GPU, in stock in one place, changed."""
    found: dict[str, Any] = json.loads(gpus("secure", 1))["gpus"][2]
    return {**found, **changes}


def page(*rows: Any, tier: str = "secure", count: int = 1) -> Fetched:
    return Fetched((Page(feed(tier, count), "", json.dumps({"gpus": rows}).encode()),))


def only(parsed: Parsed) -> PricedOffer:
    assert len(parsed.offers) == 1, parsed
    return parsed.offers[0]


def reasons(parsed: Parsed, *, malformed: bool) -> Counter[str]:
    return Counter(skip.reason for skip in parsed.skips if skip.malformed is malformed)


def prices(parsed: Parsed, region: str) -> dict[str, str]:
    return {one.instance_type: str(one.price) for one in parsed.offers if one.region == region}


def test_a_machine_costs_its_gpus_in_the_currency_of_the_api() -> None:
    parsed = parse(recording())
    assert prices(parsed, "EUR-IS-1") == {
        f"{count}x_H100-SXM_SECURE": price
        for count, price in zip(
            COUNTS,
            ("2.99 USD", "5.98 USD", "8.97 USD", "11.96 USD", "14.95 USD", "17.94 USD",
             "20.93 USD", "23.92 USD"),
            strict=True,
        )
    }  # fmt: skip
    assert {one.purchase for one in parsed.offers} == {Purchase.ON_DEMAND}


def test_the_clouds_are_apart_in_price_and_in_stock() -> None:
    found = {(one.tier, one.region): str(one.price) for one in parse(recording()).offers
             if one.gpu == "A100-80GB"}  # fmt: skip
    assert found == {("secure", "EU-RO-1"): "1.64 USD", ("community", "EU-CZ-1"): "1.19 USD"}


def test_what_is_sold_out_for_so_many_gpus_is_no_offer_for_so_many() -> None:
    parsed = parse(recording())
    assert set(prices(parsed, "EU-NL-1")) == {
        "1x_H100-SXM_SECURE",
        *(f"{count}x_H100-SXM_SECURE" for count in range(2, 8)),
        *(f"{count}x_L40S_SECURE" for count in (1, 2, 3, 4)),  # the largest machine has four
    }


def test_stock_is_a_signal_in_the_words_of_the_api() -> None:
    parsed = parse(recording())
    assert parsed.signal_kinds == {"stock"}
    words = {(one.region, one.instance_type): one.text for one in parsed.signals}
    assert words["EU-RO-1", "1x_RTX4090_SECURE"] == "HIGH"
    assert words["EU-NL-1", "8x_H100-SXM_SECURE"] == "NONE"
    assert words[NOWHERE, "1x_RTX4090_COMMUNITY"] == "MEDIUM"
    assert {(one.low, one.high) for one in parsed.signals} == {(None, None)}


def test_a_community_machine_without_a_place_is_recorded_and_refused() -> None:
    placeless = [one for one in parse(recording()).offers if one.region == NOWHERE]
    assert {one.instance_type for one in placeless} >= {"1x_RTX4090_COMMUNITY"}
    assert {one.tier for one in placeless} == {"community"}
    place = load_atlas().place("runpod", NOWHERE)
    for level in Level:
        if level is not Level.ANY:
            assert isinstance(judge(place, Rule(level), "community"), Refused)
    # Also where a rule asks nothing: SkyPilot's catalog has no machine of the community.
    assert "runpod/community" in not_launchable("skypilot")


def test_a_secure_machine_without_a_place_is_no_offer() -> None:
    placeless = gpu(dataCenters=None, availability="HIGH")
    parsed = parse(page(placeless))
    assert not parsed.offers
    assert reasons(parsed, malformed=False) == {"no stock is stated for any place": 1}


def test_everything_is_covered_when_every_answer_came() -> None:
    covered = parse(recording()).covered
    assert {("US-KS-2", Purchase.ON_DEMAND), (NOWHERE, Purchase.ON_DEMAND)} <= covered
    assert ("EUR-IS-5", Purchase.ON_DEMAND) in covered  # of the region table alone


@pytest.mark.parametrize("missing", [0, 7, 15])
def test_nothing_is_covered_when_one_is_missing(missing: int) -> None:
    pages = list(recording().pages)
    del pages[missing]
    parsed = parse(Fetched(tuple(pages)))
    assert parsed.offers
    assert parsed.covered == frozenset()
    assert parsed.signal_kinds == frozenset()


def test_data_centers_that_the_settings_name_are_the_only_ones_kept() -> None:
    parsed = parse(recording(), "EU-RO-1")
    assert {one.region for one in parsed.offers} == {"EU-RO-1"}
    assert {region for region, _ in parsed.covered} == {"EU-RO-1"}
    assert {one.region for one in parsed.signals} == {"EU-RO-1"}


@pytest.mark.parametrize(
    ("name", "memory", "known"),
    [
        ("A100 PCIe", 80, "A100-80GB"),
        ("A100 SXM 40GB", 40, "A100-40GB"),
        ("V100 SXM2 32GB", 32, "V100-32GB"),
        ("H100 PCIe", 80, "H100-PCIe"),
        ("H200 SXM", 141, "H200"),
        ("RTX PRO 6000", 96, "RTXPRO6000"),
        ("RTX 6000 Ada", 48, "RTX6000Ada"),
        ("MI300X", 192, "MI300X"),
        ("RTX A4000", 16, "RTX A4000"),
    ],
)
def test_gpus(name: str, memory: int, known: str) -> None:
    assert only(parse(page(gpu(id=f"NVIDIA {name}", name=name, memory=memory)))).gpu == known


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("RTX 4090", "2x_RTX4090_SECURE"),
        ("RTX PRO 6000 WK", "2x_RTXPRO6000-WK_SECURE"),
        ("RTX 6000 Ada", "2x_RTX6000-Ada_SECURE"),
        ("A100 PCIe", "2x_A100-80GB_SECURE"),
        ("A100 SXM", "2x_A100-80GB-SXM_SECURE"),
        ("H100 PCIe", "2x_H100_SECURE"),
        ("H100 NVL", "2x_H100-NVL_SECURE"),
    ],
)
def test_machines_are_called_as_skypilot_calls_them(name: str, machine: str) -> None:
    assert machine_name(name, "secure", 2) == machine


def test_every_name_is_one_that_skypilot_can_launch() -> None:
    """It looks the middle part up. Its source is read: importing it takes seconds."""
    skypilot = find_spec("sky")
    if skypilot is None or skypilot.origin is None:
        pytest.skip("needs SkyPilot: make install")
    source = (Path(skypilot.origin).parent / "provision/runpod/utils.py").read_text("utf-8")
    (known,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GPU_NAME_MAP"
    ]
    names = {one.instance_type.split("_")[1] for one in parse(recording()).offers}
    assert names <= set(known)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": {"secure": 0, "community": 1}}, "price is 0"),
        ({"price": {"secure": -1, "community": 1}}, "price is negative"),
        ({"price": {"community": 1}}, "row without price.secure"),
        ({"price": "cheap"}, "row of the wrong shape"),
        ({"price": {"secure": "soon"}}, "row of the wrong shape"),
        ({"secure": None}, "row of the wrong shape"),
        ({"name": ""}, "row without id or name"),
        ({"memory": "big"}, "row of the wrong shape"),
        ({"dataCenters": [{"id": "EU-RO-1"}]}, "stock of an unknown level"),
        ({"dataCenters": [{"id": "EU-RO-1", "availability": "SOME"}]}, "stock of an unknown level"),
    ],
)
def test_a_malformed_row_is_reported_and_harms_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    sound = gpu(id="NVIDIA L4", name="L4", memory=24)
    parsed = parse(page(gpu(**changes), sound))
    assert only(parsed).gpu == "L4"
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secure": False}, "not sold in this tier"),
        ({"id": "unknown"}, "not a GPU"),
        ({"id": "NVIDIA A100 MIG 1g.10gb"}, "a fraction of a GPU"),
        ({"maxCount": {"secure": 0, "community": 8}}, "more GPUs than the largest machine has"),
    ],
)
def test_what_is_not_sold_is_left_out(changes: dict[str, Any], reason: str) -> None:
    parsed = parse(page(gpu(**changes)))
    assert not parsed.offers
    assert [(skip.reason, skip.malformed) for skip in parsed.skips] == [(reason, False)]


def test_a_price_with_the_noise_of_a_float_is_rounded_to_a_millionth() -> None:
    noisy = gpu(price={"secure": 0.4399999976158142, "community": 0.3})
    assert only(parse(page(noisy))).price.amount == Decimal("0.44")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(gpu())), JSON))
def test_no_row_is_strange_enough_to_stop_the_others(changes: dict[str, Any]) -> None:
    sound = gpu(id="NVIDIA L4", name="L4", memory=24)
    parsed = parse(page(gpu(**changes), sound))
    assert any(one.gpu == "L4" for one in parsed.offers)
    assert all(one.price.micros > 0 for one in parsed.offers)


# Asking


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", SECRET)


def as_runpod(request: Request) -> Answer:
    if request.headers.get("authorization") != f"Bearer {SECRET}":
        return as_json({"title": "Unauthorized", "status": 401, "detail": "no"}, 401)
    query = request.query
    if request.path == "/v2/catalog/datacenters":
        return Answer(centers())
    stock = query.get("include") == "AVAILABILITY" and query.get("product") == "POD"
    if request.path != "/v2/catalog/gpus" or not stock:
        return as_json({"title": "Bad Request", "status": 400, "detail": "product"}, 400)
    return Answer(gpus(query["cloud"].lower(), int(query["count"])))


def fetch(server: LoopbackServer, clock: FakeClock | None = None, **more: Any) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, timeout_s=5.0, **more)
    return RunPod(settings, clock=clock or FakeClock()).fetch(lambda _: None)


@pytest.mark.usefixtures("_key")
def test_stock_is_asked_for_each_cloud_and_number_of_gpus(server: LoopbackServer) -> None:
    server.answer = as_runpod
    assert fetch(server) == recording()
    assert len(server.requests) == 17


def test_without_a_key_the_variable_is_named(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with pytest.raises(MissingCredentials, match="export RUNPOD_API_KEY="):
        fetch(server)
    assert server.requests == []


def test_a_refused_key_is_told_and_not_shown(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "an-old-key")
    server.answer = as_runpod
    with pytest.raises(BadCredentials, match="check RUNPOD_API_KEY") as caught:
        fetch(server)
    assert "an-old-key" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize("answer", [Answer(status=401), Answer(b"<html>"), Answer(status=404)])
def test_a_failure_in_the_middle_keeps_what_came_and_covers_nothing(
    server: LoopbackServer, answer: Answer
) -> None:
    server.answer = lambda request: answer if len(server.requests) > 9 else as_runpod(request)
    fetched = fetch(server)
    assert len(fetched.pages) == 9
    (reason,) = fetched.degraded
    assert reason.startswith("9 of 17 answers came: runpod: ")
    assert SECRET not in reason
    assert len(server.requests) == 10
    parsed = parse(fetched)
    assert parsed.offers
    assert not parsed.covered


@pytest.mark.usefixtures("_key")
def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: LoopbackServer) -> None:
    def busy(request: Request) -> Answer:
        problem = {"title": "Too Many Requests", "status": 429, "detail": "minute window"}
        limited = len(server.requests) == 5
        return as_json(problem, 429, **{"Retry-After": "12"}) if limited else as_runpod(request)

    server.answer = busy
    clock = FakeClock()
    assert fetch(server, clock) == recording()
    assert clock.slept == [12.0]


@pytest.mark.usefixtures("_key")
def test_a_page_of_html_is_no_answer(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(b"<html>maintenance</html>")
    with pytest.raises(BadAnswer, match="runpod: the list of GPUs is not JSON"):
        fetch(server)


def test_an_odd_data_centre_harms_no_other() -> None:
    body = json.dumps({"dataCenters": [None, {"id": 7}, {"id": "EU-XX-9"}]})
    parsed = parse(Fetched((*recording().pages, Page(DATACENTERS, "", body))))
    assert ("EU-XX-9", Purchase.ON_DEMAND) in parsed.covered
    assert sum(skip.malformed for skip in parsed.skips) == 2


def test_a_data_centre_that_does_not_tell_its_stock_harms_no_other() -> None:
    stocked = gpu()["dataCenters"]
    known = prices(parse(page(gpu())), stocked[0]["id"])
    parsed = parse(page(gpu(dataCenters=[*stocked, {"id": "EU-NL-1", "availability": None}])))
    assert prices(parsed, stocked[0]["id"]) == known
    assert [skip.reason for skip in parsed.skips] == ["stock of an unknown level"]


def test_a_page_that_nobody_asked_for_is_no_answer() -> None:
    with pytest.raises(BadAnswer, match="is not a page of this provider"):
        parse(Fetched((Page("gpus secure 99", "", b'{"gpus": []}'),)))


# The larger recordings


def test_the_published_examples_are_understood(shared_recordings: Path) -> None:
    folder = shared_recordings / "runpod"
    body = (folder / "v2_catalog_gpus_example.json").read_bytes()
    places = (folder / "v2_catalog_datacenters_example.json").read_bytes()
    fetched = Fetched((Page(feed("secure", 4), "", body), Page(DATACENTERS, "", places)))
    parsed = parse(fetched)
    assert prices(parsed, "US-KS-2") == {"4x_RTX4090_SECURE": "1.76 USD"}
    assert not parsed.skips
