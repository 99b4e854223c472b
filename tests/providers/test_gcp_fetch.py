"""GCP: what is asked, in which order, and what is said when it does not come."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, LoopbackServer, Request, as_json
from stand_in_gcp import PROJECT, SKUS, StandInGcp, in_turn, no_account, recorded, refusal

from arbiter.domain import Purchase
from arbiter.errors import (
    BadAnswer,
    BadCredentials,
    MissingCredentials,
    ProviderError,
    RateLimited,
    SettingsError,
    Unreachable,
)
from arbiter.provider import Fetched, HistoryProvider, Parsed, ProviderSettings
from arbiter.testing import NOWHERE, FakeClock
from arbiter_providers.gcp import Gcp

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SECRET = "AIza-not-a-real-key"
HISTORY, CAPACITY = "/advice/capacityHistory", "/advice/capacity"
MACHINES, GPUS = "/aggregated/machineTypes", "/aggregated/acceleratorTypes"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_account(monkeypatch, tmp_path)


@pytest.fixture
def gcp(server: LoopbackServer) -> StandInGcp:
    return StandInGcp(server)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an access token and a project."""
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", SECRET)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "example-project")


def provider(gcp: StandInGcp, *regions: str, clock: FakeClock | None = None, **more: Any) -> Gcp:
    settings = ProviderSettings(
        endpoint=gcp.server.url, regions=regions or ("europe-west4",), timeout_s=5.0, **more
    )
    return Gcp(settings, clock=clock or FakeClock(NOW))


def fetch(gcp: StandInGcp, *regions: str, **more: Any) -> Fetched:
    return provider(gcp, *regions, **more).fetch(lambda _: None)


def parse(fetched: Fetched) -> Parsed:
    return Gcp(ProviderSettings(regions=("europe-west4",))).parse(fetched, NOW)


# --- the price list ---------------------------------------------------------------------------


def test_all_pages_of_the_price_list_are_asked(gcp: StandInGcp) -> None:
    fetched = fetch(gcp)
    assert [page.body for page in fetched.pages] == [recorded("skus-1"), recorded("skus-2")]
    assert fetched.degraded == ()
    first, second = gcp.asked(SKUS)
    assert first.query == {"pageSize": "5000", "currencyCode": "USD"}
    assert second.query == {**first.query, "pageToken": "NTAwMA=="}
    assert ("europe-west4", Purchase.SPOT) in parse(fetched).covered


def test_progress_is_told(gcp: StandInGcp) -> None:
    notes: list[str] = []
    provider(gcp).fetch(notes.append)
    assert notes == ["price list, page 1", "price list, page 2"]


def test_without_key_and_credentials_google_is_not_asked() -> None:
    with pytest.raises(MissingCredentials, match=r"gcp: no API key .*GCP_API_KEY"):
        Gcp(ProviderSettings()).fetch(lambda _: None)


