"""A replica serves when it answers with the right model, and not otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
from loopback_http import Quiet, listening

from arbiter.health import HttpHealthCheck, Probe


class Server(ThreadingHTTPServer):
    """Answers as it is told, and remembers what it was sent."""

    answers: dict[str, tuple[int, bytes]]
    keys: dict[str, str | None]
    asked: dict[str, object]


class Handler(Quiet):
    server: Server

    def do_GET(self) -> None:
        self.server.keys[self.path] = self.headers.get("Authorization")
        status, body = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()


@contextmanager
def serving(**answers: tuple[int, bytes]) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answers = {"/" + path.replace("__", "/"): answer for path, answer in answers.items()}
    server.keys = {}
    with listening(server):
        yield server


def listing(*models: str) -> bytes:
    return json.dumps({"data": [{"id": model} for model in models]}).encode()


def check(server: Server, model: str = "tiny") -> tuple[bool, str]:
    endpoint = f"http://127.0.0.1:{server.server_port}"
    result = HttpHealthCheck("the-key", 1.0).check({"c": Probe(endpoint, model)})["c"]
    return result.serving, result.reason


def test_serving_the_right_model_is_healthy() -> None:
    with serving(health=(200, b""), v1__models=(200, listing("tiny"))) as server:
        assert check(server) == (True, "")
        assert server.keys == {"/health": None, "/v1/models": "Bearer the-key"}


def test_another_model_is_not_health() -> None:
    with serving(health=(200, b""), v1__models=(200, listing("other"))) as server:
        assert check(server) == (False, "it serves other, not tiny")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"health": (503, b"")}, "/health answered 503"),
        ({"health": (200, b""), "v1__models": (401, b"")}, "/v1/models answered 401"),
        ({"health": (200, b""), "v1__models": (200, b"<html>")}, "/v1/models answered rubbish"),
        ({"health": (200, b""), "v1__models": (200, b"[]")}, "/v1/models answered rubbish"),
    ],
)
def test_what_is_not_an_answer_is_not_health(
    answers: dict[str, tuple[int, bytes]], reason: str
) -> None:
    with serving(**answers) as server:
        assert check(server) == (False, reason)


def test_a_dead_endpoint_is_not_health() -> None:
    with serving() as server:
        port = server.server_port
    result = HttpHealthCheck("k", 1.0).check({"c": Probe(f"http://127.0.0.1:{port}", "tiny")})["c"]
    assert not result.serving
    assert "the-key" not in result.reason
    assert result.reason.startswith("no answer")


def test_nothing_to_check_costs_nothing() -> None:
    assert HttpHealthCheck("k").check({}) == {}


# --- one real completion --------------------------------------------------------------------

SOUND = {"choices": [{"index": 0, "text": " Paris", "finish_reason": "length"}]}


def complete(answer: tuple[int, bytes]) -> tuple[bool, str, dict[str, object]]:
    with serving(
        health=(200, b""), v1__models=(200, listing("tiny")), v1__completions=answer
    ) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        probe = Probe(endpoint, "tiny", complete=True)
        found = HttpHealthCheck("the-key", 1.0, 1.0).check({"c": probe})["c"]
        assert server.keys["/v1/completions"] == "Bearer the-key"
        return found.serving, found.reason, server.asked


def test_one_real_completion_is_health() -> None:
    found, reason, asked = complete((200, json.dumps(SOUND).encode()))
    assert (found, reason) == (True, "")
    assert asked["model"] == "tiny"
    assert asked["max_tokens"] == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome</html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"text": ""}]}',
        b'{"choices": [{"text": null}]}',
        b'{"choices": [{"text": ""}], "usage": {"completion_tokens": 0}}',
        b'{"choices": "text"}',
    ],
)
def test_two_hundred_with_rubbish_is_not_health(body: bytes) -> None:
    assert complete((200, body))[:2] == (False, "/v1/completions answered rubbish")


def test_a_token_without_text_is_an_answer() -> None:
    body = b'{"choices": [{"text": ""}], "usage": {"completion_tokens": 1}}'
    assert complete((200, body))[0]


def test_a_completion_that_fails_is_not_health() -> None:
    assert complete((500, b""))[:2] == (False, "/v1/completions answered 500")
