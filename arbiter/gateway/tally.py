"""What passed through the gateway, over all its processes, also those that are gone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from arbiter.errors import GatewayError
from arbiter.gateway.process import Run
from arbiter.gateway.state import Counted, State

FIGURES = ("requests", "errors", "retried", "cut")

_STATS = {
    "upstream_rq_completed": "requests",
    "upstream_rq_5xx": "errors",
    "upstream_rq_retry": "retried",
}
_PREFIX = "vhost.clients.route."
_PATTERN = rf"^{_PREFIX.replace('.', '[.]')}.*[.]({'|'.join(_STATS)})$"


class Tally:
    """Counts that never fall: what a process had counted stays when it is gone.

    Of one that died, that is what it was last seen to have counted.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._last: dict[str, Counted] = {}
        self._lock = threading.Lock()

    def total(self, running: Sequence[Run]) -> Counted:
        """(service, figure) -> number.

        Raises:
            GatewayError: a process does not answer.
        """
        with self._lock:
            self._fold({run.path.name for run in running})
            for run in running:
                self._last[run.path.name] = _counted(run)
            return sum(self._last.values(), start=self._state.past())

    def keep(self, run: Run) -> None:
        """Count a process for the last time, before it is ended."""
        with self._lock:
            with suppress(GatewayError):
                self._last[run.path.name] = _counted(run)
            self._fold(self._last.keys() - {run.path.name})

    def _fold(self, running: Collection[str]) -> None:
        """Add the last counts of processes that are gone to those of the past."""
        gone = [name for name in self._last if name not in running]
        if gone:
            past = sum((self._last.pop(name) for name in gone), start=self._state.past())
            self._state.keep_past(past)


def numbers(stats: Mapping[str, int | str]) -> dict[str, int]:
    """The statistics that are numbers."""
    return {name: value for name, value in stats.items() if isinstance(value, int)}


def _counted(run: Run) -> Counted:
    """What one process has counted."""
    found: Counted = Counter()
    for name, value in numbers(run.admin.stats(_PATTERN)).items():
        service, _, stat = name.removeprefix(_PREFIX).rpartition(".")
        found[service, _STATS[stat]] += value
    for service in run.cuts():
        found[service, "cut"] += 1
    return found
