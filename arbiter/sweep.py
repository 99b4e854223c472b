"""Sweep: machines that carry our tag and that no service knows. They cost money for nothing.

Two lists are asked: the executor's, of clusters, and each provider's own, of machines. The second
finds what the executor has forgotten and the provider still charges for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from arbiter.endings import Endings
from arbiter.errors import ArbiterError
from arbiter.inventory import Machine, Survey, Surveyor, no_inventories, prices, unowned
from arbiter.money import Price
from arbiter.store import fleet, journal
from arbiter.tools import Tools
from arbiter.troubles import Troubles

SWEEP_EVERY = timedelta(minutes=5)
"""How often both lists are asked for."""


class Sweep:
    """Asks now and then for everything that runs under our name.

    Args:
        owner: identity of this arbiter; machines of another are never touched.

    Attributes:
        paid: cluster -> what its provider charges an hour, where it tells, as of the last look.
    """

    def __init__(self, tools: Tools, owner: str, troubles: Troubles, endings: Endings) -> None:
        self.paid: dict[str, Price] = {}
        self._tools = tools
        self._owner = owner
        self._troubles = troubles
        self._of_clusters = endings
        self._surveyor = Surveyor(tools.inventories)
        self._machines: dict[str, Machine] = {}
        self._of_machines = Endings(_Machines(self._surveyor, self._machines))
        self._clusters: set[str] = set()
        self._failing: set[str] = set()
        self._swept_at: datetime | None = None
        self._being_ended: set[str] = set()

    def sweep(self) -> None:
        """Report what nobody owns, and end it if the settings say so and it was seen before."""
        now = self._tools.clock.now()
        self._go_on_ending()
        if self._swept_at is None or abs(now - self._swept_at) >= SWEEP_EVERY:
            self._swept_at = now
            self._look_at_clusters()
            self._begin_survey()
        survey = self._surveyor.taken()
        if survey is not None:
            self._look_at_machines(survey)

    def _look_at_clusters(self) -> None:
        """The executor's list."""
        try:
            running = set(self._tools.executor.inventory(self._owner))
        except ArbiterError as error:
            self._troubles.note("sweep_failed", f"the machines could not be listed: {error}")
            return
        self._troubles.over("sweep_failed")
        self._clusters = running
        with self._tools.store.read() as connection:
            known = {one.cluster for one in fleet.replicas(connection, self._tools.atlas)}
            before = journal.orphans(connection)
        kept = {name: times for name, times in before.items() if _is_machine(name)}
        lost = {name: before.get(name, 0) + 1 for name in sorted(running - known)}
        self._take(before, {**kept, **lost}, lost)

    def _begin_survey(self) -> None:
        if self._tools.inventories is no_inventories:
            return
        with self._tools.store.read() as connection:
            places = fleet.launched_in(connection)
        self._surveyor.begin(self._owner, places)

    def _look_at_machines(self, survey: Survey) -> None:
        """The providers' own lists. What did not answer is neither found nor gone."""
        for provider in self._failing - survey.failed.keys():
            self._troubles.over("inventory_failed", None, provider)
        for provider, why in survey.failed.items():
            sentence = f"what {provider} itself has running could not be listed: {why}"
            self._troubles.note("inventory_failed", sentence, None, provider)
        self._failing = set(survey.failed)
        with self._tools.store.read() as connection:
            replicas = fleet.replicas(connection, self._tools.atlas)
            before = journal.orphans(connection)
        clusters = {one.cluster for one in replicas} | self._clusters
        self.paid = prices(survey.machines, self._owner, clusters)
        found = unowned(survey.machines, self._owner, clusters)
        self._machines.update(found)
        kept = {
            name: times
            for name, times in before.items()
            if not _is_machine(name) or name.partition("/")[0] in survey.failed
        }
        lost = {key: before.get(key, 0) + 1 for key in sorted(found)}
        self._take(before, {**kept, **lost}, lost)

    def _take(self, before: dict[str, int], found: dict[str, int], lost: dict[str, int]) -> None:
        """Write down what nobody owns now, and act on what was seen in this list."""
        for name in before.keys() - found.keys():
            self._troubles.over("orphan", None, name)
        if found != before:
            with self._tools.store.begin() as connection:
                journal.keep_orphans(connection, found)
        for name, times in lost.items():
            self._report(name, times)

    def _report(self, name: str, times: int) -> None:
        if not self._tools.fleet.end_orphans:
            what = "end it where it runs, or set fleet.end_orphans"
        else:
            what = "it is ended when it is seen again"
            if times > 1:
                self._being_ended.add(name)
                self._go_on_ending()
                return
        sentence = f"{self._named(name)} runs and belongs to no service; {what}"
        self._troubles.note("orphan", sentence, None, name)

    def _go_on_ending(self) -> None:
        for name in sorted(self._being_ended):
            endings = self._of_machines if _is_machine(name) else self._of_clusters
            try:
                if not endings.ended(name):
                    continue
            except ArbiterError as error:
                sentence = f"{self._named(name)}, which nobody owns, was not ended: {error}"
                self._troubles.note("orphan", sentence, None, name)
                continue
            self._being_ended.discard(name)
            sentence = f"{self._named(name)} ran, belonged to no service, and was ended"
            self._troubles.note("orphan_ended", sentence, None, name)
            self._troubles.over("orphan_ended", None, name)
            self._troubles.over("orphan", None, name)

    def _named(self, name: str) -> str:
        machine = self._machines.get(name)
        cluster = machine and (machine.cluster or machine.name)
        return f"{name} ({cluster})" if cluster else name


class _Machines:
    """Ends machines by their keys."""

    def __init__(self, surveyor: Surveyor, machines: dict[str, Machine]) -> None:
        self._surveyor = surveyor
        self._machines = machines

    def terminate(self, cluster: str) -> None:
        """End the machine of that key."""
        self._surveyor.end(self._machines[cluster])


def _is_machine(name: str) -> bool:
    """Whether an orphan is a provider's machine; a cluster's name has no slash."""
    return "/" in name
