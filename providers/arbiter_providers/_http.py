"""A polite HTTP client for price APIs: it waits when asked, retries what may pass, gives up soon.

One `Http` lives for one poll. What fails comes out as a ProviderError of one line that names the
provider and the URL; the query, where keys may travel, is never shown.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from arbiter import __version__
from arbiter.clock import Clock, SystemClock
from arbiter.errors import (
    BadAnswer,
    BadCredentials,
    MissingCredentials,
    ProviderError,
    RateLimited,
    Unreachable,
)
from arbiter.provider import ProviderSettings
from arbiter_providers._http_words import brief, host_of, retry_after, shown

if TYPE_CHECKING:
    from ssl import SSLContext

    import httpx

_T = TypeVar("_T", "Answer", "httpx.Response")

CONNECT_S = 10.0
"""Seconds to wait for a connection, at most."""

PATIENCE_S = 90.0
"""Seconds after which one request is not tried again."""

LONGEST_WAIT_S = 60.0
"""A longer Retry-After is not waited for; it goes to the caller, who has a schedule."""

LARGEST_BODY = 128 * 1024 * 1024
"""Bytes of one answer that is read whole."""

LARGEST_REFUSAL = 64 * 1024
"""Bytes of a refusal's body that are looked at."""

# First wait in seconds, doubled with each attempt: a refused connection is cheap to repeat and
# seldom heals within a poll; a rate limit needs the longest.
_REFUSED_S, _TROUBLE_S, _LIMITED_S = 0.2, 1.0, 4.0
_RETRIED = frozenset({408, 425, 500, 502, 503, 504})


class Rejected(BadAnswer):
    """The API refused this request, and would again.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an API's own words for a refusal mean.

    Attributes:
        error: what it is; a RateLimited is tried again.
        reason: the API's short word for it ("rateLimitExceeded"), shown in brackets.
        hint: what the user can do, or None.
    """

    error: type[ProviderError]
    reason: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer.

    Attributes:
        headers: by their names in lower case.
    """

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is read line by line.

    Attributes:
        status: 200, or 304 where the request was conditional.
        etag: to ask conditionally next time, or None.
        lines: text lines without their end; reading them may raise a ProviderError.
    """

    status: int
    etag: str | None
    lines: Iterator[str]


@dataclass(frozen=True, slots=True)
class _Again:
    """A failure that another attempt may heal: the first wait, and the error if none does."""

    wait_s: float
    error: ProviderError
    exact: bool = False  # the server named the wait


