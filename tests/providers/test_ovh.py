"""OVHcloud: the public catalogue, and three ways to know which region has which machine."""

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
from arbiter.errors import BadAnswer, Unreachable
from arbiter.money import Price
from arbiter.provider import Fetched, Page, Parsed, Provider, ProviderSettings
from arbiter.testing import FakeClock, ProviderContract
from arbiter_providers._regions import european_regions
from arbiter_providers.ovh import Ovh

NOW = datetime(2026, 11, 10, tzinfo=UTC)
SECRET, TOKEN = "not-a-real-secret", "not-a-real-token"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVH_CLIENT_ID", "OVH_CLIENT_SECRET", "OVH_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVH_CLIENT_ID", "client")
    monkeypatch.setenv("OVH_CLIENT_SECRET", SECRET)


def recorded(name: str) -> bytes:
    return (RECORDINGS / "ovh" / f"{name}.json").read_bytes()


def pages(*feeds: str) -> Fetched:
    return Fetched(tuple(Page(feed, "", recorded(feed)) for feed in ("catalog", *feeds)))


class TestContract(ProviderContract):
    now = NOW

    def provider(self, settings: ProviderSettings) -> Provider:
        return Ovh(settings)

    def recording(self) -> Fetched:
        return pages("flavors")


class TestContractOfRules(TestContract):
    def recording(self) -> Fetched:
        return pages("availability-rules")


def parse(fetched: Fetched, *regions: str) -> Parsed:
    return Ovh(ProviderSettings(regions=regions)).parse(fetched, NOW)


def sold(parsed: Parsed) -> dict[tuple[str, str], tuple[str, int, Price]]:
    return {
        (one.region, one.instance_type): (one.gpu, one.gpu_count, one.price)
        for one in parsed.offers
    }


def catalog(*changes: dict[str, Any]) -> Fetched:
    """The first plan of the catalogue, once for each set of changes, without any regions."""
    body = json.loads(recorded("catalog"))
    first = body["addons"][0]
    named = [first | {"planCode": f"p{n}-1.consumption"} for n in range(len(changes))]
    body["addons"] = [one | change for one, change in zip(named, changes, strict=True)]
    return Fetched((Page("catalog", "", json.dumps(body).encode()),))


def test_prices_are_hundred_millionths_of_a_euro_in_the_regions_of_the_project() -> None:
    assert sold(parse(pages("flavors"))) == {
        ("GRA9", "h100-380"): ("H100", 1, Price.of("2.80", "EUR")),
        ("GRA11", "h100-380"): ("H100", 1, Price.of("2.80", "EUR")),
        ("GRA11", "l40s-90"): ("L40S", 1, Price.of("1.40", "EUR")),
        ("EU-WEST-PAR", "l40s-90"): ("L40S", 1, Price.of("1.54", "EUR")),
        ("XX9", "a100-180"): ("A100-80GB", 1, Price.of("2.75", "EUR")),
    }


def test_a_flavor_that_the_project_may_not_have_keeps_its_price_and_says_so() -> None:
    parsed = parse(pages("flavors"))
    assert {(s.region, s.instance_type): s.text for s in parsed.signals} == {
        ("GRA9", "h100-380"): "available",
        ("GRA11", "h100-380"): "not available",
        ("GRA11", "l40s-90"): "available",
        ("EU-WEST-PAR", "l40s-90"): "available",
        ("XX9", "a100-180"): "available",
    }
    assert parsed.signal_kinds == {"stock"}


def test_the_order_rules_tell_the_regions_and_nothing_of_stock() -> None:
    parsed = parse(pages("availability-rules"))
    assert set(sold(parsed)) == {
        ("GRA9", "h100-380"),
        ("GRA11", "h100-380"),
        ("EU-WEST-PAR", "l40s-90"),
    }
    assert (parsed.signals, parsed.signal_kinds) == ([], frozenset())
    assert parsed.covered == {(one, Purchase.ON_DEMAND) for one in european_regions("ovh")}


