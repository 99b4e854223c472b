"""What the doctor says of SkyPilot: its own client, asked of a server that stands in."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest
from loopback_http import Quiet, listening

from arbiter import doctor
from arbiter.doctor import State
from arbiter.policy import Policy

ASKED = "0f1d2c3b-0000-4000-8000-000000000000"
VERSION = {"api_version": "62", "version": "0.14.1", "version_on_disk": "0.14.1", "commit": "0"}
HEADERS = {
    "X-Skypilot-Request-ID": ASKED,
    "X-SkyPilot-API-Version": VERSION["api_version"],
    "X-SkyPilot-Version": VERSION["version"],
}
HEALTHY = {"status": "healthy", "basic_auth_enabled": False, "user": None, **VERSION}


def pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


DONE = {
    "request_id": ASKED,
    "name": "enabled_clouds",
    "entrypoint": pickled(len),
    "request_body": pickled(None),
    "status": "SUCCEEDED",
    "created_at": 0.0,
    "user_id": "user",
    "return_value": json.dumps(["AWS", "GCP"]),
    "error": json.dumps(None),
    "pid": None,
    "schedule_type": "short",
}
"""How a server answers a request that has succeeded."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that has two clouds enabled."""
    if find_spec("sky") is None:
        pytest.skip("needs SkyPilot: make install")

    class Handler(Quiet):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            answers = {"/api/health": HEALTHY, "/enabled_clouds": {}, "/api/get": DONE}
            body = json.dumps(answers.get(path, {})).encode()
            self.send_response(200 if path in answers else 404)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", url)
        yield


@pytest.mark.usefixtures("server")
def test_the_clouds_that_are_enabled_are_named() -> None:
    found = {check.name: check for check in doctor._skypilot(Policy())}
    clouds = found["skypilot clouds"]
    assert (clouds.state, clouds.found) == (State.OK, "aws, gcp")
    assert "parking" not in found


@pytest.mark.usefixtures("server")
def test_where_a_fallback_can_be_parked_is_said_once_it_is_asked_for() -> None:
    found = {check.name: check for check in doctor._skypilot(Policy(parked=1))}["parking"]
    assert (found.state, found.found) == (
        State.OK,
        "up to 1 machine of each service on aws, gcp; what a stopped machine's disk costs there is "
        "not known to arbiter",
    )


@pytest.mark.parametrize(
    ("policy", "clouds", "state", "says"),
    [
        (Policy(parked=2), ["aws", "lambda"], State.OK, "not on lambda: SkyPilot cannot stop"),
        (Policy(parked=2), ["aws", "lambda"], State.OK, "up to 2 machines of each service on aws;"),
        (Policy(parked=1), ["lambda", "runpod"], State.WARN, "stopped on aws, azure, gcp alone"),
        (Policy(parked=1, spot=False), ["aws"], State.WARN, "allows both spot and on-demand"),
    ],
)
def test_what_cannot_be_parked_is_said_with_the_reason(
    policy: Policy, clouds: list[str], state: State, says: str
) -> None:
    found = doctor._parking(policy, clouds)
    assert found.state is state
    assert says in found.found
