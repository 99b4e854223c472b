"""A stand-in of a vLLM server, for the demo and for tests: `python -m arbiter.demo.server`.

It behaves as `vllm serve` 0.32 was seen to behave, as far as arbiter and a client can tell:

- it listens only once it is ready (here: after --cold-start seconds);
- an API key guards /v1 and nothing else; it comes from the environment, as VLLM_API_KEY or
  ARBITER_API_KEY;
- on SIGTERM it lets the answers in flight run for up to --shutdown-timeout seconds, refuses new
  ones with 500 and still says 200 on /health; what is left is cut with finish_reason "abort".

It listens on 127.0.0.1 only, and no model runs: see `arbiter.demo.answers`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from arbiter import __version__
from arbiter.demo import answers
from arbiter.demo.answers import Malformed, Request
from arbiter.demo.counters import CONTENT_TYPE, Counters

HOST = "127.0.0.1"
API_KEYS = ("VLLM_API_KEY", "ARBITER_API_KEY")  # vLLM's own, and what arbiter hands to a replica
MOST_BODY_BYTES = 4 << 20
ABORT_S = 2.0  # time for the answers in flight to say that they were cut


@dataclass(frozen=True, slots=True)
class Options:
    """How a demo server runs.

    Attributes:
        port: 0 takes a free one.
        port_file: where the bound port is written, or None.
        cold_start_s: seconds before it listens.
        shutdown_timeout_s: seconds that answers in flight may go on after SIGTERM.
        tokens_per_second: speed of one answer.
        max_num_seqs: answers written together; more wait.
    """

    model: str
    port: int = 0
    port_file: Path | None = None
    cold_start_s: float = 0.0
    shutdown_timeout_s: float = 0.0
    tokens_per_second: float = 50.0
    max_num_seqs: int = 64


class Server(ThreadingHTTPServer):
    """The listening socket and what all requests share."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, options: Options, api_key: str | None) -> None:
        self.allow_reuse_address = options.port != 0
        super().__init__((HOST, options.port), Handler, bind_and_activate=False)
        self.options = options
        self.api_key = api_key
        self.started = time.time()
        self.counters = Counters(options.model, options.max_num_seqs, self.started)
        self.draining = threading.Event()
        self.abort = threading.Event()
        self.server_bind()

    def server_bind(self) -> None:
        """Bind, without the look-up of a host name that HTTPServer makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is printed as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "arbiter-demo"
    timeout = 60  # seconds that a connection may idle
    server: Server

    def do_GET(self) -> None:
        """Health, models, version and counters."""
        routes: Mapping[str, Callable[[], None]] = {
            "/health": lambda: self._send(200, "text/plain", b""),
            "/version": lambda: self._send_json(200, {"version": f"arbiter-demo-{__version__}"}),
            "/metrics": self._metrics,
            "/v1/models": self._models,
        }
        self._route(routes)

    def do_POST(self) -> None:
        """Completions."""
        routes: Mapping[str, Callable[[], None]] = {
            "/v1/chat/completions": lambda: self._complete(chat=True),
            "/v1/completions": lambda: self._complete(chat=False),
        }
        self._route(routes)

    def version_string(self) -> str:
        """What the Server header says: with the port, an answer names the server it came from."""
        return f"{self.server_version}/{self.server.server_port}"

    def log_message(self, *_: Any) -> None:
        """No line per request: the log stays, and holds what went wrong."""

    def end_headers(self) -> None:
        """Every answer is marked."""
        self.send_header(*answers.HEADER)
        super().end_headers()

    def _route(self, routes: Mapping[str, Callable[[], None]]) -> None:
        path = self.path.split("?", 1)[0]
        if path.startswith("/v1") and not self._authorised():
            self.close_connection = True
            self._send_json(401, {"error": "Unauthorized"})
        elif path not in routes:
            self.close_connection = True
            self._send_json(404, {"detail": "Not Found"})
        else:
            routes[path]()

    def _authorised(self) -> bool:
        key = self.server.api_key
        if key is None:
            return True
        given = self.headers.get("Authorization", "").encode()
        return secrets.compare_digest(given, f"Bearer {key}".encode())

    def _metrics(self) -> None:
        self._send(200, CONTENT_TYPE, self.server.counters.page().encode())

    def _models(self) -> None:
        options = self.server.options
        self._send_json(200, answers.models(options.model, int(self.server.started)))

    def _complete(self, *, chat: bool) -> None:
        try:
            request = Request.read(self._body(), self.server.options.model, chat=chat)
        except Malformed as refusal:
            self._send_json(refusal.status, refusal.body)
            return
        with self.server.counters.request():  # counted first, so that a drain waits for it
            if self.server.draining.is_set():
                message = "the server is shutting down"
                self._send_json(500, answers.error(500, "InternalServerError", message))
            elif request.stream:
                self._stream(request)
            else:
                self._answer(request)

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise Malformed(411, "BadRequestError", "a Content-Length is needed")
        if int(length) > MOST_BODY_BYTES:
            self.close_connection = True
            raise Malformed(413, "BadRequestError", "the body is too long")
        try:
            return json.loads(self.rfile.read(int(length)))
        except ValueError as failure:
            raise Malformed(400, "BadRequestError", f"the body is not JSON: {failure}") from failure

    def _answer(self, request: Request) -> None:
        tokens: list[str] = []
        reason = self._generate(request, tokens.append)
        answer_id = _answer_id(request)
        self._send_json(200, answers.whole(request, answer_id, int(time.time()), tokens, reason))

    def _stream(self, request: Request) -> None:
        answer_id, created = _answer_id(request), int(time.time())
        generated = 0

        def say(token: str) -> None:
            nonlocal generated
            generated += 1
            self._event(answers.chunk(request, answer_id, created, token))

        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if request.chat:
            self._event(answers.chunk(request, answer_id, created, "", role="assistant"))
        reason = self._generate(request, say)
        self._event(answers.chunk(request, answer_id, created, None, finish_reason=reason))
        if request.include_usage:
            self._event(answers.usage_chunk(request, answer_id, created, generated))
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _generate(self, request: Request, emit: Callable[[str], None]) -> str:
        """Write the tokens at the set speed, and return why they ended."""
        pause = 1 / self.server.options.tokens_per_second
        reason = request.finish_reason
        self.server.counters.prompt(request.prompt_tokens)
        try:
            for token in request.tokens():
                if self.server.abort.wait(pause):
                    reason = "abort"
                    break
                emit(token)
                self.server.counters.token()
        except ConnectionError:
            reason = "abort"
            raise
        finally:
            self.server.counters.finished(reason)
        return reason

    def _event(self, body: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(body).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%X\r\n%b\r\n" % (len(data), data))

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def serve(options: Options, api_key: str | None) -> None:
    """Run until SIGTERM or SIGINT, then drain and return.

    Before the server listens, either signal ends the process at once.
    """
    ending = {signal.SIGTERM, signal.SIGINT}
    for number in ending:
        signal.signal(number, signal.SIG_DFL)  # whatever the parent had made of them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
    with Server(options, api_key) as server:
        if options.port_file is not None:
            _report_port(options.port_file, server.server_port)
        time.sleep(options.cold_start_s)
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        signal.sigwait(ending)
        _drain(server)


def _drain(server: Server) -> None:
    """Let the answers in flight end, and cut those that take too long."""
    server.draining.set()
    if not server.counters.wait_idle(server.options.shutdown_timeout_s):
        server.abort.set()
        server.counters.wait_idle(ABORT_S)
    server.shutdown()


def _report_port(path: Path, port: int) -> None:
    """Write the port so that a reader sees all of it or nothing."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(f"{port}\n")
    draft.replace(path)


