"""Watches for the notice that this machine will be taken away. Runs on the machine, beside vLLM.

It is sent there as it stands, so it needs nothing but Python's own library. It asks the machine's
metadata service every few seconds (AWS: spot/instance-action and the rebalance recommendation by
IMDSv2; GCP: instance/preempted; Azure: scheduled events), and answers GET /notice with what it
was told, to whoever shows the replica's key: {"notice": null} or
{"notice": {"kind", "given_at", "takes_at"}}, times in UTC.

    python watcher.py PROVIDER PORT        the key in ARBITER_API_KEY
"""

from __future__ import annotations

import hmac
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVERY_S = 2.0
TIMEOUT_S = 2.0
UTC = timezone.utc  # noqa: UP017  the machine's Python may be older than ours

AWS = "http://169.254.169.254/latest"
GCP = "http://metadata.google.internal/computeMetadata/v1/instance/preempted"
AZURE = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"


def ask(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The text at a URL of the metadata service; None where it has none."""
    base = os.environ.get("ARBITER_METADATA_URL")
    if base:
        url = base.rstrip("/") + "/" + url.split("/", 3)[3]
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return str(answer.read(1 << 16).decode())
    except (urllib.error.URLError, OSError, UnicodeDecodeError):
        return None


def on_aws() -> tuple[str, str | None] | None:
    """Kind and instant of the notice, or None."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = ask(f"{AWS}/api/token", ttl, "PUT")
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    action = ask(f"{AWS}/meta-data/spot/instance-action", headers)
    if action is not None:
        told = json.loads(action)
        return str(told["action"]), str(told["time"])
    advice = ask(f"{AWS}/meta-data/events/recommendations/rebalance", headers)
    return ("rebalance", None) if advice is not None else None


def on_gcp() -> tuple[str, str | None] | None:
    """Kind of the notice, or None; GCP names no instant."""
    told = ask(GCP, {"Metadata-Flavor": "Google"})
    return ("preempted", None) if (told or "").strip().upper() == "TRUE" else None


def on_azure() -> tuple[str, str | None] | None:
    """Kind and instant of the notice, or None."""
    told = ask(AZURE, {"Metadata": "true"})
    for event in json.loads(told or "{}").get("Events", []):
        if event.get("EventType") == "Preempt":
            when = event.get("NotBefore") or ""
            instant = parsedate_to_datetime(when).astimezone(UTC).isoformat() if when else None
            return "Preempt", instant
    return None


SOURCES = {"aws": on_aws, "gcp": on_gcp, "azure": on_azure}


class Watch:
    """What was told so far. A termination takes the place of a mere recommendation."""

    def __init__(self, provider: str) -> None:
        self.source = SOURCES[provider]
        self.notice: dict[str, Any] | None = None

    def look(self) -> None:
        """Ask once."""
        try:
            told = self.source()
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if told is None or (self.notice is not None and self.notice["kind"] == told[0]):
            return
        if self.notice is not None and told[0] == "rebalance":
            return
        now = datetime.now(UTC).isoformat()
        self.notice = {"kind": told[0], "given_at": now, "takes_at": told[1]}

    def run(self) -> None:
        """Ask for ever."""
        while True:
            self.look()
            time.sleep(EVERY_S)


def serve(watch: Watch, port: int, key: str, host: str = "0.0.0.0") -> ThreadingHTTPServer:  # noqa: S104
    """A server of what the watch was told, not running yet."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").encode()
            allowed = hmac.compare_digest(given, f"Bearer {key}".encode())
            known = allowed and self.path == "/notice"
            body = json.dumps({"notice": watch.notice} if known else {}).encode()
            self.send_response(200 if known else 404 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """No line per request."""

    return ThreadingHTTPServer((host, port), Handler)


if __name__ == "__main__":
    watching = Watch(sys.argv[1])
    threading.Thread(target=watching.run, daemon=True).start()
    serve(watching, int(sys.argv[2]), os.environ["ARBITER_API_KEY"]).serve_forever()
