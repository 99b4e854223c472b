"""Sweep: machines that carry our tag and that no service knows. They cost money for nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from arbiter.endings import Endings
from arbiter.errors import ArbiterError
from arbiter.store import fleet, journal
from arbiter.tools import Tools
from arbiter.troubles import Troubles

SWEEP_EVERY = timedelta(minutes=5)
"""How often the executor is asked for everything that runs under our name."""


class Sweep:
    """Asks now and then for everything that runs under our name.

    Args:
        owner: identity of this arbiter; machines of another are never touched.
    """

    def __init__(self, tools: Tools, owner: str, troubles: Troubles, endings: Endings) -> None:
        self._tools = tools
        self._owner = owner
        self._troubles = troubles
        self._endings = endings
        self._swept_at: datetime | None = None
        self._being_ended: set[str] = set()

    def sweep(self) -> None:
        """Report what nobody owns, and end it if the settings say so and it was seen before."""
        now = self._tools.clock.now()
        self._go_on_ending()
        if self._swept_at is not None and abs(now - self._swept_at) < SWEEP_EVERY:
            return
        self._swept_at = now
        try:
            running = set(self._tools.executor.inventory(self._owner))
        except ArbiterError as error:
            self._troubles.note("sweep_failed", f"the machines could not be listed: {error}")
            return
        self._troubles.over("sweep_failed")
        with self._tools.store.read() as connection:
            known = {one.cluster for one in fleet.replicas(connection, self._tools.atlas)}
            before = journal.orphans(connection)
        found = {cluster: before.get(cluster, 0) + 1 for cluster in sorted(running - known)}
        for cluster in before.keys() - found.keys():
            self._troubles.over("orphan", None, cluster)
        if found != before:
            self._keep(found)
        for cluster, times in found.items():
            self._report(cluster, times)

    def _report(self, cluster: str, times: int) -> None:
        if not self._tools.fleet.end_orphans:
            what = "end it where it runs, or set fleet.end_orphans"
        else:
            what = "it is ended when it is seen again"
            if times > 1:
                self._being_ended.add(cluster)
                self._go_on_ending()
                return
        sentence = f"{cluster} runs and belongs to no service; {what}"
        self._troubles.note("orphan", sentence, None, cluster)

    def _go_on_ending(self) -> None:
        for cluster in sorted(self._being_ended):
            try:
                if not self._endings.ended(cluster):
                    continue
            except ArbiterError as error:
                sentence = f"{cluster}, which nobody owns, was not ended: {error}"
                self._troubles.note("orphan", sentence, None, cluster)
                continue
            self._being_ended.discard(cluster)
            sentence = f"{cluster} ran, belonged to no service, and was ended"
            self._troubles.note("orphan_ended", sentence, None, cluster)
            self._troubles.over("orphan_ended", None, cluster)
            self._troubles.over("orphan", None, cluster)

    def _keep(self, found: dict[str, int]) -> None:
        with self._tools.store.begin() as connection:
            journal.keep_orphans(connection, found)
