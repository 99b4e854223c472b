"""A little traffic, so that the demo shows answers being served."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

QUESTION = "Where are you running, and what do you cost?"
ASK_S = 0.5  # between two questions
TIMEOUT_S = 10.0


@dataclass(slots=True)
class Tally:
    """What became of the questions so far.

    Attributes:
        last_failure: why the latest of the failed ones failed, or "".
    """

    answered: int = 0
    failed: int = 0
    last_failure: str = ""


@dataclass(slots=True)
class Traffic:
    """Asks a model the same question again and again.

    Attributes:
        api_key: sent as a bearer token.
        endpoints: base URLs that may answer now, without /v1; each is asked until one does.
        ending: set when nothing may be asked any more. What fails after that is not counted:
            whoever would have answered has been told to leave too.
    """

    model: str
    api_key: str
    endpoints: Callable[[], Sequence[str]]
    ending: threading.Event
    interval_s: float = ASK_S
    timeout_s: float = TIMEOUT_S
    tally: Tally = field(default_factory=Tally)

    def run(self) -> None:
        """Ask until the end, from the moment at which there is somebody to ask."""
        while not self.ending.wait(self.interval_s):
            endpoints = self.endpoints()
            if endpoints or self.tally.answered:
                self.ask(endpoints)

    def ask(self, endpoints: Sequence[str]) -> None:
        """Ask one question, and count what became of it."""
        failure = "no replica answers"
        for endpoint in endpoints:
            try:
                answer(endpoint, self.model, self.api_key, self.timeout_s)
            except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
                failure = f"{type(error).__name__}: {error}"[:200]
            else:
                self.tally.answered += 1
                return
        if not self.ending.is_set():
            self.tally.failed += 1
            self.tally.last_failure = failure


def answer(endpoint: str, model: str, api_key: str, timeout_s: float = TIMEOUT_S) -> str:
    """The text that a model answers.

    Raises:
        OSError, HTTPException: nobody answers, or with an error.
        ValueError, LookupError, TypeError: what comes back is no chat completion.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"not an HTTP endpoint: {endpoint!r}")
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {api_key}"}
    url = f"{endpoint.rstrip('/')}/v1/chat/completions"
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (checked above)
    with urlopen(request, timeout=timeout_s) as response:  # noqa: S310 (checked above)
        content: Any = json.load(response)
    return str(content["choices"][0]["message"]["content"])
