"""Fakes with memory, public for authors of providers and for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A clock that stands until it is moved; sleeping moves it."""

    def __init__(self, start: datetime = datetime(2026, 11, 1, tzinfo=UTC)) -> None:
        self._now = start
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The instant the clock shows."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on at once, and remember for how long."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock; a negative figure moves it back."""
        self._now += timedelta(seconds=seconds)
