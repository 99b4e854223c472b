"""When something that changes slowly is asked for again, beside prices that change quickly."""

from __future__ import annotations

from datetime import datetime, timedelta

from arbiter.clock import Clock
from arbiter.errors import ProviderError
from arbiter.provider import ProviderSettings

LONGEST_S = 10.0
"""Seconds that a request beside the prices may take, and with it delay them."""

AFTER_FAILURE = timedelta(minutes=30)


class Rhythm:
    """Remembers when one thing was last asked for, and how that went.

    Lives as long as its provider. A failure stays known, as a reason to show at every poll, until
    the next try; it never stops anything.
    """

    def __init__(self, clock: Clock, every: timedelta) -> None:
        self._clock = clock
        self._every = every
        self._next: datetime | None = None
        self._failure: str | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to ask."""
        return self._next is None or self._clock.now() >= self._next

    @property
    def notes(self) -> tuple[str, ...]:
        """Why it is missing, if the last try failed."""
        return () if self._failure is None else (self._failure,)

    def succeeded(self) -> None:
        """The next try is a full period away."""
        self._next, self._failure = self._clock.now() + self._every, None

    def failed(self, what: str, error: ProviderError) -> None:
        """The next try is soon, though not at the next poll."""
        self._next = self._clock.now() + min(self._every, AFTER_FAILURE)
        self._failure = f"{what}: {error.message}"


def wanted(settings: ProviderSettings) -> bool:
    """Whether signals are asked for at all: `options.signals`, true unless it says otherwise."""
    said = str(settings.options.get("signals", True)).strip().lower()
    return said not in ("false", "no", "off", "0")


def hurried(settings: ProviderSettings) -> ProviderSettings:
    """The settings for a request beside the prices: one try, and a short one."""
    from dataclasses import replace

    return replace(settings, timeout_s=min(settings.timeout_s, LONGEST_S), max_attempts=1)
