"""Notices that a machine is taken away: what the watcher asks and tells, and what is made of it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from fleets import offer
from loopback_http import Quiet, listening

from arbiter.domain import Purchase
from arbiter.executors import watcher
from arbiter.executors.base import Notice
from arbiter.executors.watcher import Watch, serve
from arbiter.health import HttpHealthCheck, Probe
from arbiter.notices import is_watched, leaves_at, notice_port, parse_notice

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Metadata(ThreadingHTTPServer):
    """A cloud's metadata service that says what a test arranges, and demands its headers."""

    answers: dict[str, str]
    headers: dict[str, str]


class MetadataHandler(Quiet):
    server: Metadata

    def do_PUT(self) -> None:
        self._say("a-token" if "X-aws-ec2-metadata-token-ttl-seconds" in self.headers else None)

    def do_GET(self) -> None:
        name, value = next(iter(self.server.headers.items()))
        allowed = self.headers.get(name) == value
        self._say(self.server.answers.get(self.path) if allowed else None)

    def _say(self, text: str | None) -> None:
        body = (text or "").encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    server = Metadata(("127.0.0.1", 0), MetadataHandler)
    server.answers, server.headers = {}, {}
    with listening(server) as url:
        monkeypatch.setenv("ARBITER_METADATA_URL", url)
        yield server


def test_aws_tells_by_a_token(metadata: Metadata) -> None:
    metadata.headers = {"X-aws-ec2-metadata-token": "a-token"}
    watch = Watch("aws")
    watch.look()
    assert watch.notice is None
    metadata.answers["/latest/meta-data/events/recommendations/rebalance"] = (
        '{"noticeTime": "2026-11-01T12:00:00Z"}'
    )
    watch.look()
    assert watch.notice is not None
    assert (watch.notice["kind"], watch.notice["takes_at"]) == ("rebalance", None)
    metadata.answers["/latest/meta-data/spot/instance-action"] = (
        '{"action": "terminate", "time": "2026-11-01T12:02:00Z"}'
    )
    watch.look()
    given = watch.notice["given_at"]
    assert (watch.notice["kind"], watch.notice["takes_at"]) == ("terminate", "2026-11-01T12:02:00Z")
    watch.look()
    assert watch.notice["given_at"] == given, "the first sight counts"


def test_gcp_tells_by_one_word(metadata: Metadata) -> None:
    metadata.headers = {"Metadata-Flavor": "Google"}
    path = "/computeMetadata/v1/instance/preempted"
    watch = Watch("gcp")
    metadata.answers[path] = "FALSE"
    watch.look()
    assert watch.notice is None
    metadata.answers[path] = "TRUE"
    watch.look()
    assert watch.notice is not None
    assert watch.notice["kind"] == "preempted"


def test_azure_tells_by_an_event(metadata: Metadata) -> None:
    metadata.headers = {"Metadata": "true"}
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    watch = Watch("azure")
    metadata.answers[path] = '{"Events": [{"EventType": "Reboot"}]}'
    watch.look()
    assert watch.notice is None
    event = {"EventType": "Preempt", "NotBefore": "Sun, 01 Nov 2026 12:00:30 GMT"}
    metadata.answers[path] = json.dumps({"Events": [event]})
    watch.look()
    assert watch.notice is not None
    assert watch.notice["takes_at"] == "2026-11-01T12:00:30+00:00"


@pytest.mark.parametrize("said", ["", "not JSON", "[]", '{"action": 1}', '{"Events": 3}', "null"])
def test_rubbish_of_a_cloud_is_no_notice(metadata: Metadata, said: str) -> None:
    metadata.headers = {"Metadata": "true"}
    metadata.answers["/metadata/scheduledevents?api-version=2020-07-01"] = said
    watch = Watch("azure")
    watch.look()
    assert watch.notice is None


def test_a_machine_without_a_metadata_service_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBITER_METADATA_URL", "http://127.0.0.1:9")
    for provider in watcher.SOURCES:
        watch = Watch(provider)
        watch.look()
        assert watch.notice is None


def test_the_health_check_hears_of_it_with_the_key_alone() -> None:
    watch = Watch("aws")
    watch.notice = {
        "kind": "terminate",
        "given_at": "2026-11-01T12:00:00+00:00",
        "takes_at": "2026-11-01T12:02:00Z",
    }
    server = serve(watch, 0, "the-key", "127.0.0.1")
    port = server.server_port
    with listening(server):
        endpoint = f"http://127.0.0.1:{port - 1}"  # nothing serves there: it is told all the same
        probe = {"c": Probe(endpoint, "tiny", watched=True)}
        told = HttpHealthCheck("the-key", 0.5).check(probe)["c"]
        assert not told.serving
        assert told.notice == Notice("terminate", NOW, NOW + timedelta(minutes=2))
        assert HttpHealthCheck("a guess", 0.5).check(probe)["c"].notice is None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/notice", timeout=5)
        assert notice_port(port - 1) == port


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"notice": 3}', b'{"notice": {}}', b"\xff", b'{"notice": null}']
)
def test_what_is_no_notice_is_none(body: bytes) -> None:
    assert parse_notice(body) is None


@pytest.mark.parametrize(
    ("notice", "seconds"),
    [
        (Notice("terminate", NOW, NOW + timedelta(seconds=77)), 77),
        (Notice("terminate", NOW), 120),
        (Notice("preempted"), 30),
        (Notice("rebalance", NOW), 900),
    ],
)
def test_when_it_is_counted_on_no_longer(notice: Notice, seconds: int) -> None:
    assert leaves_at(notice, NOW) == NOW + timedelta(seconds=seconds)


def test_only_spot_machines_of_clouds_that_tell_are_watched() -> None:
    assert is_watched(offer(purchase=Purchase.SPOT))
    assert not is_watched(offer(purchase=Purchase.ON_DEMAND))


def test_the_watcher_needs_nothing_but_python() -> None:
    """It is sent to the machine as it stands, where nothing of arbiter is."""
    source = Path(watcher.__file__).read_text()
    assert "arbiter." not in source.split('"""', 2)[2].replace("ARBITER_", "")
    done = subprocess.run(
        [sys.executable, "-I", "-S", watcher.__file__], capture_output=True, text=True, timeout=20
    )
    assert "IndexError" in done.stderr, "it asks for its arguments, and imports without arbiter"
