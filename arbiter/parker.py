"""Park: a drained machine is stopped instead of ended, and only then written down as parked."""

from __future__ import annotations

from dataclasses import replace

from arbiter.domain import Action, ActionState, Replica, ReplicaState, Service
from arbiter.endings import Endings
from arbiter.errors import ArbiterError
from arbiter.executors.base import Executor, Phase
from arbiter.store import fleet, journal, parking
from arbiter.tools import Tools
from arbiter.troubles import Troubles


class Parker:
    """Stops machines. A stop that fails is tried again until the planner has the machine ended."""

    def __init__(self, tools: Tools, troubles: Troubles) -> None:
        self._tools = tools
        self._store = tools.store
        self._now = tools.clock.now
        self._troubles = troubles
        self._stops = Endings(_Stops(tools.executor))

    def park(self, action: Action, service: Service, decision_id: str | None) -> None:
        """Stop a machine, as far as that goes now."""
        with self._store.read() as connection:
            current = fleet.find_replica(connection, self._tools.atlas, action.cluster)
        if current is None or current.state is not ReplicaState.PARKING or service.down:
            self._close(action, ActionState.ABANDONED)
            return
        try:
            if not self._stops.ended(action.cluster):
                return
            sighting = self._tools.executor.observe([action.cluster]).get(action.cluster)
        except ArbiterError as error:
            self._failed(action, f"{action.cluster} was not stopped: {error}")
            return
        if sighting is None or sighting.phase is Phase.GONE:
            self._vanished(action, current)
        elif sighting.phase is Phase.PARKED:
            self._parked(action, current, decision_id)
        else:
            self._failed(action, f"{action.cluster} was stopped and still runs")

    def _parked(self, action: Action, current: Replica, decision_id: str | None) -> None:
        self._troubles.over("park_failed", action.service, action.cluster)
        now = self._now()
        with self._store.begin() as connection:
            parking.park(connection, action.cluster, now, action.reason)
            journal.set_action(connection, action.id, ActionState.DONE, now)
            journal.add_event(
                connection,
                now,
                "parked",
                f"{current.cluster} on {current.offer.where} was parked: {action.reason}",
                service=current.service,
                cluster=current.cluster,
                decision_id=decision_id,
            )

    def _vanished(self, action: Action, current: Replica) -> None:
        """There is nothing to keep; what may be left is cleared away."""
        now, sentence = self._now(), f"{current.cluster} was gone before it was parked"
        with self._store.begin() as connection:
            note = "gone before it was parked"
            lost = replace(current, state=ReplicaState.LOST, changed_at=now, note=note)
            fleet.save_replica(connection, lost)
            journal.set_action(connection, action.id, ActionState.ABANDONED, now)
            journal.add_event(
                connection,
                now,
                "parked_lost",
                sentence,
                service=current.service,
                cluster=current.cluster,
            )

    def _failed(self, action: Action, sentence: str) -> None:
        with self._store.begin() as connection:
            journal.set_action(
                connection, action.id, ActionState.INTENT, self._now(), error=sentence
            )
        self._troubles.note("park_failed", sentence, action.service, action.cluster)

    def _close(self, action: Action, state: ActionState) -> None:
        self._troubles.over("park_failed", action.service, action.cluster)
        with self._store.begin() as connection:
            journal.set_action(connection, action.id, state, self._now())


class _Stops:
    """What `Endings` does to a machine here is to stop it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def terminate(self, cluster: str) -> None:
        """Stop it."""
        self._executor.park(cluster)