class Http:
    """Asks one provider's API.

    Args:
        provider: name for error lines.
        settings: its `timeout_s` bounds each attempt, its `max_attempts` their number, and its
            `requests_per_minute` spaces all of them out.
        headers: sent with every request; they may carry credentials.
        credentials: what holds the credentials that are sent ("LAMBDA_API_KEY"), or None for a
            public API. It decides how a 401 reads, and credentials are never redirected.
        explain: reads status and body of a refusal, for an API whose status alone does not say
            what it means; None from it leaves the meaning to the status.
        clock, jitter, transport: for tests.
    """

    def __init__(
        self,
        provider: str,
        settings: ProviderSettings,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: str | None = None,
        explain: Callable[[int, bytes], Refusal | None] | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        transport: Any = None,
    ) -> None:
        self._provider = provider
        self._timeout_s = settings.timeout_s
        self._attempts = max(1, settings.max_attempts)
        budget = settings.requests_per_minute
        self._apart = timedelta(seconds=60 / budget if budget else 0)
        self._free_at: datetime | None = None
        self._headers = {"User-Agent": f"arbiter/{__version__}", **(headers or {})}
        self._credentials = credentials
        self._explain = explain
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._transport = transport
        self._client: httpx.Client | None = None
        self._lock = Lock()
        self._answered: set[str] = set()
        self._dead: dict[str, ProviderError] = {}

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of a 2xx answer.

        Args:
            params: query; None keeps the query that the URL already has.

        Raises:
            MissingCredentials, BadCredentials: 401, or 403 where credentials were sent.
            RateLimited: 429 to the last attempt, or a wait asked for that is too long.
            Unreachable: no connection, a timeout, or a 5xx to the last attempt.
            Rejected: any other status that is not 2xx.
            BadAnswer: a body that is too large or cannot be decoded.
        """
        return self.ask(url, params, headers).body

    def ask(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """As `get`, with the headers of the answer: for APIs that page by them."""
        return self._persist(url, lambda: self._once("GET", url, params=params, headers=headers))

    def post(self, url: str, *, json: Any = None, form: Mapping[str, str] | None = None) -> bytes:
        """The body of a 2xx answer to a POST that changes nothing, and so may be repeated.

        Raises:
            ProviderError: as `get`.
        """
        return self._persist(url, lambda: self._once("POST", url, json=json, data=form)).body

    def change(self, method: str, url: str, *, json: Any = None) -> bytes:
        """The body of a 2xx answer to a PUT or DELETE whose repetition changes nothing more.

        Raises:
            ProviderError: as `get`.
        """
        return self._persist(url, lambda: self._once(method, url, json=json)).body

    @contextmanager
    def stream(
        self, url: str, headers: Mapping[str, str] | None = None, *, deadline_s: float
    ) -> Iterator[Stream]:
        """A 200 or 304 answer, read line by line: for files too large to hold.

        Only the opening is retried. A body that breaks off raises Unreachable while it is read.

        Args:
            deadline_s: seconds for the whole body.

        Raises:
            ProviderError: as `get`.
        """
        response = self._persist(url, lambda: self._open(url, headers))
        try:
            lines = self._lines(response, url, time.monotonic() + deadline_s)
            yield Stream(response.status_code, response.headers.get("etag"), lines)
        finally:
            response.close()

    def _persist(self, url: str, attempt: Callable[[], _T | _Again]) -> _T:
        """Repeat an attempt until it answers, or patience ends."""
        host = host_of(url)
        if host in self._dead:
            raise self._dead[host]
        began = self._clock.now()
        for number in range(1, self._attempts + 1):
            self._take_turn()
            outcome = attempt()
            if not isinstance(outcome, _Again):
                return outcome
            error = outcome.error
            wait = self._wait(outcome, number)
            waited = (self._clock.now() - began).total_seconds()
            if wait > LONGEST_WAIT_S or waited + wait > PATIENCE_S or number == self._attempts:
                break
            self._clock.sleep(wait)
        # A host that never answered is not asked again in this poll: ten regions behind a dead
        # address must not mean ten times the wait.
        if host not in self._answered:
            self._dead[host] = error
        raise error

    def _take_turn(self) -> None:
        """Wait until the budget allows another request; those of several threads queue."""
        if not self._apart:
            return
        with self._lock:
            now = self._clock.now()
            mine = max(now, self._free_at or now)
            self._free_at = mine + self._apart
        if mine > now:
            self._clock.sleep((mine - now).total_seconds())

    def _wait(self, outcome: _Again, number: int) -> float:
        if outcome.exact:
            return outcome.wait_s
        longest = min(outcome.wait_s * 2.0 ** (number - 1), LONGEST_WAIT_S)
        return longest * (0.5 + self._jitter() / 2)

    def _once(self, method: str, url: str, **request: Any) -> Answer | _Again:
        import httpx

        deadline = time.monotonic() + self._timeout_s
        try:
            with self._connected().stream(method, url, **request) as response:
                self._answered.add(host_of(url))
                if not response.is_success:
                    return self._refused(response, url)
                body = self._body(response, url, deadline)
                headers = {key.lower(): value for key, value in response.headers.items()}
                return Answer(body, headers)
        except httpx.HTTPError as error:
            return self._broken(error, url)
        except httpx.InvalidURL as error:
            raise BadAnswer(f"{self._provider}: {shown(url)} is not a URL: {error}") from error

    def _open(self, url: str, headers: Mapping[str, str] | None) -> httpx.Response | _Again:
        import httpx

        client = self._connected()
        try:
            response = client.send(client.build_request("GET", url, headers=headers), stream=True)
        except httpx.HTTPError as error:
            return self._broken(error, url)
        except httpx.InvalidURL as error:
            raise BadAnswer(f"{self._provider}: {shown(url)} is not a URL: {error}") from error
        self._answered.add(host_of(url))
        if response.is_success or response.status_code == 304:
            return response
        try:
            return self._refused(response, url)
        finally:
            response.close()

    def _body(self, response: httpx.Response, url: str, deadline: float) -> bytes:
        import httpx

        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            if size > LARGEST_BODY:
                limit = LARGEST_BODY // 2**20
                raise BadAnswer(f"{self._provider}: {shown(url)} sent more than {limit} MiB")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer came too slowly")
            parts.append(part)
        return b"".join(parts)

    def _lines(self, response: httpx.Response, url: str, deadline: float) -> Iterator[str]:
        import httpx

        try:
            for line in response.iter_lines():
                if time.monotonic() > deadline:
                    raise Unreachable(f"{self._provider}: {shown(url)} came too slowly")
                yield line
        except httpx.HTTPError as error:
            broken = self._broken(error, url)
            raise broken.error from error

    def _broken(self, error: httpx.HTTPError, url: str) -> _Again:
        import httpx

        if isinstance(error, httpx.UnsupportedProtocol):
            text = f"{self._provider}: the endpoint {shown(url)} is not an http or https URL"
            raise BadAnswer(text, f"correct providers.{self._provider}.endpoint") from error
        if isinstance(error, httpx.DecodingError | httpx.TooManyRedirects):
            raise BadAnswer(f"{self._provider}: {shown(url)}: {brief(error)}") from error
        if isinstance(error, httpx.TimeoutException):
            text = f"{self._provider}: no answer from {shown(url)} within {self._timeout_s:g} s"
            return _Again(_TROUBLE_S, Unreachable(text))
        text = f"{self._provider}: {shown(url)} cannot be reached: {brief(error)}"
        first = _REFUSED_S if isinstance(error, httpx.ConnectError) else _TROUBLE_S
        return _Again(first, Unreachable(text))

    def _refused(self, response: httpx.Response, url: str) -> _Again:
        status = response.status_code
        text = f"{self._provider}: {shown(url)} answered {status} {response.reason_phrase}".rstrip()
        asked = retry_after(response.headers.get("retry-after"), self._clock.now())
        exact = asked is not None
        told = self._explain(status, _beginning(response)) if self._explain else None
        if told is not None:
            text = f"{text} ({told.reason})"
            if told.error is not RateLimited:
                raise told.error(text, told.hint)
        if status == 429 or told is not None:
            return _Again(asked if asked else _LIMITED_S, RateLimited(text, None, asked), exact)
        if status in _RETRIED and asked is not None and asked > LONGEST_WAIT_S:
            return _Again(asked, RateLimited(text, None, asked), exact)  # no sooner than it says
        if status in _RETRIED:
            return _Again(asked if asked else _TROUBLE_S, Unreachable(text), exact)
        if status in (401, 403) and self._credentials is not None:
            raise BadCredentials(text, f"check {self._credentials}")
        if status == 401:
            raise MissingCredentials(text)
        raise Rejected(text, status)

    def _connected(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    headers=self._headers,
                    timeout=httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, CONNECT_S)),
                    follow_redirects=self._credentials is None,
                    max_redirects=3,
                    verify=_certificates(),
                    transport=self._transport,
                    # A stand-in on this machine is never behind the proxy of the network.
                    mounts={"all://127.0.0.1": None, "all://localhost": None},
                )
            return self._client


def _beginning(response: httpx.Response) -> bytes:
    """The first bytes of a refusal's body."""
    parts = b""
    for part in response.iter_bytes():
        parts += part
        if len(parts) >= LARGEST_REFUSAL:
            break
    return parts[:LARGEST_REFUSAL]


@cache
def _certificates() -> SSLContext:
    """The authorities that are trusted, read once: to read them takes longer than most polls."""
    import httpx

    return httpx.create_ssl_context()
