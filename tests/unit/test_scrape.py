"""Counters come from servers that behave, and no other server holds anybody up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest
from loopback_http import Quiet, listening

from arbiter.counters import Counters, window
from arbiter.demo.server import Options, Server
from arbiter.scrape import MOST_BYTES, HttpCounters

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PAGE = b"""vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:generation_tokens_total{engine="0"} 100.0
"""
TOLD = Counters(NOW, 3, 2, 100)
GENEROUS_S = 60.0
"""What a loaded machine may take over a read that is cut after less than a second."""

Answer = Callable[[BaseHTTPRequestHandler], None]


def plain(body: bytes, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    class Handler(Quiet):
        def do_GET(self) -> None:
            answer(self)

    class Forgiving(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: object) -> None:
            pass

    with listening(Forgiving(("127.0.0.1", 0), Handler)) as url:
        yield url


def read(url: str, within_s: float = 20.0) -> Counters | None:
    return HttpCounters("the-key", within_s).read({"c": url}, NOW).get("c")


def test_a_page_is_read_with_the_key_and_below_a_prefix() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append((handler.path, handler.headers.get("Authorization")))
        plain(PAGE)(handler)

    with server(answer) as url:
        assert read(url) == TOLD
        assert read(f"{url}/replica/") == TOLD
    assert asked == [("/metrics", "Bearer the-key"), ("/replica/metrics", "Bearer the-key")]


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.end_headers()


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"", 404),
        plain(PAGE, 500),
        plain(b"\xff\xfe\x00 rubbish"),
        plain(PAGE + b"# " + b"x" * MOST_BYTES),
        redirect,
        lambda handler: handler.wfile.write(b"not HTTP\r\n\r\n"),
        lambda handler: None,
    ],
    ids=["none", "failing", "rubbish", "huge", "redirect", "no HTTP", "closes"],
)
def test_a_server_that_misbehaves_tells_nothing(answer: Answer) -> None:
    with server(answer) as url:
        assert read(url) is None


def test_a_server_that_is_not_there_tells_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert read(f"http://127.0.0.1:{port}") is None
    assert HttpCounters("k").read({}, NOW) == {}


def drips(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever: no single read of it takes long."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"#")
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        return


def drips_headers(handler: BaseHTTPRequestHandler) -> None:
    try:
        while True:
            handler.wfile.write(b"H")
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        return


@pytest.mark.parametrize("slow", [drips, drips_headers])
def test_a_server_that_drips_is_cut_and_the_others_are_read(slow: Answer) -> None:
    began = time.monotonic()
    with server(slow) as bad, server(plain(PAGE)) as good:
        source = HttpCounters("k", 1.0)
        told = source.read({"bad": bad, "good": good, "bad too": bad}, NOW)
        assert "bad" not in told
        assert "bad too" not in told
    assert time.monotonic() - began < GENEROUS_S
    if "good" in told:  # a loaded machine may take more than the second that it is given
        assert told["good"] == TOLD


def test_a_server_of_the_demo_under_more_than_it_can_do_is_seen_to_be_saturated() -> None:
    options = Options(model="tiny", tokens_per_second=5.0, max_num_seqs=2)
    with Server(options, "the-key") as running:
        running.server_activate()
        serving = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{running.server_port}"
        assert read(url) == Counters(NOW, 0, 0, 0, 0, 0.0)
        clients = [threading.Thread(target=chat, args=(url,), daemon=True) for _ in range(12)]
        for client in clients:
            client.start()
        before = wait_for(url, is_full)
        made = before.generation_tokens
        after = wait_for(url, lambda one: is_full(one) and one.generation_tokens > made)
        running.abort.set()
        for client in clients:
            client.join(GENEROUS_S)
        running.shutdown()
        serving.join(GENEROUS_S)
    past = window(before, replace(after, at=NOW + timedelta(seconds=1)), 2)
    assert past is not None
    assert past.saturated
    assert past.tokens > 0


def is_full(one: Counters) -> bool:
    return one.running == 2 and one.waiting > 0


def chat(url: str) -> None:
    question = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 2000,
    }
    headers = {"Authorization": "Bearer the-key", "Content-Type": "application/json"}
    request = Request(f"{url}/v1/chat/completions", json.dumps(question).encode(), headers)
    with suppress(OSError), urlopen(request, timeout=GENEROUS_S) as answer:
        answer.read()


def wait_for(url: str, holds: Callable[[Counters], bool]) -> Counters:
    until = time.monotonic() + GENEROUS_S
    while time.monotonic() < until:
        found = read(url)
        if found is not None and holds(found):
            return found
        time.sleep(0.01)
    raise AssertionError("the server never said so")
