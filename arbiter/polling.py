"""When each provider is polled, and for how long it may take: no provider ever waits for another.

A poll that fails is soon repeated, at growing intervals. After `OPEN_AFTER` failures in a row the
circuit opens: the provider is left alone, shown as degraded with the time of the next try, and a
single poll then decides whether it closes. A wait that the provider asks for is always kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from arbiter.clock import Clock
from arbiter.errors import StoreError
from arbiter.gatekeeper import Gatekeeper
from arbiter.ingest import Asker, clock_time, record
from arbiter.provider import Provider
from arbiter.provider_settings import ProviderSettings
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow
from arbiter.store.turns import Turn, write_turn

FIRST_S = 30.0
"""Seconds after the first failure; doubled with each, up to the provider's interval."""

OPEN_AFTER = 5
"""Failures in a row that open the circuit."""

LONGEST_S = 3600.0
"""Seconds, at most, for which an open circuit leaves a provider alone; its own interval where that
is longer."""

LONGEST_ASKED_S = 86_400.0
"""Seconds, at most, that a provider's own wish is believed."""

NOTE_EVERY_S = 5.0
"""Seconds between two notes of how far a poll has come."""


class Circuit(StrEnum):
    """Whether a provider is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Cadence:
    """When one provider is polled next. Knows no clock: it is told the time.

    Args:
        seed: the same for all providers of one arbiter, another for every arbiter.
        before: how its polling stood when an earlier process ended.
    """

    def __init__(
        self, provider: str, settings: ProviderSettings, seed: str = "", before: Turn | None = None
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._seed = seed
        self._polls = 0
        self.failures = before.failures if before else 0
        self.asked_until = before.asked_until if before else None
        self.next_at = before.next_at if before and self.is_open else self.asked_until

    @property
    def is_open(self) -> bool:
        """Whether the provider has failed so often that it is left alone between two tries."""
        return self.failures >= OPEN_AFTER

    def circuit(self, now: datetime) -> Circuit:
        """The state in one word."""
        if not self.is_open:
            return Circuit.CLOSED
        waiting = self.next_at is not None and now < self.next_at
        return Circuit.OPEN if waiting else Circuit.HALF_OPEN

    def heard(self, row: PollRow, now: datetime) -> datetime:
        """A poll has ended so; returns when the next one is."""
        self._polls += 1
        self.failures = self.failures + 1 if row.state == "failed" else 0
        self.asked_until = None
        self.next_at = now + timedelta(seconds=self._wait_s())
        if row.wait_s is not None:
            self.asked_until = now + timedelta(seconds=min(row.wait_s, LONGEST_ASKED_S))
            self.next_at = max(self.next_at, self.asked_until)
        return self.next_at

    def wait_s(self, now: datetime) -> float:
        """Seconds until the next poll; 0 where it is due."""
        return 0.0 if self.next_at is None else max(0.0, (self.next_at - now).total_seconds())

    def _wait_s(self) -> float:
        interval = self._settings.interval_s
        if self.is_open:
            longest = max(interval, LONGEST_S)
            wait = min(interval * 2.0 ** min(self.failures - OPEN_AFTER, 30), longest)
        elif self.failures:
            wait = min(FIRST_S * 2.0 ** (self.failures - 1), interval)
        else:
            wait = interval
        return wait * (1 + self._settings.jitter * self._swing())

    def _swing(self) -> float:
        """From -1 to 1: spread evenly, and the same for the same poll of the same arbiter."""
        drawn = sha256(f"{self._seed}|{self._provider}|{self._polls}".encode()).digest()
        return int.from_bytes(drawn[:8]) / 2**63 - 1


class Poller:
    """Polls one provider in its own time.

    Args:
        heard: gets every poll's account, after it is stored.
        seed, before: as of `Cadence`.
    """

    def __init__(
        self,
        provider: Provider,
        settings: ProviderSettings,
        store: Store,
        clock: Clock,
        heard: Callable[[PollRow], None] = lambda _row: None,
        *,
        seed: str = "",
        before: Turn | None = None,
    ) -> None:
        self._name = provider.name
        self._settings = settings
        self._store = store
        self._clock = clock
        self._heard = heard
        self._asker = Asker(provider, clock, settings.deadline_s)
        self._keeper = Gatekeeper(provider.name)
        self._noted_at: datetime | None = None
        self.cadence = Cadence(provider.name, settings, seed, before)

    def poll(self) -> PollRow:
        """Poll once, store it, and settle when the next poll is.

        Raises:
            StoreError: the database failed; nothing of this poll was written.
        """
        began = self._clock.now()
        circuit = self.cadence.circuit(began)
        circuit = Circuit.HALF_OPEN if circuit is not Circuit.CLOSED else circuit

        def note(text: str) -> None:
            now = self._clock.now()
            if self._noted_at and (now - self._noted_at).total_seconds() < NOTE_EVERY_S:
                return
            self._noted_at = now
            self._write(
                Turn(self._name, circuit.value, self.cadence.failures, None, began, None, text)
            )

        self._noted_at = None
        note("")
        brought = self._asker.ask(note)
        now = self._clock.now()
        next_at = self.cadence.heard(brought.row, now)
        row = self._told(brought.row, next_at)
        try:
            row = record(
                replace(brought, row=row), self._store, self._asker.book, self._keeper, self._clock
            )
        finally:
            self._write(self.turn())
        self._heard(row)
        return row

    def wait_s(self) -> float:
        """Seconds until the next poll."""
        return self.cadence.wait_s(self._clock.now())

    def turn(self) -> Turn:
        """How the polling stands between two polls."""
        cadence = self.cadence
        circuit = cadence.circuit(self._clock.now()).value
        return Turn(
            self._name, circuit, cadence.failures, cadence.next_at, None, cadence.asked_until
        )

    def _told(self, row: PollRow, next_at: datetime) -> PollRow:
        """With when it is tried again, where that is not at its next ordinary turn."""
        if self.cadence.is_open:
            failures = self.cadence.failures
            why = f"failed {failures} times in a row, not asked again before {clock_time(next_at)}"
        elif self.cadence.asked_until is not None:
            why = f"asked to be left alone until {clock_time(self.cadence.asked_until)}"
        else:
            return row
        return replace(row, reasons=(*row.reasons, why))

    def _write(self, turn: Turn) -> None:
        try:
            with self._store.begin() as connection:
                write_turn(connection, turn)
        except StoreError:
            return  # it is for the screen alone; the poll itself tells what the database says
