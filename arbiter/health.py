"""Our own word on whether a replica serves: it answers, with the right model, and with sense.

A cloud that calls a machine running, and SkyPilot that calls it up, say nothing of the server.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from arbiter.executors.base import Notice
from arbiter.notices import NOTICE_PATH, notice_port, parse_notice

MAX_BODY = 1 << 20

ASKED = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
"""What a replica must complete once before it gets traffic."""

COMPLETION_S = 20.0
"""For so long the first answer may take: a server may still compile for it."""

NOTICE_S = 1.0

SILENCE = "no answer"
"""How the reason begins where no answer came at all: the machine may be dead."""


@dataclass(frozen=True, slots=True)
class Health:
    """The result of one check.

    Attributes:
        serving: it answers, and lists the model that it should.
        reason: why not, in a few words.
        answers: something answers there, though not as it should: another model, or rubbish.
        notice: that its provider takes the machine away, where the machine tells.
    """

    serving: bool
    reason: str = ""
    notice: Notice | None = None
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of one replica.

    Attributes:
        endpoint: base URL.
        model: the name that its server must list.
        complete: ask for a completion too: it has no traffic that would show what it can do.
        watched: its machine tells of notices, one port further.
    """

    endpoint: str
    model: str
    complete: bool = False
    watched: bool = False


class HealthCheck(Protocol):
    """Asks replicas whether they serve."""

    def check(self, probes: Mapping[str, Probe]) -> Mapping[str, Health]:
        """Check all at once, by cluster."""
        ...


class HttpHealthCheck:
    """GET /health and /v1/models, POST /v1/completions, in parallel, each within a deadline.

    Args:
        api_key: sent to /v1 paths, and to whoever tells of notices.
        timeout_s: seconds for each request but a completion.
        completion_s: seconds for a completion.
    """

    def __init__(
        self, api_key: str, timeout_s: float = 3.0, completion_s: float = COMPLETION_S
    ) -> None:
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._completion_s = completion_s

    def check(self, probes: Mapping[str, Probe]) -> Mapping[str, Health]:
        """Check all at once; a failure is tried once more before it is believed."""
        if not probes:
            return {}
        with ThreadPoolExecutor(max_workers=min(16, len(probes))) as pool:
            results = {cluster: pool.submit(self._twice, one) for cluster, one in probes.items()}
        return {cluster: result.result() for cluster, result in results.items()}

    def _twice(self, probe: Probe) -> Health:
        reason = self._told(probe, self._silent) and self._told(probe, self._silent)
        if not reason and probe.complete:
            reason = self._told(probe, self._speechless)
        notice = self._notice(probe) if probe.watched else None
        return Health(not reason, reason, notice, bool(reason) and not reason.startswith(SILENCE))

    def _told(self, probe: Probe, look: Callable[[Probe], str]) -> str:
        """Why it does not serve, or ""."""
        try:
            return look(probe)
        except (OSError, http.client.HTTPException) as error:
            return f"{SILENCE} ({type(error).__name__})"

    def _silent(self, probe: Probe) -> str:
        return self._not_there(probe) or self._wrong_model(probe)

    def _not_there(self, probe: Probe) -> str:
        status, _ = self._ask(probe.endpoint, "/health")
        return "" if status == 200 else f"/health answered {status}"

    def _wrong_model(self, probe: Probe) -> str:
        status, body = self._ask(probe.endpoint, "/v1/models")
        if status != 200:
            return f"/v1/models answered {status}"
        try:
            listed = [entry["id"] for entry in json.loads(body)["data"]]
        except (ValueError, KeyError, TypeError):
            return "/v1/models answered rubbish"
        if probe.model in listed:
            return ""
        return f"it serves {', '.join(map(str, listed)) or 'nothing'}, not {probe.model}"

    def _speechless(self, probe: Probe) -> str:
        question = {"model": probe.model, **ASKED}
        status, body = self._ask(probe.endpoint, "/v1/completions", question)
        if status != 200:
            return f"/v1/completions answered {status}"
        try:
            answer = json.loads(body)
            sound = _is_completion(answer)
        except (ValueError, KeyError, TypeError, IndexError):
            sound = False
        return "" if sound else "/v1/completions answered rubbish"

    def _notice(self, probe: Probe) -> Notice | None:
        """What the machine says of its end; whatever is wrong with that answer is no notice."""
        url = urlsplit(probe.endpoint)
        try:
            there = f"http://{_bracketed(url.hostname or '')}:{notice_port(url.port or 80)}"
            status, body = self._ask(there, NOTICE_PATH)
        except (OSError, http.client.HTTPException):
            return None
        return parse_notice(body) if status == 200 else None

    def _ask(
        self, endpoint: str, path: str, question: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        url = urlsplit(endpoint)
        make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        patience = self._timeout_s if question is None else self._completion_s
        patience = NOTICE_S if path == NOTICE_PATH else patience
        connection = make(url.hostname or "", url.port, timeout=patience)
        keyed = path.startswith("/v1") or path == NOTICE_PATH
        headers = {"Authorization": f"Bearer {self._api_key}"} if keyed else {}
        body = None
        if question is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(question)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_BODY)
        finally:
            connection.close()


def _is_completion(answer: Any) -> bool:
    """Whether it has the shape of one, and holds at least a token."""
    choice = answer["choices"][0]
    if not isinstance(choice["text"], str):
        return False
    usage = answer.get("usage") or {}
    tokens = usage.get("completion_tokens")
    return bool(choice["text"]) if tokens is None else isinstance(tokens, int) and tokens > 0


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
