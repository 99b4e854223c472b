"""A little traffic, so that the demo shows answers being served."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

QUESTION = "Where are you running, and what do you cost?"


@dataclass(slots=True)
class Tally:
    """What became of the requests so far.

    Attributes:
        last_failure: why the latest of the failed ones failed, or "".
    """

    answered: int = 0
    failed: int = 0
    last_failure: str = ""


class Load:
    """Asks an OpenAI endpoint the same question again and again.

    Args:
        endpoint: base URL, without /v1.
        api_key: sent as a bearer token where given.
        timeout_s: seconds that an answer may take.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        api_key: str | None = None,
        *,
        interval_s: float = 2.0,
        timeout_s: float = 30.0,
    ) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"not an HTTP endpoint: {endpoint!r}")
        self.tally = Tally()
        self._url = f"{endpoint.rstrip('/')}/v1/chat/completions"
        self._model = model
        self._api_key = api_key
        self._interval_s = interval_s
        self._timeout_s = timeout_s

    def ask(self) -> str | None:
        """Ask once, count the outcome, and return the answer's text, or None when it failed."""
        try:
            text = self._answer()
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as failure:
            self.tally.failed += 1
            self.tally.last_failure = f"{type(failure).__name__}: {failure}"[:200]
            return None
        self.tally.answered += 1
        return text

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        while not stop.is_set():
            self.ask()
            stop.wait(self._interval_s)

    def _answer(self) -> str:
        body = {"model": self._model, "messages": [{"role": "user", "content": QUESTION}]}
        headers = {"Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = Request(self._url, json.dumps(body).encode(), headers)  # noqa: S310 (checked)
        with urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 (checked above)
            content: Any = json.load(answer)
        return str(content["choices"][0]["message"]["content"])