def _answer_id(request: Request) -> str:
    return f"{'chatcmpl' if request.chat else 'cmpl'}-{secrets.token_hex(12)}"


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m arbiter.demo.server",
        description="A simulated vLLM server on loopback; no model runs.",
        epilog=f"An API key is taken from the environment: {' or '.join(API_KEYS)}.",
        allow_abbrev=False,
    )
    default = Options(model="")
    add = parser.add_argument
    add("--model", required=True, help="the name that is served")
    add("--port", type=int, default=default.port, help="0 (the default) takes a free one")
    add("--port-file", type=Path, help="where to write the bound port")
    add("--cold-start", type=_seconds, default=default.cold_start_s, dest="cold_start_s")
    add(
        "--shutdown-timeout",
        type=_seconds,
        default=default.shutdown_timeout_s,
        dest="shutdown_timeout_s",
    )
    add("--tokens-per-second", type=_above_zero, default=default.tokens_per_second)
    add("--max-num-seqs", type=_count, default=default.max_num_seqs)
    return Options(**vars(parser.parse_args(arguments)))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"not a duration in seconds: {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: {text}")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"not above zero: {text}")
    return value


if __name__ == "__main__":
    keys = [os.environ.pop(name, None) for name in API_KEYS]
    serve(_options(None), next(filter(None, keys), None))