def test_the_key_travels_in_a_header_and_is_never_shown(
    gcp: StandInGcp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GCP_API_KEY", SECRET)
    with caplog.at_level(logging.DEBUG):
        fetched = fetch(gcp)
    assert {request.headers["x-goog-api-key"] for request in gcp.server.requests} == {SECRET}
    assert not any("key" in request.query for request in gcp.server.requests)
    assert SECRET not in caplog.text
    assert SECRET not in str(fetched)
    gcp.reply(SKUS, refusal(403, "CONSUMER_SUSPENDED", f"Consumer 'api_key:{SECRET}' is suspended"))
    with pytest.raises(ProviderError) as caught:
        fetch(gcp)
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


def test_the_variable_of_the_key_can_be_named(
    gcp: StandInGcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_GOOGLE_KEY", SECRET)
    fetch(gcp, options={"api_key_env": "OUR_GOOGLE_KEY"})
    assert gcp.asked(SKUS)[0].headers["x-goog-api-key"] == SECRET


@pytest.mark.parametrize("body", [b"{}", b'{"skus": [], "nextPageToken": ""}'])
def test_an_empty_list_is_no_answer(gcp: StandInGcp, body: bytes) -> None:
    gcp.reply(SKUS, body)
    with pytest.raises(BadAnswer, match="gcp: the price list is empty"):
        fetch(gcp)


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b"[]", b'{"skus": 4}'])
def test_what_is_no_list_is_a_bad_answer(gcp: StandInGcp, body: bytes) -> None:
    gcp.reply(SKUS, body)
    with pytest.raises(BadAnswer, match="gcp: a page of the price list"):
        fetch(gcp)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (refusal(400, "API_KEY_INVALID", "API key expired."), "API_KEY_INVALID"),
        (Answer(b"<html>sign in</html>"), "not JSON"),
        (Answer(status=403), "403"),
        (Answer(status=503), "503"),
    ],
)
def test_a_list_that_breaks_off_is_used_and_covers_nothing(
    gcp: StandInGcp, second: Answer, reason: str
) -> None:
    gcp.reply(SKUS, in_turn(Answer(recorded("skus-1")), second))
    fetched = fetch(gcp, max_attempts=2)
    assert len(fetched.pages) == 1
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("the price list broke off: ")
    assert reason in fetched.degraded[0]
    parsed = parse(fetched)
    assert parsed.offers
    assert parsed.covered == frozenset()


def test_pages_in_a_circle_end(gcp: StandInGcp) -> None:
    gcp.reply(SKUS, recorded("skus-1"))  # it names the same next page for ever
    fetched = fetch(gcp)
    assert len(gcp.asked(SKUS)) == 2
    assert fetched.degraded == ("the price list broke off: gcp: the pages of a list do not end",)
    assert parse(fetched).covered == frozenset()


