"""Azure with an account: eviction rates beside the prices, and 90 days of spot prices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, Unreachable
from arbiter.money import Price
from arbiter.provider import (
    Fetched,
    HistoryProvider,
    Page,
    Parsed,
    ParsedHistory,
    ProviderSettings,
)
from arbiter.testing import FakeClock
from arbiter_providers.azure import Azure
from arbiter_providers.azure_signals import EVERY

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=90)
SECRET, TOKEN = "not-a-real-secret", "not-a-real-token"
VARIABLES = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")


def recorded(name: str) -> bytes:
    return (RECORDINGS / "azure" / f"{name}.json").read_bytes()


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def account(no_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("our/tenant", "our-client", SECRET), strict=True):
        monkeypatch.setenv(name, value)


# --- reading --------------------------------------------------------------------------------


def parse(*pages: Page) -> Parsed:
    return Azure(ProviderSettings()).parse(Fetched(pages), NOW)


def past(*rows: dict[str, Any]) -> ParsedHistory:
    body = json.dumps({"data": rows, "count": len(rows)}).encode()
    page = Page("spot-price-history", "", body)
    return Azure(ProviderSettings()).parse_history(Fetched((page,)), NOW)


def series(*prices: Any, **changes: Any) -> dict[str, Any]:
    known = {"skuName": "standard_nc24ads_a100_v4", "location": "swedencentral"}
    return {**known, "spotPrices": list(prices), **changes}


def priced(price: Any, date: Any) -> dict[str, Any]:
    return {"priceUSD": price, "effectiveDate": date}


def test_an_eviction_rate_is_a_band_for_a_size_and_a_region() -> None:
    parsed = parse(Page("spot-eviction-rate", "", recorded("spot-eviction-rate")))
    assert {(s.region, s.instance_type): (s.low, s.high, s.text) for s in parsed.signals} == {
        ("swedencentral", "Standard_NC24ads_A100_v4"): (Decimal(0), Decimal(5), "0-5"),
        ("westeurope", "Standard_NC40ads_H100_v5"): (Decimal(20), None, "20+"),
        ("westeurope", "Standard_NC4as_T4_v3"): (Decimal(10), Decimal(15), "10-15"),
    }
    assert {(s.kind, s.unit, s.zone, s.purchase, s.observed_at) for s in parsed.signals} == {
        ("eviction_rate", "percent per hour over 28 days", None, Purchase.SPOT, None)
    }
    assert parsed.signal_kinds == {"eviction_rate"}
    assert Counter(skip.reason for skip in parsed.skips) == {
        "no eviction rate": 1,
        "GPU size that is not in the table": 1,
    }
    assert not parsed.covered


def test_rates_that_go_on_are_not_complete() -> None:
    body = json.loads(recorded("spot-eviction-rate")) | {"$skipToken": "more"}
    parsed = parse(Page("spot-eviction-rate", "", json.dumps(body).encode()))
    assert parsed.signals
    assert parsed.signal_kinds == frozenset()


@pytest.mark.parametrize("row", [17, {"skuName": 1, "location": "x"}, {"location": "westeurope"}])
def test_a_malformed_rate_is_counted_and_harms_no_other(row: Any) -> None:
    body = json.loads(recorded("spot-eviction-rate"))
    body["data"] = [row, body["data"][0]]
    parsed = parse(Page("spot-eviction-rate", "", json.dumps(body).encode()))
    assert len(parsed.signals) == 1
    assert [skip.malformed for skip in parsed.skips] == [True]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": 17}', None])
@pytest.mark.parametrize("feed", ["spot-eviction-rate", "spot-price-history"])
def test_what_is_no_answer_of_the_graph_is_a_bad_answer(feed: str, body: Any) -> None:
    azure, fetched = Azure(ProviderSettings()), Fetched((Page(feed, "", body),))
    read = azure.parse if feed == "spot-eviction-rate" else azure.parse_history
    with pytest.raises(BadAnswer, match="azure: an answer of the Resource Graph"):
        read(fetched, NOW)


def test_a_past_price_holds_until_the_next_one() -> None:
    page = Page("spot-price-history", "", recorded("spot-price-history"))
    parsed = Azure(ProviderSettings()).parse_history(Fetched((page,)), NOW)
    a100 = [one for one in parsed.prices if one.offer.gpu == "A100-80GB"]
    assert [(str(p.offer.price), p.valid_from.month, p.valid_to) for p in a100] == [
        ("0.7991 USD", 9, datetime(2026, 10, 1, tzinfo=UTC)),
        ("0.7991 USD", 10, datetime(2026, 11, 1, tzinfo=UTC)),
        ("0.8484 USD", 11, None),
    ]
    (h100,) = (one for one in parsed.prices if one.offer.gpu == "H100-NVL")
    assert h100.offer.price == Price.of("2.10")
    assert (h100.offer.region, h100.offer.instance_type, h100.offer.purchase) == (
        "westeurope",
        "Standard_NC40ads_H100_v5",
        Purchase.SPOT,
    )
    assert Counter(skip.reason for skip in parsed.skips) == {"GPU size that is not in the table": 2}


def test_the_order_of_the_prices_does_not_matter() -> None:
    newer, older = priced(0.8, "2026-10-01T00:00:00Z"), priced(0.7, "2026-09-01T00:00:00Z")
    assert past(series(newer, older)) == past(series(older, newer))


def test_a_price_of_tomorrow_does_not_hold_yet() -> None:
    parsed = past(series(priced(0.8, "2026-12-01T00:00:00Z"), priced(0.7, "2026-11-01T00:00:00Z")))
    assert [(str(p.offer.price), p.valid_to) for p in parsed.prices] == [("0.7 USD", None)]
    assert [skip.reason for skip in parsed.skips] == ["not valid yet"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (series(priced(0, "2026-10-01T00:00:00Z")), "past price: price is 0"),
        (series(priced("dear", "2026-10-01T00:00:00Z")), "past price: "),
        (series(priced(0.7, None)), "past price: "),
        (series(priced(0.7, "2026-10-01T00:00:00")), "past price: effectiveDate without"),
        (series({"priceUSD": 0.7}), "past price: "),
        (series(spotPrices="[1"), "row of the wrong shape"),
        (series(spotPrices=7), "row of the wrong shape"),
        (series(location=""), "row without location"),
    ],
)
def test_a_malformed_past_price_is_counted_and_harms_no_other(
    row: dict[str, Any], reason: str
) -> None:
    parsed = past(row, series(priced(0.7, "2026-09-01T00:00:00Z")))
    assert len(parsed.prices) == 1
    (skip,) = parsed.skips
    assert skip.malformed
    assert skip.reason.startswith(reason)


# --- asking ---------------------------------------------------------------------------------


class World:
    """Azure's three addresses on one loopback server, a clock, and a provider that lives on."""

    def __init__(self, server: LoopbackServer, **options: Any) -> None:
        self.server = server
        self.clock = FakeClock(NOW)
        self.token: Callable[[], Answer] = lambda: as_json({"access_token": TOKEN})
        self.graph: Callable[[dict[str, Any]], Answer] = self.recorded
        server.answer = self.answer
        settings = ProviderSettings(
            endpoint=server.url,
            regions=("swedencentral", "westeurope"),
            timeout_s=5.0,
            max_attempts=2,
            options=options,
        )
        self.azure = Azure(settings, clock=self.clock)

    def answer(self, request: Request) -> Answer:
        if request.path.startswith("/api/retail/prices"):
            return Answer(recorded("swedencentral-1"))
        if request.path.endswith("/oauth2/v2.0/token"):
            return self.token()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(status=401)
        return self.graph(json.loads(request.body))

    @staticmethod
    def recorded(question: dict[str, Any]) -> Answer:
        rates = "skuspotevictionrate" in question["query"]
        return Answer(recorded("spot-eviction-rate" if rates else "spot-price-history"))

    def asked(self) -> list[Request]:
        """What was asked beside the price list."""
        return [one for one in self.server.requests if not one.path.startswith("/api/retail")]

    def poll(self) -> tuple[Fetched, Parsed]:
        fetched = self.azure.fetch(lambda _: None)
        return fetched, self.azure.parse(fetched, self.clock.now())

    def history(self) -> Fetched:
        return self.azure.fetch_history(SINCE, NOW, lambda _: None)


