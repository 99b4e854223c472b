"""Counters come from servers that behave, and no other server holds anybody up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from arbiter.counters import Counters
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
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: object) -> None:
            pass

    running = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


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
