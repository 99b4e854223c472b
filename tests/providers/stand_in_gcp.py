"""A stand-in for the APIs of GCP that are asked, and machines with and without credentials."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loopback import RECORDINGS, Answer, LoopbackServer, Request

SKUS = "/v1/services/6F81-5844-456A/skus"
PROJECT = "/compute/v1/projects/example-project"

VARIABLES = (
    "GCP_API_KEY",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
)


def recorded(name: str) -> bytes:
    return (RECORDINGS / "gcp" / f"{name}.json").read_bytes()


def no_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A machine that knows nothing of GCP, whatever the real one does."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))
    monkeypatch.setattr("arbiter_providers.gcp_account.PRODUCT_NAME", folder / "none")


def refusal(status: int, reason: str, message: str = "no", **headers: str) -> Answer:
    """A refusal as Google words it."""
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    error = {"code": status, "message": message, "status": "X", "details": [detail]}
    return Answer(json.dumps({"error": error}).encode(), status, headers)


Reply = bytes | Answer | Callable[[Request], Answer]


@dataclass
class StandInGcp:
    """Answers as the recordings do, until a path is given another reply."""

    server: LoopbackServer
    replies: dict[str, Reply] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.answer = self._answer

    def reply(self, path: str, reply: Reply) -> None:
        """The reply to whatever ends with this path."""
        self.replies[path] = reply

    def asked(self, ending: str) -> list[Request]:
        return [request for request in self.server.requests if request.path.endswith(ending)]

    def questions(self, ending: str) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.asked(ending)]

    def _answer(self, request: Request) -> Answer:
        for ending, reply in self.replies.items():
            if request.path.endswith(ending):
                if isinstance(reply, bytes):
                    return Answer(reply)
                return reply if isinstance(reply, Answer) else reply(request)
        return self._as_recorded(request)

    def _as_recorded(self, request: Request) -> Answer:
        if request.path == SKUS:
            return Answer(recorded("skus-2" if "pageToken" in request.query else "skus-1"))
        if request.path == f"{PROJECT}/aggregated/machineTypes":
            return Answer(recorded("machine-types"))
        if request.path == f"{PROJECT}/aggregated/acceleratorTypes":
            return Answer(recorded("accelerator-types"))
        if request.path.endswith("/advice/capacityHistory"):
            return Answer(recorded("capacity-history"))
        if request.path.endswith("/advice/capacity"):
            return Answer(recorded("capacity"))
        return Answer(status=404)


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    """One answer after the other, the last for ever."""
    left = list(answers)

    def answer(_: Request) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer
