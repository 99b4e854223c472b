"""The demo's server behaves as vLLM does, and says everywhere that it is simulated."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from arbiter.demo.answers import SENTENCE, TOKENS
from arbiter.demo.server import Options, Server

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


class Answer:
    """A whole answer of a server."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert lines.pop() == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]


def ask(
    port: int, path: str, body: Any = None, *, key: str | None = None, raw: bytes | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        sent = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request("GET" if sent is None else "POST", path, sent, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "good day to you"}], **more}


def metric(port: int, name: str) -> float:
    page = ask(port, "/metrics").body.decode()
    found = re.findall(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", page, re.MULTILINE)
    assert len(found) == 1
    return float(found[0])


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts servers in this process and returns their ports."""
    servers = []

    def start(api_key: str | None = None, **options: Any) -> int:
        server = Server(Options(**{"model": "tiny", "tokens_per_second": 5000, **options}), api_key)
        server.server_activate()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """Starts servers as processes; returns them with their ports."""
    children: list[subprocess.Popen[bytes]] = []

    def start(*options: str, key: str | None = None) -> tuple[subprocess.Popen[bytes], int]:
        file = tmp_path / f"port-{len(children)}"
        command = [sys.executable, "-m", "arbiter.demo.server", "--model=tiny"]
        environment = {**os.environ, **({"VLLM_API_KEY": key} if key else {})}
        child = subprocess.Popen([*command, f"--port-file={file}", *options], env=environment)
        children.append(child)
        until(file.exists)
        return child, int(file.read_text())

    yield start
    for child in children:
        child.kill()
        child.wait()


def listens(port: int) -> bool:
    try:
        return ask(port, "/health").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("path", ["/health", "/version", "/metrics", "/v1/models", "/nowhere"])
def test_every_answer_is_marked_as_simulated(serve: Callable[..., int], path: str) -> None:
    assert ask(serve(), path).headers["x-arbiter-simulated"] == "true"


def test_health_models_and_version_answer(serve: Callable[..., int]) -> None:
    port = serve()
    assert (ask(port, "/health").status, ask(port, "/health").body) == (200, b"")
    assert [model["id"] for model in ask(port, "/v1/models").json()["data"]] == ["tiny"]
    assert ask(port, "/version").json()["version"].startswith("arbiter-demo-")
    assert ask(port, "/nowhere").status == 404
    assert ask(port, "/health", {}).status == 404  # POST


def test_a_chat_answer_says_what_it_is_and_what_it_used(serve: Callable[..., int]) -> None:
    answer = ask(serve(), CHAT, chat())
    body = answer.json()
    assert answer.status == 200
    assert answer.headers["x-arbiter-simulated"] == "true"
    assert body["object"] == "chat.completion"
    assert body["system_fingerprint"] == "arbiter-simulated"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": SENTENCE}
    assert "simulated" in SENTENCE
    assert body["choices"][0]["finish_reason"] == "stop"
    words = len(TOKENS)
    assert body["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": words,
        "total_tokens": 4 + words,
    }


def test_a_text_answer_ends_where_it_is_told_to(serve: Callable[..., int]) -> None:
    body = ask(serve(), TEXT, {"model": "tiny", "prompt": "one two", "max_tokens": 3}).json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == "".join(TOKENS[:3])
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


def test_a_stream_is_events_with_the_usage_last(serve: Callable[..., int]) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5}
    answer = ask(serve(), CHAT, chat(**options))
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    first, *words, last, usage = answer.events()
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [word["choices"][0]["delta"]["content"] for word in words] == list(TOKENS[:5])
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert {event["object"] for event in (first, *words, last, usage)} == {"chat.completion.chunk"}
    assert {event["system_fingerprint"] for event in words} == {"arbiter-simulated"}


def test_a_stream_without_options_has_no_usage(serve: Callable[..., int]) -> None:
    body = {"model": "tiny", "prompt": "x", "stream": True, "max_tokens": 2}
    events = ask(serve(), TEXT, body).events()
    assert "".join(event["choices"][0]["text"] for event in events) == "".join(TOKENS[:2])
    assert all("usage" not in event for event in events)


def test_an_answer_can_be_longer_than_the_sentence(serve: Callable[..., int]) -> None:
    body = {"prompt": "x", "ignore_eos": True, "max_tokens": 100}
    answer = ask(serve(), TEXT, body).json()
    assert answer["usage"]["completion_tokens"] == 100
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_connection_serves_many_requests(serve: Callable[..., int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serve(), timeout=10)
    for body in (chat(stream=True), chat(), chat(model="other"), chat()):
        connection.request("POST", CHAT, json.dumps(body))
        Answer(connection.getresponse())
    local = connection.sock.getsockname()
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    assert connection.sock.getsockname() == local
    connection.close()


@pytest.mark.parametrize("key", [None, "wrong", "right-but-longer"])
def test_the_key_guards_v1_and_nothing_else(serve: Callable[..., int], key: str | None) -> None:
    port = serve(api_key="right")
    for path, body in (("/v1/models", None), (CHAT, chat()), (TEXT, {"prompt": "x"})):
        refused = ask(port, path, body, key=key)
        assert (refused.status, refused.json()) == (401, {"error": "Unauthorized"})
        assert ask(port, path, body, key="right").status == 200
    for path in ("/health", "/metrics", "/version"):
        assert ask(port, path, key=key).status == 200


def test_another_model_is_an_error_in_the_shape_of_openai(serve: Callable[..., int]) -> None:
    answer = ask(serve(), CHAT, chat(model="gpt-9"))
    assert answer.status == 404
    assert answer.json() == {
        "error": {
            "message": "The model `gpt-9` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        }
    }


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (CHAT, {"messages": []}, "at least one message"),
        (CHAT, {"messages": ["hello"]}, "a message needs a role"),
        (CHAT, [], "not a JSON object"),
        (TEXT, {}, "prompt must be a string"),
        (TEXT, {"prompt": "x", "max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        (TEXT, {"prompt": "x", "max_tokens": "many"}, "max_tokens must be at least 1, got 'many'"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(
    serve: Callable[..., int], path: str, body: Any, reason: str
) -> None:
    answer = ask(serve(), path, body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "BadRequestError"
    assert reason in answer.json()["error"]["message"]


def test_a_body_that_is_no_json_or_too_long_is_refused(serve: Callable[..., int]) -> None:
    port = serve()
    assert ask(port, TEXT, raw=b"{").status == 400
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", TEXT)
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert Answer(connection.getresponse()).status == 413
    connection.close()


def test_the_counters_are_those_of_vllm_and_count(serve: Callable[..., int]) -> None:
    port = serve()
    assert metric(port, "generation_tokens_total") == 0
    ask(port, CHAT, chat(max_tokens=7))
    ask(port, CHAT, chat(stream=True, max_tokens=2))
    ask(port, CHAT, chat(model="other"))
    assert metric(port, "generation_tokens_total") == 9
    assert metric(port, "prompt_tokens_total") == 8
    assert metric(port, "num_requests_running") == 0
    assert metric(port, "num_requests_waiting") == 0
    assert metric(port, "kv_cache_usage_perc") == 0
    page = ask(port, "/metrics").body.decode()
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in page
    assert 'request_success_total{engine="0",finished_reason="length",model_name="tiny"} 2' in page
    assert page.endswith("\n")


def test_the_page_of_counters_reads_as_prometheus_text(serve: Callable[..., int]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    page = ask(serve(model='odd"\\name'), "/metrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert families["vllm:generation_tokens"].type == "counter"
    assert families["vllm:kv_cache_usage_perc"].type == "gauge"
    samples = [sample for family in families.values() for sample in family.samples]
    assert {sample.labels["model_name"] for sample in samples} == {'odd"\\name'}


def test_more_requests_than_it_can_take_wait(serve: Callable[..., int]) -> None:
    port = serve(max_num_seqs=1, tokens_per_second=50)
    body = {"prompt": "x", "ignore_eos": True, "max_tokens": 10}
    clients = [threading.Thread(target=ask, args=(port, TEXT, body)) for _ in range(2)]
    for client in clients:
        client.start()
    until(lambda: metric(port, "num_requests_waiting") == 1)
    assert metric(port, "num_requests_running") == 1
    assert metric(port, "kv_cache_usage_perc") == 1
    for client in clients:
        client.join()
    assert metric(port, "generation_tokens_total") == 20


def test_a_client_that_goes_away_is_counted_as_aborted(
    serve: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    port = serve(tokens_per_second=1000)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = {"prompt": "x", "ignore_eos": True, "max_tokens": 100_000, "stream": True}
    connection.request("POST", TEXT, json.dumps(body))
    response = connection.getresponse()
    response.read(10)
    response.close()
    connection.close()
    until(lambda: metric(port, "num_requests_running") == 0)
    assert 'finished_reason="abort",model_name="tiny"} 1.0' in ask(port, "/metrics").body.decode()
    assert capfd.readouterr().err == ""


Spawn = Callable[..., tuple[subprocess.Popen[bytes], int]]


def test_it_has_a_port_before_it_listens(spawn: Spawn) -> None:
    child, port = spawn("--cold-start=0.5")
    assert not listens(port)
    until(lambda: listens(port))
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == 0


def test_a_cold_start_can_be_broken_off(spawn: Spawn) -> None:
    child, _ = spawn("--cold-start=600")
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM


def test_the_key_comes_from_the_environment(spawn: Spawn) -> None:
    _, port = spawn(key="from-environment")
    until(lambda: listens(port))
    assert ask(port, "/v1/models").status == 401
    assert ask(port, "/v1/models", key="from-environment").status == 200


@contextmanager
def streaming(port: int) -> Iterator[http.client.HTTPResponse]:
    """A stream that is under way and takes about a second."""
    until(lambda: listens(port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = {"prompt": "x", "ignore_eos": True, "max_tokens": 50, "stream": True}
    connection.request("POST", TEXT, json.dumps(body))
    with closing(connection), connection.getresponse() as response:
        response.read(10)
        yield response


def test_with_time_to_drain_a_stream_ends_and_new_requests_get_500(spawn: Spawn) -> None:
    child, port = spawn("--shutdown-timeout=30")
    with streaming(port) as stream:
        child.send_signal(signal.SIGTERM)
        until(lambda: ask(port, TEXT, {"prompt": "x", "max_tokens": 1}).status == 500)
        assert ask(port, "/health").status == 200
        assert ask(port, "/health").headers["x-arbiter-simulated"] == "true"
        assert child.poll() is None
        rest = stream.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason": "length"' in rest
    assert child.wait(5) == 0
    assert not listens(port)


def test_without_time_to_drain_a_stream_is_cut_as_aborted(spawn: Spawn) -> None:
    child, port = spawn()
    with streaming(port) as stream:
        child.send_signal(signal.SIGTERM)
        rest = stream.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason": "abort"' in rest
    assert child.wait(5) == 0


def test_it_listens_on_loopback_only(serve: Callable[..., int]) -> None:
    port = serve()
    table = Path("/proc/net/tcp").read_text()
    listening = re.findall(rf" ([0-9A-F]{{8}}):{port:04X} 00000000:0000 0A ", table)
    assert listening == ["0100007F"]


@pytest.mark.parametrize(
    "option", ["--cold-start=-1", "--max-num-seqs=0", "--tokens-per-second=0", "--api-key=x"]
)
def test_a_bad_option_is_refused(option: str) -> None:
    command = [sys.executable, "-m", "arbiter.demo.server", "--model=tiny", option]
    refused = subprocess.run(command, capture_output=True, timeout=20)
    assert refused.returncode == 2
    assert option.partition("=")[0].encode() in refused.stderr
