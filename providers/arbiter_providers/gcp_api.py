"""Asking GCP's REST APIs: their pages, their words for a refusal, and one question many times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Any

import msgspec

from arbiter.clock import Clock
from arbiter.errors import BadAnswer, BadCredentials, ProviderError, RateLimited
from arbiter.provider import Progress
from arbiter.typed import decode
from arbiter_providers._http import Http, Refusal, Rejected
from arbiter_providers.gcp_machines import Machine

MOST_PAGES = 200
"""Pages of one list; the price list has about ten."""

WORKERS = 8
"""Questions for advice under way at once."""

Pair = tuple[str, Machine]
"""A region and a machine that may stand in it."""


# --- refusals ---------------------------------------------------------------------------------


class _Detail(msgspec.Struct):
    reason: str = ""


class _Error(msgspec.Struct):
    status: str = ""
    errors: list[_Detail] = msgspec.field(default_factory=list)
    details: list[_Detail] = msgspec.field(default_factory=list)


class _Refused(msgspec.Struct):
    error: _Error


_LIMITED = frozenset(
    {"RATELIMITEXCEEDED", "USERRATELIMITEXCEEDED", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
)
_OFF = frozenset({"SERVICE_DISABLED", "ACCESSNOTCONFIGURED"})


def explain(status: int, body: bytes) -> Refusal | None:
    """What Google means by a refusal: the status alone does not tell a bad key from a bad request,
    nor a rate limit from a missing permission. Its sentence may hold the key and is not repeated.
    """
    try:
        error = decode(body, _Refused).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    words = [detail.reason for detail in (*error.details, *error.errors)] + [error.status]
    reasons = [word for word in words if re.fullmatch(r"[A-Za-z_]{3,60}", word)]
    for reason in reasons:
        word = reason.upper()
        if word in _LIMITED and status in (403, 429):
            return Refusal(RateLimited, reason)
        if word.startswith(("API_KEY_", "KEYINVALID", "KEYEXPIRED")):
            return Refusal(BadCredentials, reason, "check the API key and its restrictions")
        if word in _OFF:
            return Refusal(BadCredentials, reason, "enable the API for the project")
    return None


# --- pages ------------------------------------------------------------------------------------


def all_pages(
    http: Http,
    url: str,
    query: Mapping[str, str],
    next_token: Callable[[bytes], str],
    progress: Callable[[int], None],
) -> tuple[list[bytes], ProviderError | None]:
    """The pages of a list, and what broke it off, if anything did.

    Args:
        next_token: the token of the page after this one, "" on the last.
        progress: told the number of pages so far.

    Raises:
        ProviderError: not even the first page came.
    """
    bodies: list[bytes] = []
    token, seen = "", {""}
    while True:
        try:
            body = http.get(url, {**query, "pageToken": token} if token else query)
            token = next_token(body)
        except ProviderError as error:
            if not bodies:
                raise
            return bodies, error
        bodies.append(body)
        progress(len(bodies))
        if not token:
            return bodies, None
        if token in seen or len(bodies) == MOST_PAGES:
            return bodies, BadAnswer("gcp: the pages of a list do not end")
        seen.add(token)


# --- advice -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Advised:
    """The answers to one question about many machines.

    Attributes:
        answers: {"region", "machine_type", "answer"} each.
        failure: what broke it off; the pairs after it were not asked about.
        without: how many pairs the API has nothing to say of.
    """

    answers: list[dict[str, Any]]
    failure: ProviderError | None
    without: int

    @property
    def body(self) -> dict[str, Any]:
        """As the body of a page."""
        return {"answers": self.answers, "whole": self.failure is None and bool(self.answers)}


class Compute:
    """Compute Engine, asked about one project.

    Args:
        base: scheme and host.
    """

    def __init__(self, http: Http, base: str, project: str, clock: Clock) -> None:
        self._http = http
        self._base = base
        self._project = project
        self._clock = clock
        self._version = "v1"

    def listed(
        self, kind: str, query: Mapping[str, str], next_token: Callable[[bytes], str]
    ) -> list[bytes]:
        """All pages of an aggregated list ("machineTypes").

        Raises:
            ProviderError: it did not come, or not to its end.
        """
        url = f"{self._base}/compute/v1/projects/{self._project}/aggregated/{kind}"
        fixed = {"maxResults": "500", "returnPartialSuccess": "true"}
        bodies, cut = all_pages(self._http, url, {**fixed, **query}, next_token, lambda _: None)
        if cut is not None:
            raise cut
        return bodies

    def advise(
        self,
        method: str,
        pairs: Sequence[Pair],
        question: Callable[[Pair], dict[str, Any]],
        progress: Progress,
        *,
        within: timedelta | None = None,
    ) -> Advised:
        """Ask about every pair. The first failure that is not about one pair alone ends it.

        Args:
            within: time for all of it; None waits for the last.
        """
        stop = Event()
        ends = self._clock.now() + within if within else None

        def ask(pair: Pair) -> bytes | ProviderError | None:
            if stop.is_set():
                return None
            if ends is not None and self._clock.now() > ends:
                return BadAnswer("gcp: no time left")
            try:
                return self._advice(method, pair[0], question(pair))
            except Rejected as error:
                return error
            except ProviderError as error:
                stop.set()
                return error

        answers: list[dict[str, Any]] = []
        failures: list[ProviderError] = []
        refused: list[Rejected] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            for number, (pair, said) in enumerate(zip(pairs, pool.map(ask, pairs), strict=True)):
                if isinstance(said, bytes):
                    region, machine = pair
                    answers.append({"region": region, "machine_type": machine.name, "answer": said})
                elif isinstance(said, Rejected) and said.status in (400, 404):
                    refused.append(said)
                elif said is not None:
                    failures.append(said)
                if number % 20 == 0:
                    progress(f"{method}, {number + 1} of {len(pairs)}")
        if not answers and not failures:
            failures += refused
        return Advised(answers, failures[0] if failures else None, len(refused))

    def _advice(self, method: str, region: str, question: dict[str, Any]) -> bytes:
        """One answer. Where v1 does not know the method, beta is asked, which had it first."""
        try:
            return self._post(self._version, method, region, question)
        except Rejected as error:
            if error.status != 404 or self._version == "beta":
                raise
            try:
                body = self._post("beta", method, region, question)
            except ProviderError:
                raise error from None
            self._version = "beta"
            return body

    def _post(self, version: str, method: str, region: str, question: dict[str, Any]) -> bytes:
        path = f"projects/{self._project}/regions/{region}/advice/{method}"
        body = self._http.post(f"{self._base}/compute/{version}/{path}", json=question)
        try:
            decode(body, dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise BadAnswer(f"gcp: {method} answered what is not its format") from None
        return body