def test_without_a_list_of_regions_those_known_to_have_gpus_show_the_list_prices() -> None:
    parsed = parse(pages())
    places = {region for region, _ in sold(parsed)}
    assert "GRA11" in places
    assert "WAW1" not in places
    assert parsed.covered == {(one, Purchase.ON_DEMAND) for one in places}
    assert {name for _, name in sold(parsed)} == {
        "h100-380", "h100-760", "l40s-90", "a100-180", "t2-45", "rtx5000-28",
    }  # fmt: skip
    assert sold(parsed)["GRA11", "l40s-90"][2] == Price.of("1.40", "EUR")
    assert sold(parsed)["GRA11", "t2-45"][:2] == ("V100-32GB", 1)
    assert sold(parsed)["GRA11", "rtx5000-28"][:2] == ("Quadro RTX5000", 1)


def test_a_region_in_the_settings_is_taken_at_its_word() -> None:
    assert {region for region, _ in sold(parse(pages(), "BHS5"))} == {"BHS5"}
    assert {region for region, _ in sold(parse(pages("flavors"), "BHS5"))} == {"BHS5"}


def test_what_is_no_linux_machine_by_the_hour_is_left_out_for_a_reason() -> None:
    assert Counter(skip.reason for skip in parse(pages()).skips) == {
        "not priced by the hour": 1,
        "Windows": 1,
        "no longer sold": 1,
        "not a GPU machine": 1,
        "not a machine": 1,
    }


def pricing(**changes: Any) -> dict[str, Any]:
    first = json.loads(recorded("catalog"))["addons"][0]["pricings"][0]
    return {"pricings": [first | changes]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pricing(price=0), "price is 0"),
        (pricing(price=2.8), "row of the wrong shape"),
        (pricing(price=28 * 10**15), "price is above"),
        (pricing(intervalUnit="month"), "plan without a price an hour"),
        (pricing(commitment=12), "plan without a price an hour"),
        ({"pricings": []}, "plan without a price an hour"),
        ({"pricings": None}, "plan without a price an hour"),
        ({"planCode": None}, "row of the wrong shape"),
        (
            {"blobs": {"technical": {"gpu": {"model": "H100", "number": 0}}}},
            "GPU machine that does not tell its GPU",
        ),
    ],
)
def test_a_malformed_plan_is_counted_and_harms_no_other(
    change: dict[str, Any], reason: str
) -> None:
    parsed = parse(catalog(change, {}))
    assert {name for _, name in sold(parsed)} == {"p1-1"}
    (wrong,) = (skip for skip in parsed.skips if skip.malformed)
    assert wrong.reason.startswith(reason)


def test_of_two_prices_the_first_phase_s_counts() -> None:
    one = pricing()["pricings"][0]
    both = {"pricings": [one | {"phase": 1, "price": 100000000}, one]}
    assert sold(parse(catalog(both)))["GRA11", "p0-1"][2] == Price.of("2.80", "EUR")


@pytest.mark.parametrize("currency", ["", "euro", "€"])
def test_a_currency_that_is_none_is_a_bad_answer(currency: str) -> None:
    body = json.loads(recorded("catalog")) | {"locale": {"currencyCode": currency}}
    with pytest.raises(BadAnswer, match="ovh: the catalogue is in the currency"):
        parse(Fetched((Page("catalog", "", json.dumps(body).encode()),)))


def test_another_subsidiary_has_another_currency() -> None:
    body = json.loads(recorded("catalog")) | {"locale": {"currencyCode": "PLN"}}
    parsed = parse(Fetched((Page("catalog", "", json.dumps(body).encode()),)))
    assert {one.price.currency for one in parsed.offers} == {"PLN"}


def test_the_recorded_catalogue(shared_recordings: Path) -> None:
    files = sorted((shared_recordings / "ovh").glob("*order_catalog_public_cloud*"))
    parsed = parse(Fetched((Page("catalog", "", files[0].read_bytes()),)), "GRA9")
    assert sold(parsed) == {("GRA9", "h100-760"): ("H100", 2, Price.of("5.60", "EUR"))}


# --- asking ---------------------------------------------------------------------------------


def fetch(server: LoopbackServer, **options: str) -> Fetched:
    settings = ProviderSettings(endpoint=server.url, timeout_s=5.0, max_attempts=1, options=options)
    return Ovh(settings, clock=FakeClock()).fetch(lambda _: None)


