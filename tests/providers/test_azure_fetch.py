"""Azure: how the pages are asked for, and what is said when they do not come."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.errors import BadAnswer, RateLimited, Unreachable
from arbiter.provider import Fetched, Parsed, ProviderSettings
from arbiter.testing import FakeClock
from arbiter_providers._regions import european_regions
from arbiter_providers.azure import Azure

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
RECORDED = ("swedencentral-1", "westeurope-1", "westeurope-2")


def recorded(name: str) -> bytes:
    return (RECORDINGS / "azure" / f"{name}.json").read_bytes()


def parse(fetched: Fetched) -> Parsed:
    return Azure(ProviderSettings()).parse(fetched, NOW)


def settings(server: LoopbackServer, *regions: str, **more: Any) -> ProviderSettings:
    return ProviderSettings(endpoint=server.url, regions=regions, timeout_s=5.0, **more)


def fetch(server: LoopbackServer, *regions: str, **more: Any) -> Fetched:
    return Azure(settings(server, *regions, **more), clock=FakeClock()).fetch(lambda _: None)


def as_azure(request: Request) -> Answer:
    """The recordings as the API serves them: by region, the rest behind the link."""
    if "westeurope" in request.query["$filter"]:
        return Answer(recorded("westeurope-2" if "$skip" in request.query else "westeurope-1"))
    if "swedencentral" in request.query["$filter"]:
        return Answer(recorded("swedencentral-1"))
    return as_json({"Items": [], "NextPageLink": None, "Count": 0})


def test_all_pages_are_asked_of_our_endpoint_though_the_link_names_another(
    server: LoopbackServer,
) -> None:
    server.answer = as_azure
    fetched = fetch(server, "westeurope", "swedencentral")
    assert fetched.degraded == ()
    bodies = [page.body for page in fetched.pages]
    assert bodies == [recorded(name) for name in RECORDED]
    assert len(server.requests) == 3
    first = next(r for r in server.requests if "westeurope" in r.query["$filter"])
    assert first.path == "/api/retail/prices"
    assert first.query["api-version"] == "2023-01-01-preview"
    assert first.query["currencyCode"] == "USD"
    assert "serviceName eq 'Virtual Machines'" in first.query["$filter"]
    assert "priceType eq 'Consumption'" in first.query["$filter"]


def test_an_endpoint_that_ends_with_the_path_is_used_as_it_is(server: LoopbackServer) -> None:
    server.answer = as_azure
    full = ProviderSettings(endpoint=f"{server.url}/api/retail/prices/", regions=("swedencentral",))
    Azure(full).fetch(lambda _: None)
    assert {request.path for request in server.requests} == {"/api/retail/prices"}


def test_every_european_region_is_asked_by_default(server: LoopbackServer) -> None:
    server.answer = as_azure
    notes: list[str] = []
    Azure(settings(server), clock=FakeClock()).fetch(notes.append)
    asked = {request.query["$filter"].split("'")[3] for request in server.requests}
    assert asked == set(european_regions("azure"))
    assert {"westeurope", "norwayeast", "uksouth", "switzerlandnorth"} <= asked
    assert "eastus" not in asked
    assert len(notes) == len(asked)


def test_a_server_without_contains_is_asked_for_everything(server: LoopbackServer) -> None:
    def strict(request: Request) -> Answer:
        return Answer(status=400) if "contains" in request.query["$filter"] else as_azure(request)

    server.answer = strict
    assert parse(fetch(server, "westeurope")).offers


def test_a_server_to_which_contains_matches_nothing_is_asked_for_everything(
    server: LoopbackServer,
) -> None:
    def deaf(request: Request) -> Answer:
        if "contains" in request.query["$filter"]:
            return as_json({"Items": [], "NextPageLink": None})
        return as_azure(request)

    server.answer = deaf
    assert parse(fetch(server, "westeurope")).offers


def test_not_one_row_anywhere_is_no_answer(server: LoopbackServer) -> None:
    server.answer = lambda _: as_json({"Items": [], "NextPageLink": None})
    with pytest.raises(BadAnswer, match="not one price row for any of 2 regions"):
        fetch(server, "westeurope", "swedencentral")


def test_a_region_that_fails_leaves_the_others_unharmed(server: LoopbackServer) -> None:
    def half(request: Request) -> Answer:
        bad = "swedencentral" in request.query["$filter"]
        return Answer(b"<html>") if bad else as_azure(request)

    server.answer = half
    fetched = fetch(server, "westeurope", "swedencentral")
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("swedencentral: ")
    assert "not JSON" in fetched.degraded[0]
    assert {region for region, _ in parse(fetched).covered} == {"westeurope"}


def endless(link: Callable[[int], str], server: LoopbackServer) -> Fetched:
    def answer(_: Request) -> Answer:
        body = json.loads(recorded("swedencentral-1"))
        return as_json({**body, "NextPageLink": link(len(server.requests))})

    server.answer = answer
    return fetch(server, "swedencentral")


def test_a_link_that_leads_in_a_circle_ends(server: LoopbackServer) -> None:
    fetched = endless(lambda n: f"https://x/?$skip={n % 3}", server)
    assert len(server.requests) <= 5
    assert fetched.degraded == ("swedencentral: the pages do not end",)
    assert parse(fetched).covered == frozenset()


def test_pages_without_end_are_cut_off(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbiter_providers.azure.MOST_PAGES", 7)
    fetched = endless(lambda n: f"https://x/?$skip={n}", server)
    assert len(server.requests) == 7
    assert fetched.degraded == ("swedencentral: the pages do not end",)


def test_all_regions_rate_limited_is_a_rate_limit(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=429)
    with pytest.raises(RateLimited):
        fetch(server, "westeurope", "swedencentral", max_attempts=2)


def test_a_dead_endpoint_is_not_waited_for_region_by_region() -> None:
    clock = FakeClock()
    dead = ProviderSettings(endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"azure: .*cannot be reached"):
        Azure(dead, clock=clock).fetch(lambda _: None)
    # Four regions are asked at once, and each of those few may wait its own turns.
    assert sum(clock.slept) < 10
