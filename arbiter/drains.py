"""When a drain is over: the gateway says that nothing is answered any more, or its time is up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from arbiter.domain import Replica
from arbiter.routing import Routing


class Drains:
    """The drains that go on, timed on a clock that nobody sets.

    Args:
        monotonic: seconds.
    """

    def __init__(self, routing: Routing, monotonic: Callable[[], float]) -> None:
        self._routing = routing
        self._monotonic = monotonic
        self._began: dict[str, tuple[datetime, float]] = {}

    def begin(self, replica: Replica) -> None:
        """A drain begins now."""
        self._began[replica.cluster] = (replica.changed_at, self._monotonic())

    def over(self, replica: Replica, now: datetime, drain_s: float) -> bool | None:
        """Whether a draining replica may be ended; None where the gateway cannot tell.

        Args:
            drain_s: for so long its answers may go on.
        """
        idle = self._routing.idle(replica.service, replica.cluster)
        if idle is not False:
            return idle
        known = self._began.get(replica.cluster)
        if known is None or known[0] != replica.changed_at:
            # Begun before this program: by the clock, as far as that makes sense.
            waited = min(max(0.0, (now - replica.changed_at).total_seconds()), drain_s)
            known = (replica.changed_at, self._monotonic() - waited)
            self._began = {
                name: one for name, one in self._began.items() if name != replica.cluster
            }
            self._began[replica.cluster] = known
        return self._monotonic() - known[1] >= drain_s
