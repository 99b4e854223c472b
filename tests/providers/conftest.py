"""A web server on loopback whose answers a test writes, and machines with and without AWS keys."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from loopback import SHARED, LoopbackServer, Request
from loopback_http import Quiet, listening


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A server on a free port, stopped after the test."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(
                self.command,
                parts.path,
                {key: values[0] for key, values in parse_qs(parts.query).items()},
                {key.lower(): value for key, value in self.headers.items()},
                self.rfile.read(length).decode(),
            )
            running.requests.append(request)
            answer = running.answer(request)
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                self.send_header(key, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_PUT = do_DELETE = do_GET

    answering = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answering.daemon_threads = True
    with listening(answering) as url:
        running = LoopbackServer(url)
        yield running


@pytest.fixture
def no_aws_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without AWS credentials, whatever the real one has."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def aws_account(no_aws_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with AWS credentials that open nothing real."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")


@pytest.fixture
def shared_recordings() -> Path:
    """The larger recordings beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data: the recordings of {SHARED} are not part of the repository")
    return SHARED
