"""The HTTP client waits when asked, retries what may pass, and gives up in one clear line."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from loopback import Answer, LoopbackServer, Request

from arbiter.errors import (
    BadAnswer,
    BadCredentials,
    MissingCredentials,
    RateLimited,
    Unreachable,
)
from arbiter.provider import ProviderSettings
from arbiter.testing import NOWHERE, FakeClock
from arbiter_providers._http import Http, Rejected
from arbiter_providers._http_words import retry_after, shown

SETTINGS = ProviderSettings(timeout_s=5.0, max_attempts=4)


def client(clock: FakeClock, settings: ProviderSettings = SETTINGS, **more: object) -> Http:
    return Http("mycloud", settings, clock=clock, jitter=lambda: 1.0, **more)  # type: ignore[arg-type]


def in_turn(server: LoopbackServer, *answers: Answer) -> None:
    """The answers one after the other, the last for ever."""

    def answer(_: Request) -> Answer:
        return answers[min(len(server.requests), len(answers)) - 1]

    server.answer = answer


def test_a_body_comes_back_and_the_client_says_who_it_is(server: LoopbackServer) -> None:
    in_turn(server, Answer(b"hello"))
    with client(FakeClock()) as http:
        assert http.get(server.url + "/prices", {"$filter": "a eq 'b c'"}) == b"hello"
    request = server.requests[0]
    assert request.headers["user-agent"].startswith("arbiter/")
    assert request.query == {"$filter": "a eq 'b c'"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: LoopbackServer, status: int) -> None:
    in_turn(server, Answer(status=status), Answer(b"better"))
    clock = FakeClock()
    with client(clock) as http:
        assert http.get(server.url) == b"better"
    assert len(clock.slept) == 1


def test_waits_grow(server: LoopbackServer) -> None:
    in_turn(server, Answer(status=503))
    clock = FakeClock()
    with client(clock) as http, pytest.raises(Unreachable, match="answered 503"):
        http.get(server.url)
    assert clock.slept == [1.0, 2.0, 4.0]
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("Sun, 01 Nov 2026 00:00:20 GMT", 20.0)],
)
def test_a_wait_that_is_asked_for_is_kept_exactly(
    server: LoopbackServer, header: str, seconds: float
) -> None:
    in_turn(server, Answer(status=429, headers={"Retry-After": header}), Answer(b"ok"))
    clock = FakeClock(datetime(2026, 11, 1, tzinfo=UTC))
    with client(clock) as http:
        http.get(server.url)
    assert clock.slept == [seconds]


def test_a_long_wait_is_left_to_the_schedule(server: LoopbackServer) -> None:
    in_turn(server, Answer(status=429, headers={"Retry-After": "3600"}))
    clock = FakeClock()
    with client(clock) as http, pytest.raises(RateLimited) as caught:
        http.get(server.url)
    assert caught.value.retry_after == 3600
    assert clock.slept == []


def test_a_rate_limit_that_stays_is_reported_as_one(server: LoopbackServer) -> None:
    in_turn(server, Answer(status=429))
    with client(FakeClock()) as http, pytest.raises(RateLimited) as caught:
        http.get(server.url)
    assert caught.value.retry_after is None


def test_a_refused_connection_fails_soon_and_the_host_is_not_asked_again() -> None:
    clock = FakeClock()
    with client(clock) as http:
        with pytest.raises(Unreachable, match="cannot be reached") as caught:
            http.get(NOWHERE + "/prices?key=hush")
        assert sum(clock.slept) < 5
        waits = len(clock.slept)
        with pytest.raises(Unreachable):
            http.get(NOWHERE + "/other")
        assert len(clock.slept) == waits
    assert "mycloud" in str(caught.value)
    assert "127.0.0.1:9/prices" in str(caught.value)


def test_a_server_that_never_finishes_is_given_up(server: LoopbackServer) -> None:
    def slow(_: Request) -> Answer:
        time.sleep(0.4)
        return Answer(b"late")

    server.answer = slow
    hasty = ProviderSettings(timeout_s=0.1, max_attempts=2)
    with client(FakeClock(), hasty) as http, pytest.raises(Unreachable, match=r"within 0\.1 s"):
        http.get(server.url)
    time.sleep(0.5)  # the server's own threads end before it is closed


def test_a_body_that_breaks_off_is_tried_again(server: LoopbackServer) -> None:
    in_turn(server, Answer(b"half", headers={"Content-Length": "100"}), Answer(b"whole"))
    with client(FakeClock()) as http:
        assert http.get(server.url) == b"whole"


@pytest.mark.parametrize(
    ("status", "credentials", "error", "said"),
    [
        (401, None, MissingCredentials, "answered 401"),
        (401, "MY_KEY", BadCredentials, "check MY_KEY"),
        (403, "MY_KEY", BadCredentials, "check MY_KEY"),
        (403, None, Rejected, "answered 403"),
        (400, None, Rejected, "answered 400"),
        (404, "MY_KEY", Rejected, "answered 404"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(
    server: LoopbackServer, status: int, credentials: str | None, error: type, said: str
) -> None:
    in_turn(server, Answer(status=status))
    clock = FakeClock()
    with client(clock, credentials=credentials) as http, pytest.raises(error, match=said):
        http.get(server.url)
    assert len(server.requests) == 1
    assert clock.slept == []


def test_credentials_do_not_follow_a_redirect(server: LoopbackServer) -> None:
    server.answer = lambda request: (
        Answer(b"moved")
        if request.path == "/new"
        else Answer(status=302, headers={"Location": "/new"})
    )
    with client(FakeClock()) as http:
        assert http.get(server.url + "/old") == b"moved"
    keyed = client(FakeClock(), headers={"X-Key": "hush"}, credentials="MY_KEY")
    with keyed as http, pytest.raises(Rejected):
        http.get(server.url + "/old")


def test_no_secret_reaches_an_error(server: LoopbackServer) -> None:
    in_turn(server, Answer(status=400))
    with client(FakeClock()) as http, pytest.raises(Rejected) as caught:
        http.get(server.url.replace("://", "://user:hush@") + "/prices?key=hush#hush")
    assert "hush" not in str(caught.value)


def test_a_stream_gives_lines_and_its_etag(server: LoopbackServer) -> None:
    in_turn(server, Answer(b"a\nb\n", headers={"ETag": '"v1"'}))
    with client(FakeClock()) as http, http.stream(server.url, deadline_s=5) as answer:
        assert (answer.status, answer.etag, list(answer.lines)) == (200, '"v1"', ["a", "b"])


def test_a_stream_that_is_not_new_says_so(server: LoopbackServer) -> None:
    in_turn(server, Answer(status=304))
    with (
        client(FakeClock()) as http,
        http.stream(server.url, {"If-None-Match": '"v1"'}, deadline_s=5) as answer,
    ):
        assert answer.status == 304
    assert server.requests[0].headers["if-none-match"] == '"v1"'


def test_a_stream_that_breaks_off_is_unreachable(server: LoopbackServer) -> None:
    in_turn(server, Answer(b"a\nb\n", headers={"Content-Length": "100"}))
    with (
        client(FakeClock()) as http,
        http.stream(server.url, deadline_s=5) as answer,
        pytest.raises(Unreachable),
    ):
        list(answer.lines)


@pytest.mark.parametrize("url", ["prices.example", "ftp://prices.example"])
def test_an_endpoint_that_is_no_url_is_not_tried_again(url: str) -> None:
    clock = FakeClock()
    with client(clock) as http, pytest.raises(BadAnswer, match="correct providers"):
        http.get(url)
    assert clock.slept == []


def test_a_host_that_cannot_exist_is_unreachable() -> None:
    with client(FakeClock()) as http, pytest.raises(Unreachable):
        http.get("http://[oops")


@pytest.mark.parametrize("header", ["soon", "", "-5", "Sun, 99 Nov 2026", "\uff11"])
def test_an_unreadable_wait_is_none(header: str) -> None:
    assert retry_after(header, datetime(2026, 11, 1, tzinfo=UTC)) is None


def test_a_wait_until_the_past_is_no_wait() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    assert retry_after("Sat, 31 Oct 2026 00:00:00 GMT", now) == 0


def test_what_is_shown_of_a_url() -> None:
    assert shown("https://u:p@x.example:443/a/b?k=v#f") == "https://x.example:443/a/b"


def test_requests_keep_to_the_budget(server: LoopbackServer) -> None:
    in_turn(server, Answer(b"ok"), Answer(status=503), Answer(b"ok"))
    clock = FakeClock()
    with client(clock, ProviderSettings(requests_per_minute=20)) as http:
        http.get(server.url)
        http.get(server.url)
    assert clock.slept == [3.0, 1.0, 2.0], "the budget, the wait of the 503, the budget's rest"


def test_a_server_that_is_away_for_long_is_left_to_the_schedule_too(
    server: LoopbackServer,
) -> None:
    in_turn(server, Answer(status=503, headers={"Retry-After": "900"}))
    clock = FakeClock()
    with client(clock) as http, pytest.raises(RateLimited) as limited:
        http.get(server.url)
    assert (limited.value.retry_after, clock.slept) == (900.0, [])
