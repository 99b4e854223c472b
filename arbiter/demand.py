"""How many tokens a second are asked of a service at its busiest, as far as was counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from arbiter.clock import Clock
from arbiter.store.engine import Store
from arbiter.store.served import SPAN_S, Peak, peak

BACK = timedelta(days=7)
"""So far back is looked: offices have weekends."""

KNOWN_S = 86_400.0
"""Less than a day that was counted says nothing of the busiest hour."""

SATURATED_S = 300.0
"""A service whose replicas had all the work that they can do for longer was asked for more than it
made: how much more is not known."""


class Demand:
    """Looks it up, once in five minutes for each service.

    A service whose demand is not known is ranked by what its machines can make.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._known: dict[str, tuple[datetime, float | None]] = {}

    def of(self, service: str) -> float | None:
        """Output tokens per second over all replicas; None where it is not known.

        Raises:
            StoreError: the database failed.
        """
        seconds = int(self._clock.now().timestamp())
        until = datetime.fromtimestamp(seconds - seconds % SPAN_S, UTC)
        known = self._known.get(service)
        if known is None or known[0] != until:
            with self._store.read() as connection:
                found = peak(connection, service, until - BACK, until)
            known = self._known[service] = (until, _asked(found))
        return known[1]


def _asked(found: Peak | None) -> float | None:
    if found is None or found.counted_s < KNOWN_S or found.saturated_s > SATURATED_S:
        return None
    return round(found.tokens_per_s, 1)
