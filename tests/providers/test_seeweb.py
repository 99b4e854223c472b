"""Seeweb: plans per region, what can be activated, and a token that is missing or refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request, as_json

from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, BadCredentials, MissingCredentials, ProviderError
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers.seeweb import Seeweb

NOW = datetime(2026, 11, 10, tzinfo=UTC)
TOKEN = "not-a-real-token"
EVERYWHERE = {"it-fr2", "it-mi2", "bg-sof1", "ch-lug1"}


def recorded(name: str) -> bytes:
    return (RECORDINGS / "seeweb" / f"{name}.json").read_bytes()


def recording() -> Fetched:
    return Fetched(tuple(Page(name, "", recorded(name)) for name in ("plans", "plans-availables")))


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEWEB_API_KEY", TOKEN)


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Seeweb(settings)

    def recording(self) -> Fetched:
        return recording()


def parse(fetched: Fetched, *regions: str) -> Parsed:
    return Seeweb(ProviderSettings(regions=regions)).parse(fetched, NOW)


def plans(*changes: dict[str, Any]) -> Fetched:
    """The first plan of the recording, once for each set of changes."""
    first = json.loads(recorded("plans"))["plans"][0]
    rows = [first | {"name": f"P{n}"} | change for n, change in enumerate(changes)]
    body = json.dumps({"status": "ok", "plans": rows}).encode()
    return Fetched((Page("plans", "", body),))


def sold(parsed: Parsed) -> dict[tuple[str, str], tuple[str, int, Price]]:
    return {
        (one.region, one.instance_type): (one.gpu, one.gpu_count, one.price)
        for one in parsed.offers
    }


def test_a_plan_is_an_offer_in_each_of_its_regions() -> None:
    parsed = parse(recording())
    assert sold(parsed) == {
        ("it-fr2", "ECS1GPU7"): ("L40S", 1, Price.of("0.85", "EUR")),
        ("it-mi2", "ECS1GPU7"): ("L40S", 1, Price.of("0.85", "EUR")),
        ("it-fr2", "ECS2GPU3"): ("A100-80GB", 2, Price.of("1.98", "EUR")),
        ("it-fr2", "ECS4GPU10"): ("H200", 4, Price.of("10.4", "EUR")),
        ("ch-lug1", "ECS4GPU10"): ("H200", 4, Price.of("10.4", "EUR")),
        ("it-fr2", "ECS1GPU11"): ("A30", 1, Price.of("0.29", "EUR")),
        ("it-fr2", "ECS1GPU9"): ("MI300X", 1, Price.of("1.6", "EUR")),
    }
    assert parsed.covered == {(region, Purchase.ON_DEMAND) for region in EVERYWHERE}
    assert Counter(skip.reason for skip in parsed.skips) == {
        "not a GPU machine": 1,
        "sold in no region": 1,
        "no longer sold": 1,
    }


def test_stock_is_told_for_everything_that_is_sold() -> None:
    parsed = parse(recording())
    free = {(s.region, s.instance_type) for s in parsed.signals if s.text == "available"}
    gone = {(s.region, s.instance_type) for s in parsed.signals if s.text == "not available"}
    assert free == {("it-fr2", "ECS1GPU7"), ("it-fr2", "ECS1GPU9")}
    assert free | gone == set(sold(parsed))
    assert parsed.signal_kinds == {"stock"}


def test_a_stock_list_that_cannot_be_read_in_full_says_only_what_is_there() -> None:
    body = json.loads(recorded("plans-availables"))
    del body["plans"][0]["region_availables"]
    pages = (recording().pages[0], Page("plans-availables", "", json.dumps(body).encode()))
    parsed = parse(Fetched(pages))
    assert [(s.instance_type, s.text) for s in parsed.signals] == [("ECS1GPU9", "available")]
    assert parsed.signal_kinds == frozenset()
    assert [s.reason for s in parsed.skips if s.malformed] == ["plan without region_availables"]


def test_without_the_stock_list_nothing_is_said_of_stock() -> None:
    parsed = parse(Fetched(recording().pages[:1]))
    assert (len(parsed.offers), len(parsed.signals), parsed.signal_kinds) == (7, 0, frozenset())


def test_only_the_regions_that_were_asked_for() -> None:
    parsed = parse(recording(), "it-mi2")
    assert {region for region, _ in sold(parsed)} == {"it-mi2"}
    assert parsed.covered == {("it-mi2", Purchase.ON_DEMAND)}


def test_a_region_that_nobody_knows_is_kept_to_be_refused_in_the_open() -> None:
    parsed = parse(plans({"available_regions": [{"location": "xx-new1"}]}))
    assert {region for region, _ in sold(parsed)} == {"xx-new1"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hourly_price": 0}, "price is 0"),
        ({"hourly_price": "free"}, "row of the wrong shape"),
        ({"hourly_price": None}, "plan without hourly_price"),
        ({"gpu_label": ""}, "GPU plan that does not tell its GPU"),
        ({"gpu": "many"}, "number of GPUs is not a number"),
        ({"gpu": "-1"}, "number of GPUs is not a number"),
        ({"available_regions": None}, "plan without available_regions"),
        ({"available_regions": "it-fr2"}, "row of the wrong shape"),
        ({"name": None}, "row of the wrong shape"),
    ],
)
def test_a_malformed_plan_is_counted_and_harms_no_other(
    change: dict[str, Any], reason: str
) -> None:
    parsed = parse(plans(change, {}))
    assert {name for _, name in sold(parsed)} == {"P1"}
    (wrong,) = (skip for skip in parsed.skips if skip.malformed)
    assert wrong.reason.startswith(reason)


def test_an_answer_that_says_that_it_failed_is_no_answer() -> None:
    body = b'{"status": "error", "plans": []}'
    with pytest.raises(BadAnswer, match="with the status 'error'"):
        parse(Fetched((Page("plans", "", body),)))


def test_the_recorded_plans(shared_recordings: Path) -> None:
    body = (shared_recordings / "seeweb" / "plans.json").read_bytes()
    parsed = parse(Fetched((Page("plans", "", body),)))
    assert sold(parsed)["it-mi2", "ECS1GPU7"] == ("L40S", 1, Price.of("0.85", "EUR"))
    assert len(parsed.offers) == 4
    assert not [skip for skip in parsed.skips if skip.malformed]


# --- asking ---------------------------------------------------------------------------------


def fetch(server: LoopbackServer, **options: str) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, timeout_s=5.0, max_attempts=1, options=options)
    return Seeweb(settings, clock=FakeClock()).fetch(lambda _: None)


def as_seeweb(token: str = TOKEN) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        if request.headers.get("x-apitoken") != token:
            return as_json({"status": "error", "error": "unauthorized"}, 401)
        name = request.path.removeprefix("/ecs/v2/").replace("/", "-")
        return Answer(recorded(name))

    return answer


def test_both_lists_are_asked_for_with_the_token(server: LoopbackServer) -> None:
    server.answer = as_seeweb()
    fetched = fetch(server)
    assert fetched == recording()
    assert [request.path for request in server.requests] == [
        "/ecs/v2/plans",
        "/ecs/v2/plans/availables",
    ]


def test_another_variable_may_hold_the_token(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_SEEWEB", "another-token")
    server.answer = as_seeweb("another-token")
    assert len(fetch(server, api_key_env="OUR_SEEWEB").pages) == 2


def test_without_a_token_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEWEB_API_KEY")
    with pytest.raises(MissingCredentials, match="seeweb: SEEWEB_API_KEY is not set") as caught:
        Seeweb(ProviderSettings()).fetch(lambda _: None)
    assert caught.value.hint == "export SEEWEB_API_KEY=..."


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_not_shown(server: LoopbackServer, status: int) -> None:
    server.answer = lambda _: as_json({"error": TOKEN}, status)
    with pytest.raises(BadCredentials, match="check SEEWEB_API_KEY") as caught:
        fetch(server)
    assert TOKEN not in str(caught.value)


def test_a_token_that_expires_between_the_two_lists(server: LoopbackServer) -> None:
    def answer(request: Request) -> Answer:
        late = request.path.endswith("availables")
        return Answer(status=401) if late else as_seeweb()(request)

    server.answer = answer
    fetched = fetch(server)
    assert len(fetched.pages) == 1
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("stock: seeweb: ")
    assert TOKEN not in fetched.degraded[0]


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"", b'{"status": "ok"}', b"[]"])
def test_what_is_not_a_list_of_plans_is_an_error(server: LoopbackServer, body: bytes) -> None:
    server.answer = lambda _: Answer(body)
    with pytest.raises(BadAnswer):
        fetch(server)


def test_a_server_that_is_down_is_an_error(server: LoopbackServer) -> None:
    server.answer = lambda _: Answer(status=503)
    with pytest.raises(ProviderError, match="answered 503"):
        fetch(server)
