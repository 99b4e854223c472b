"""Count: what a service's servers say of their load, read and kept."""

from __future__ import annotations

from collections.abc import Mapping

from arbiter.counters import Window, window
from arbiter.domain import Service
from arbiter.profiles import Profile
from arbiter.store.served import Reading, readings, write_reading
from arbiter.tools import Tools

SHORTEST_S = 5.0
"""Between two readings; a shorter window tells more of chance than of the server."""


class Counting:
    """Reads the counters of servers that answer."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def count(self, service: Service, profile: Profile, endpoints: Mapping[str, str]) -> None:
        """Read the counters, and write them with what happened since the last reading.

        A server that does not tell leaves no mark: what it made until its next reading counts then.

        Args:
            endpoints: of the replicas that answer, cluster -> base URL.

        Raises:
            StoreError: the database failed.
        """
        tools = self._tools
        with tools.store.read() as connection:
            before = readings(connection, service.name)
        due = {
            cluster: url
            for cluster, url in endpoints.items()
            if cluster not in before or self._is_due(before[cluster])
        }
        found = tools.counters.read(due, tools.clock.now())
        seen: list[tuple[Reading, Window | None]] = []
        for cluster, counters in found.items():
            last = before.get(cluster)
            past = (
                None
                if last is None
                else window(last.counters, counters, profile.workload.concurrency)
            )
            rate = None if past is None else past.tokens_per_s
            seen.append((Reading(cluster, service.name, counters, rate), past))
        if seen:
            with tools.store.begin() as connection:
                for reading, past in seen:
                    write_reading(connection, reading, past)

    def _is_due(self, last: Reading) -> bool:
        """Also where the last reading is dated ahead: the clock was set back."""
        age = (self._tools.clock.now() - last.counters.at).total_seconds()
        return not 0 <= age < SHORTEST_S