@pytest.fixture
def world(server: LoopbackServer, account: None) -> World:
    return World(server)


def test_azure_tells_its_past() -> None:
    assert isinstance(Azure(ProviderSettings()), HistoryProvider)


def test_without_an_account_there_are_prices_and_nothing_is_said(server: LoopbackServer) -> None:
    world = World(server)
    fetched, parsed = world.poll()
    assert parsed.offers
    assert (fetched.degraded, parsed.signals, parsed.signal_kinds) == ((), [], frozenset())
    assert world.asked() == []


def test_half_an_account_is_none(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "our/tenant")
    assert World(server).poll()[0].degraded == ()


def test_without_an_account_the_past_says_what_is_missing(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "our/tenant")
    with pytest.raises(MissingCredentials) as caught:
        World(server).history()
    assert str(caught.value) == (
        "azure: past spot prices are told to accounts only: AZURE_CLIENT_ID, AZURE_CLIENT_SECRET "
        "not set; export AZURE_CLIENT_ID=..."
    )


def test_one_poll_brings_prices_and_eviction_rates(world: World) -> None:
    fetched, parsed = world.poll()
    assert fetched.degraded == ()
    assert parsed.offers
    assert parsed.signal_kinds == {"eviction_rate"}
    token, graph = world.asked()
    assert token.path == "/our%2Ftenant/oauth2/v2.0/token"
    assert {name: values[0] for name, values in parse_qs(token.body).items()} == {
        "grant_type": "client_credentials",
        "client_id": "our-client",
        "client_secret": SECRET,
        "scope": "https://management.azure.com/.default",
    }
    assert graph.path == "/providers/Microsoft.ResourceGraph/resources"
    assert graph.query == {"api-version": "2024-04-01"}
    query = json.loads(graph.body)["query"]
    assert "'standard_nc24ads_a100_v4'" in query
    assert "where location in~ ('swedencentral', 'westeurope')" in query