def test_pages_without_end_are_cut_off(gcp: StandInGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbiter_providers.gcp_api.MOST_PAGES", 5)
    body = json.loads(recorded("skus-2"))

    def endless(_: Request) -> Answer:
        return as_json({**body, "nextPageToken": str(len(gcp.server.requests))})

    gcp.reply(SKUS, endless)
    assert len(fetch(gcp).pages) == 5


# --- refusals ---------------------------------------------------------------------------------


def test_a_rate_limit_is_waited_for(gcp: StandInGcp) -> None:
    limited = Answer(status=429, headers={"Retry-After": "7"})
    gcp.reply(SKUS, in_turn(limited, Answer(recorded("skus-2"))))
    clock = FakeClock(NOW)
    assert fetch(gcp, clock=clock).pages
    assert clock.slept == [7.0]


@pytest.mark.parametrize(
    "limited",
    [
        refusal(403, "rateLimitExceeded"),
        refusal(403, "RATE_LIMIT_EXCEEDED"),
        as_json({"error": {"code": 403, "errors": [{"reason": "userRateLimitExceeded"}]}}, 403),
        as_json({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, 429),
    ],
)
def test_a_rate_limit_may_come_as_403(
    gcp: StandInGcp, limited: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCP_API_KEY", SECRET)
    gcp.reply(SKUS, in_turn(limited, Answer(recorded("skus-2"))))
    clock = FakeClock(NOW)
    assert fetch(gcp, clock=clock).pages
    assert len(clock.slept) == 1
    gcp.reply(SKUS, limited)
    with pytest.raises(RateLimited, match=r"answered 4.. .*\((?i:.*exceeded|.*exhausted)\)"):
        fetch(gcp, max_attempts=2)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (refusal(400, "API_KEY_INVALID"), "check the API key"),
        (refusal(403, "API_KEY_SERVICE_BLOCKED"), "check the API key"),
        (refusal(403, "SERVICE_DISABLED"), "enable the API"),
        (Answer(status=403), "check GCP_API_KEY"),
        (Answer(b"<html>", 401), "check GCP_API_KEY"),
    ],
)
def test_a_key_that_is_refused_is_said_at_once(
    gcp: StandInGcp, answer: Answer, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCP_API_KEY", SECRET)
    gcp.reply(SKUS, answer)
    with pytest.raises(BadCredentials, match=hint):
        fetch(gcp)
    assert len(gcp.server.requests) == 1


def test_a_dead_endpoint_is_not_waited_for_long() -> None:
    clock = FakeClock(NOW)
    with pytest.raises(Unreachable, match=r"gcp: .*cannot be reached"):
        Gcp(ProviderSettings(endpoint=NOWHERE), clock=clock).fetch(lambda _: None)
    assert sum(clock.slept) < 10


# --- machine types ----------------------------------------------------------------------------


@pytest.mark.usefixtures("token")
def test_with_credentials_the_project_is_asked_too(gcp: StandInGcp) -> None:
    fetched = fetch(gcp)
    assert fetched.degraded == ()
    assert {request.headers["authorization"] for request in gcp.server.requests} == {
        f"Bearer {SECRET}"
    }
    (asked,) = gcp.asked(MACHINES)
    assert asked.path == f"{PROJECT}{MACHINES}"
    assert asked.query["filter"] == 'name eq "[ag][0-9]+[a-z]*-.*"'
    types = {one.instance_type for one in parse(fetched).offers}
    assert "g2-standard-48" in types
    assert "g2-standard-96" not in types  # the project does not list it


@pytest.mark.usefixtures("token")
def test_the_lists_are_asked_once_an_hour_and_kept(gcp: StandInGcp) -> None:
    clock = FakeClock(NOW)
    asking = provider(gcp, clock=clock)
    first = asking.fetch(lambda _: None)
    clock.advance(300)
    second = asking.fetch(lambda _: None)
    assert len(gcp.asked(MACHINES)) == 1
    assert parse(first).offers == parse(second).offers
    clock.advance(3600)
    asking.fetch(lambda _: None)
    assert len(gcp.asked(MACHINES)) == 2


PARTIAL = {**json.loads(recorded("machine-types")), "unreachables": ["zones/europe-west4-c"]}


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("ending", [MACHINES, GPUS])
@pytest.mark.parametrize(
    "answer", [refusal(403, "SERVICE_DISABLED"), Answer(b"<html>"), as_json(PARTIAL)]
)
def test_lists_that_do_not_come_whole_leave_the_table(
    gcp: StandInGcp, ending: str, answer: Answer
) -> None:
    gcp.reply(ending, answer)
    fetched = fetch(gcp, options={"signals": False})
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("machine types by an older list or table: gcp: ")
    parsed = parse(fetched)
    assert "g2-standard-96" in {one.instance_type for one in parsed.offers}
    assert parsed.covered


@pytest.mark.usefixtures("token")
def test_lists_that_came_before_stay_in_use(gcp: StandInGcp) -> None:
    clock = FakeClock(NOW)
    asking = provider(gcp, clock=clock, options={"signals": False})
    asking.fetch(lambda _: None)
    gcp.reply(MACHINES, Answer(b"<html>"))
    clock.advance(3600)
    fetched = asking.fetch(lambda _: None)
    assert "older list" in fetched.degraded[0]
    parsed = parse(fetched)
    assert "g2-standard-96" not in {one.instance_type for one in parsed.offers}
    assert parsed.covered


def test_credentials_without_a_project_open_the_price_list_alone(
    gcp: StandInGcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", SECRET)
    fetched = fetch(gcp)
    assert fetched.degraded == ("machine types and signals: no project; set options.project",)
    assert parse(fetched).offers
    assert fetch(gcp, options={"project": "example-project"}).degraded == ()


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("token")
def test_signals_of_every_machine_in_every_region(gcp: StandInGcp) -> None:
    parsed = parse(fetch(gcp))
    asked = [one["instanceProperties"]["machineType"] for one in gcp.questions(HISTORY)]
    assert sorted(asked) == [
        "a2-highgpu-1g",
        "a2-ultragpu-1g",
        "a3-highgpu-8g",
        "g2-standard-4",
        "g2-standard-48",
    ]
    assert {request.path for request in gcp.asked(CAPACITY)} == {
        f"{PROJECT}/regions/europe-west4/advice/capacity"
    }
    zones = {
        one["instanceFlexibilityPolicy"]["instanceSelections"]["any"]["machineTypes"][0]: one[
            "distributionPolicy"
        ]["zones"]
        for one in gcp.questions(CAPACITY)
    }
    assert zones["a3-highgpu-8g"] == [{"zone": "zones/europe-west4-b"}]
    kinds = {"preemption_rate", "obtainability", "estimated_uptime"}
    assert parsed.signal_kinds == kinds
    assert {signal.kind for signal in parsed.signals} == kinds
    assert len(parsed.signals) == 3 * len(asked)


@pytest.mark.usefixtures("token")
def test_signals_have_a_pace_of_their_own(gcp: StandInGcp) -> None:
    clock = FakeClock(NOW)
    asking = provider(gcp, clock=clock, options={"signals_every_s": "7200"})
    asking.fetch(lambda _: None)
    once = len(gcp.asked(HISTORY))
    clock.advance(3600)
    later = asking.fetch(lambda _: None)
    assert len(gcp.asked(HISTORY)) == once
    assert parse(later).signal_kinds == frozenset()
    clock.advance(3600)
    asking.fetch(lambda _: None)
    assert len(gcp.asked(HISTORY)) == 2 * once


@pytest.mark.usefixtures("token")
def test_signals_can_be_turned_off(gcp: StandInGcp) -> None:
    fetch(gcp, options={"signals": "false"})
    assert gcp.asked(HISTORY) == []


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "answer",
    [Answer(status=503), refusal(403, "rateLimitExceeded"), Answer(b"<html>"), Answer(b"[]")],
)
def test_signals_that_fail_are_said_and_harm_no_price(gcp: StandInGcp, answer: Answer) -> None:
    gcp.reply(HISTORY, answer)
    clock = FakeClock(NOW)
    asking = provider(gcp, clock=clock)
    fetched = asking.fetch(lambda _: None)
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("signals: gcp: ")
    parsed = parse(fetched)
    assert parsed.offers
    assert parsed.covered
    assert parsed.signal_kinds == {"obtainability", "estimated_uptime"}
    clock.advance(300)
    assert asking.fetch(lambda _: None).degraded == fetched.degraded  # known, and not asked again
    del gcp.replies[HISTORY]
    clock.advance(1800)
    assert asking.fetch(lambda _: None).degraded == ()


@pytest.mark.usefixtures("token")
def test_after_a_failure_the_rest_is_not_asked(gcp: StandInGcp) -> None:
    gcp.reply(HISTORY, Answer(status=401))
    fetch(gcp, "europe-west1", "europe-west4")
    assert len(gcp.asked(HISTORY)) <= 8  # those under way


@pytest.mark.usefixtures("token")
def test_a_machine_that_the_api_has_no_word_on_is_no_failure(gcp: StandInGcp) -> None:
    def picky(request: Request) -> Answer:
        unknown = "a3-highgpu-8g" in request.body
        return Answer(status=400) if unknown else Answer(recorded("capacity-history"))

    gcp.reply(HISTORY, picky)
    fetched = fetch(gcp)
    assert fetched.degraded == ()
    parsed = parse(fetched)
    assert "preemption_rate" in parsed.signal_kinds
    rated = {one.instance_type for one in parsed.signals if one.kind == "preemption_rate"}
    assert "g2-standard-4" in rated
    assert "a3-highgpu-8g" not in rated


@pytest.mark.usefixtures("token")
def test_where_v1_does_not_know_the_question_beta_is_asked(gcp: StandInGcp) -> None:
    def only_beta(request: Request) -> Answer:
        known = "/compute/beta/" in request.path
        return Answer(recorded("capacity-history")) if known else Answer(status=404)

    gcp.reply(HISTORY, only_beta)
    fetched = fetch(gcp)
    assert fetched.degraded == ()
    assert "preemption_rate" in parse(fetched).signal_kinds


@pytest.mark.usefixtures("token")
def test_no_word_on_any_machine_is_a_failure(gcp: StandInGcp) -> None:
    gcp.reply(HISTORY, Answer(status=404))
    fetched = fetch(gcp)
    assert len(fetched.degraded) == 1
    assert "404" in fetched.degraded[0]


@pytest.mark.parametrize("every", ["soon", 0, -5, "NaN", None, []])
def test_a_pace_that_is_no_time_is_a_mistake_in_the_settings(every: object) -> None:
    with pytest.raises(SettingsError, match="signals_every_s is"):
        Gcp(ProviderSettings(options={"signals_every_s": every}))


# --- past prices ------------------------------------------------------------------------------

SINCE, UNTIL = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)


def test_gcp_tells_its_past() -> None:
    assert isinstance(Gcp(ProviderSettings()), HistoryProvider)


@pytest.mark.usefixtures("token")
def test_past_prices_of_every_machine_in_every_region(gcp: StandInGcp) -> None:
    asking = provider(gcp, "europe-west1", "europe-west4")
    fetched = asking.fetch_history(SINCE, UNTIL, lambda _: None)
    assert fetched.degraded == ()
    questions = gcp.questions(HISTORY)
    assert {tuple(one["types"]) for one in questions} == {("PRICE",)}
    assert not any("locationPolicy" in one for one in questions)
    parsed = asking.parse_history(fetched, NOW)
    places = {(one.offer.region, one.offer.instance_type) for one in parsed.prices}
    assert ("europe-west1", "g4-standard-48") in places
    assert ("europe-west4", "a3-highgpu-8g") in places
    assert len(places) == len(questions) == 8
    spans = [
        (one.valid_from.month, one.valid_to and one.valid_to.month)
        for one in parsed.prices
        if (one.offer.region, one.offer.instance_type) == ("europe-west4", "g2-standard-4")
    ]
    assert spans == [(6, None), (8, 9), (9, 10)]  # from the price that stood on 1 July on


@pytest.mark.usefixtures("token")
def test_past_prices_that_break_off_are_said(gcp: StandInGcp) -> None:
    def sooner_or_later(request: Request) -> Answer:
        bad = "a3-highgpu-8g" in request.body
        return Answer(status=403) if bad else Answer(recorded("capacity-history"))

    gcp.reply(HISTORY, sooner_or_later)
    fetched = provider(gcp).fetch_history(SINCE, UNTIL, lambda _: None)
    assert len(fetched.degraded) == 1
    assert fetched.degraded[0].startswith("past prices broke off: ")


@pytest.mark.usefixtures("token")
def test_past_prices_that_do_not_come_are_an_error(gcp: StandInGcp) -> None:
    gcp.reply(HISTORY, Answer(status=403))
    with pytest.raises(BadCredentials, match="GOOGLE_OAUTH_ACCESS_TOKEN"):
        provider(gcp).fetch_history(SINCE, UNTIL, lambda _: None)


@pytest.mark.usefixtures("token")
def test_past_prices_go_by_the_table_where_the_lists_do_not_come(gcp: StandInGcp) -> None:
    gcp.reply(MACHINES, Answer(status=403))
    fetched = provider(gcp).fetch_history(SINCE, UNTIL, lambda _: None)
    assert "by the built-in table" in fetched.degraded[0]
    parsed = Gcp(ProviderSettings()).parse_history(fetched, NOW)
    assert "g2-standard-96" in {one.offer.instance_type for one in parsed.prices}


def test_past_prices_need_credentials_and_a_project(
    gcp: StandInGcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCP_API_KEY", SECRET)
    with pytest.raises(MissingCredentials, match="past prices need credentials"):
        Gcp(ProviderSettings()).fetch_history(SINCE, UNTIL, lambda _: None)
    with pytest.raises(MissingCredentials, match=r"options\.project"):
        provider(gcp).fetch_history(SINCE, UNTIL, lambda _: None)