def as_ovh(**answers: Answer) -> Callable[[Request], Answer]:
    """The API: a customer's part for those with the token, the rules for everybody."""

    def answer(request: Request) -> Answer:
        path = request.path.removeprefix("/1.0")
        known = request.headers.get("authorization") == f"Bearer {TOKEN}"
        if path == "/order/catalog/public/cloud":
            return answers.get("catalog") or Answer(recorded("catalog"))
        if path == "/cloud/order/rule/availability":
            return answers.get("rules") or Answer(recorded("availability-rules"))
        if path == "/auth/oauth2/token" and f"client_secret={SECRET}" in request.body:
            return answers.get("token") or as_json({"access_token": TOKEN, "expires_in": 3599})
        if path == "/cloud/project" and known:
            return as_json(["p1", "p2"])
        if path.startswith("/cloud/project/") and known:
            return answers.get("flavors") or Answer(recorded("flavors"))
        return Answer(status=401)

    return answer


def paths(server: LoopbackServer) -> list[str]:
    return [request.path for request in server.requests]


def test_without_an_account_the_rules_tell_the_regions(server: LoopbackServer) -> None:
    server.answer = as_ovh()
    assert fetch(server) == pages("availability-rules")
    assert paths(server) == [
        "/1.0/order/catalog/public/cloud",
        "/1.0/cloud/order/rule/availability",
    ]
    assert server.requests[0].query == {"ovhSubsidiary": "FR"}


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_where_the_rules_are_not_told_the_list_prices_come_alone(
    server: LoopbackServer, status: int
) -> None:
    server.answer = as_ovh(rules=Answer(status=status))
    fetched = fetch(server)
    assert fetched.pages == pages().pages
    (note,) = fetched.degraded
    assert note.startswith("which region has which machine is not known: prices for GRA7, ")


def test_with_an_account_its_project_tells_the_regions(
    server: LoopbackServer, account: None
) -> None:
    server.answer = as_ovh()
    assert fetch(server) == pages("flavors")
    assert paths(server)[1:] == [
        "/auth/oauth2/token",
        "/1.0/cloud/project",
        "/1.0/cloud/project/p1/flavor",
    ]


def test_the_project_may_be_named(
    server: LoopbackServer, account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVH_PROJECT_ID", "p2")
    server.answer = as_ovh()
    fetch(server)
    assert paths(server)[-1] == "/1.0/cloud/project/p2/flavor"


@pytest.mark.parametrize(
    "broken",
    [
        {"token": Answer(status=401)},
        {"token": as_json({"error": "x"})},
        {"token": as_json({"access_token": "two\nlines"})},
        {"flavors": Answer(status=401)},
        {"flavors": Answer(b"<html>")},
    ],
)
def test_an_account_that_fails_is_said_and_the_rules_step_in(
    server: LoopbackServer, account: None, broken: dict[str, Answer]
) -> None:
    server.answer = as_ovh(**broken)
    fetched = fetch(server)
    assert fetched.pages == pages("availability-rules").pages
    (note,) = fetched.degraded
    assert note.startswith("regions: ovh: ")
    assert SECRET not in note
    assert TOKEN not in note


def test_another_price_list_may_be_named(server: LoopbackServer) -> None:
    server.answer = as_ovh()
    fetch(server, subsidiary="PL")
    assert server.requests[0].query == {"ovhSubsidiary": "PL"}


def test_an_endpoint_with_the_version_is_used_as_it_is(server: LoopbackServer) -> None:
    server.answer = as_ovh()
    settings = ProviderSettings(endpoint=f"{server.url}/1.0/", max_attempts=1)
    assert Ovh(settings).fetch(lambda _: None) == pages("availability-rules")


def test_without_the_catalogue_there_is_nothing(server: LoopbackServer) -> None:
    server.answer = as_ovh(catalog=Answer(b"<html>maintenance</html>"))
    with pytest.raises(BadAnswer, match="ovh: the catalogue is not JSON"):
        fetch(server)
    server.answer = as_ovh(catalog=Answer(status=502))
    with pytest.raises(Unreachable, match="answered 502"):
        fetch(server)
