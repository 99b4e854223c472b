"""Does to the demo's replicas what the market says: closes places, and takes machines away."""

from __future__ import annotations

from datetime import datetime

from arbiter.demo.market import Happening
from arbiter.demo.replay import Replay
from arbiter.domain import OfferKey
from arbiter.executors.local import LocalExecutor


class Reclaims:
    """Carries the events of a replay over to a local executor.

    Args:
        since: events up to this instant are taken as done.
    """

    def __init__(self, replay: Replay, executor: LocalExecutor, since: datetime) -> None:
        self._replay = replay
        self._executor = executor
        self._since = since
        self._closed: frozenset[OfferKey] | None = None

    def apply(self, now: datetime) -> list[str]:
        """Bring the executor up to now.

        Returns:
            The clusters that were taken away.
        """
        closed = self._replay.closed_at(now)
        if closed != self._closed:
            self._executor.set_capacity({str(key): "none" for key in sorted(closed, key=str)})
            self._closed = closed
        events = self._replay.events_between(self._since, now)
        self._since = now
        hit = {event.key for event in events if event.happening is Happening.RECLAIM}
        standing = self._executor.standing() if hit else {}
        return [
            cluster
            for cluster, key in standing.items()
            if key in hit and self._executor.reclaim(cluster)
        ]