def test_the_rates_are_asked_for_at_their_own_pace(world: World) -> None:
    world.poll()
    world.clock.advance(300)
    assert world.poll()[1].signal_kinds == frozenset()
    assert len(world.asked()) == 2
    world.clock.advance(EVERY.total_seconds())
    assert world.poll()[1].signal_kinds == {"eviction_rate"}


@pytest.mark.parametrize(
    ("token", "graph"),
    [
        (Answer(status=401), None),
        (Answer(status=400), None),
        (Answer(status=500), None),
        (Answer(b"<html>"), None),
        (as_json({"access_token": "two\nlines"}), None),
        (None, Answer(status=401)),
        (None, Answer(status=403)),
        (None, Answer(status=429)),
        (None, Answer(b"<html>")),
    ],
)
def test_rates_that_fail_are_said_and_never_stop_the_prices(
    world: World, token: Answer | None, graph: Answer | None
) -> None:
    if token is not None:
        world.token = lambda: token
    if graph is not None:
        world.graph = lambda _: graph
    fetched, parsed = world.poll()
    assert parsed.offers
    assert parsed.signals == []
    (note,) = fetched.degraded
    assert note.startswith("eviction rates: azure: ")
    assert SECRET not in note
    assert TOKEN not in note
    assert len(world.asked()) <= 2  # one try of each
    assert world.poll()[0].degraded == (note,)


def test_a_stand_in_need_not_have_rates(world: World) -> None:
    world.token = lambda: Answer(status=404)
    fetched, parsed = world.poll()
    assert (fetched.degraded, parsed.signals) == ((), [])


def test_rates_can_be_switched_off(server: LoopbackServer, account: None) -> None:
    world = World(server, signals=False)
    assert world.poll()[1].signals == []
    assert world.asked() == []


def paged(pages: int, fails_at: int | None = None, circles: bool = False) -> Any:
    """The recorded history, page after page, each behind the token of the one before."""

    def answer(question: dict[str, Any]) -> Answer:
        number = int(question["options"].get("$skipToken", "0"))
        if number == fails_at:
            return Answer(status=401)
        body = json.loads(recorded("spot-price-history"))
        more = circles or number + 1 < pages
        return as_json(body | ({"$skipToken": str((number + 1) % pages)} if more else {}))

    return answer


def test_every_page_of_the_past_is_asked_for(world: World) -> None:
    world.graph = paged(3)
    fetched = world.history()
    assert (len(fetched.pages), fetched.degraded) == (3, ())
    query = json.loads(world.asked()[1].body)["query"]
    assert "where properties.osType =~ 'linux'" in query
    assert world.azure.parse_history(fetched, NOW).prices


def test_a_token_that_expires_in_the_middle_keeps_what_came(world: World) -> None:
    world.graph = paged(3, fails_at=2)
    fetched = world.history()
    assert len(fetched.pages) == 2
    (note,) = fetched.degraded
    assert note.startswith("some sizes are missing, azure: ")
    assert TOKEN not in note


def test_pages_in_a_circle_end(world: World) -> None:
    world.graph = paged(2, circles=True)
    fetched = world.history()
    assert len(fetched.pages) <= 4
    assert fetched.degraded == ("some sizes are missing, the pages do not end",)


def test_a_past_that_is_refused_says_which_variable_to_check(world: World) -> None:
    world.token = lambda: as_json({"error": "invalid_client", "error_description": SECRET}, 401)
    with pytest.raises(BadCredentials, match="check AZURE_CLIENT_SECRET") as caught:
        world.history()
    assert SECRET not in str(caught.value)


def test_a_graph_that_is_down_is_an_error(world: World) -> None:
    world.graph = lambda _: Answer(status=503)
    with pytest.raises(Unreachable, match="answered 503"):
        world.history()


def test_the_addresses_can_be_named_apart(server: LoopbackServer, account: None) -> None:
    login, management = f"{server.url}/login", f"{server.url}/management/"
    world = World(server, login_endpoint=login, management_endpoint=management)
    world.poll()
    assert [request.path.split("/")[1] for request in world.asked()] == ["login", "management"]
