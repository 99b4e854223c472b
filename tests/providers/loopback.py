"""What a loopback server is asked and says, and where the recordings are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "recordings"


@dataclass(frozen=True)
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass
class Answer:
    """What the server says."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class LoopbackServer:
    """A server that remembers every request."""

    url: str
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer] = lambda _: Answer(status=404)


def as_json(content: object, status: int = 200, **headers: str) -> Answer:
    """An answer of JSON."""
    return Answer(json.dumps(content).encode(), status, headers)
