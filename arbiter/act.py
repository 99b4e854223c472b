"""Act: carry out the steps of a plan. Every one may be repeated, and is, until it is known done.

An intent is committed before its call. A launch under a name that was used meets the same cluster;
a drain counts once the gateway has taken it; an end once the executor shows the machine no more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from arbiter.domain import (
    MAKES,
    Action,
    ActionKind,
    ActionState,
    Purchase,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.drains import Drains
from arbiter.endings import Endings
from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity
from arbiter.executors.base import Phase
from arbiter.failures import fail, failure_sentence, keep
from arbiter.lessons import refused
from arbiter.parker import Parker
from arbiter.profiles import Profile
from arbiter.sovereignty import Refused, judge
from arbiter.store import fleet, journal
from arbiter.tools import Tools
from arbiter.troubles import Troubles

ORDER = (
    ActionKind.TERMINATE,
    ActionKind.PARK,
    ActionKind.DRAIN,
    ActionKind.START,
    ActionKind.LAUNCH,
)
"""What a plan's steps are done in: what a failed launch left is ended before the next one."""

SLOW = timedelta(minutes=10)
"""An end that takes longer is told: the machine costs money."""

FAILING = ("terminate_failed", "terminate_unconfirmed", "terminate_slow")
"""Kinds of trouble with an end."""


class Actor:
    """Carries out actions.

    Args:
        owner: identity of this arbiter.
    """

    def __init__(
        self, tools: Tools, owner: str, troubles: Troubles, endings: Endings, drains: Drains
    ) -> None:
        self._drains = drains
        self._parker = Parker(tools, troubles)
        self._tools = tools
        self._store = tools.store
        self._now = tools.clock.now
        self._owner = owner
        self._troubles = troubles
        self._endings = endings

    def finish(self, service: Service, profile: Profile) -> None:
        """Repeat every call whose outcome is not written. Names make the repetition safe."""
        with self._store.read() as connection:
            rows = journal.open_actions(connection, service.name)
        for row in sorted(rows, key=lambda one: ORDER.index(one.action.kind)):
            if row.state is ActionState.INTENT:
                self.act(row.action, service, profile, row.decision_id, row.created_at)

    def act(
        self,
        action: Action,
        service: Service,
        profile: Profile,
        decision_id: str | None,
        begun: datetime,
    ) -> None:
        """Carry out one action as far as it goes now.

        Args:
            begun: when it was decided.
        """
        if action.kind in MAKES:
            self._launch(action, service, profile, decision_id, begun)
        elif action.kind is ActionKind.DRAIN:
            self._drain(action, service, profile, decision_id, begun)
        elif action.kind is ActionKind.PARK:
            self._parker.park(action, service, decision_id)
        else:
            self._terminate(action, service, profile, decision_id)

    # --- launch ---------------------------------------------------------------------------------

    def _launch(
        self,
        action: Action,
        service: Service,
        profile: Profile,
        decision_id: str | None,
        begun: datetime,
    ) -> None:
        current = self._find(action.cluster)
        if current is None or current.state is not ReplicaState.LAUNCHING or service.down:
            return  # it is being ended, whether or not it came to be
        try:
            deadline = timedelta(seconds=self._tools.fleet.launch_deadline_s)
            if self._now() - begun > deadline:
                raise NoCapacity(f"it could not be asked for within {deadline}")
            spec = self._tools.spec(action, service, profile, self._owner)
            request_id = self._tools.executor.submit(spec)
        except LaunchError as error:
            self._launch_failed(action, error, decision_id)
            return
        except ArbiterError as error:
            # Whether it started is not known, or a secret is missing: the intent stays open, and
            # the next tick tries the same launch again.
            sentence = f"{action.cluster}: {error}"
            self._troubles.note("launch_uncertain", sentence, service.name, action.cluster)
            return
        self._troubles.over("launch_uncertain", service.name, action.cluster)
        now = self._now()
        with self._store.begin() as connection:
            journal.set_action(
                connection, action.id, ActionState.SUBMITTED, now, request_id=request_id
            )
            found = fleet.find_replica(connection, self._tools.atlas, action.cluster)
            if found is not None:
                fleet.save_replica(connection, replace(found, request_id=request_id))

    def _launch_failed(self, action: Action, error: LaunchError, decision_id: str | None) -> None:
        now = self._now()
        with self._store.begin() as connection:
            current = fleet.find_replica(connection, self._tools.atlas, action.cluster)
            if current is None or not current.state.alive:
                return
            policy = self._tools.policy(fleet.get_service(connection, current.service))
            # Refused on the spot, so nothing was started; what is rejected would be so again.
            stays = action.kind is ActionKind.START and not isinstance(error, LaunchRejected)
            fail(connection, current, error, policy, now, decision_id, parked=stays)
        if isinstance(error, NoCapacity) and current.offer.purchase is Purchase.SPOT:
            keep(self._store, self._tools.clock, [refused(now, current.offer, held=0)])
        self._tools.tell(failure_sentence(current, error))

    # --- drain ----------------------------------------------------------------------------------

    def _drain(
        self,
        action: Action,
        service: Service,
        profile: Profile,
        decision_id: str | None,
        begun: datetime,
    ) -> None:
        """Out of the gateway first: only then is it written down as out of traffic."""
        with self._tools.routing.turn:
            with self._store.read() as connection:
                replicas = fleet.replicas(connection, self._tools.atlas, service.name)
            wanted = [
                replace(one, state=ReplicaState.DRAINING) if _is_to_drain(one, action) else one
                for one in replicas
            ]
            taken = self._tools.routing.route(service, wanted, profile.name)
            patience = timedelta(seconds=profile.serving.drain_s)
            if not taken and self._now() - begun < patience:
                why = "; ".join(self._tools.routing.troubles)
                sentence = f"{action.cluster} stays in traffic for now: {why}"
                self._troubles.note("drain_held", sentence, service.name, action.cluster)
                return
            self._troubles.over("drain_held", service.name, action.cluster)
            now = self._now()
            with self._store.begin() as connection:
                current = fleet.find_replica(connection, self._tools.atlas, action.cluster)
                if current is not None and _is_to_drain(current, action):
                    draining = replace(
                        current, state=ReplicaState.DRAINING, changed_at=now, note=action.reason
                    )
                    fleet.save_replica(connection, draining)
                    self._drains.begin(draining)
                    _event(connection, now, "drained", current, action.reason, decision_id)
                journal.set_action(connection, action.id, ActionState.DONE, now)

    # --- terminate ------------------------------------------------------------------------------

    def _terminate(
        self, action: Action, service: Service, profile: Profile, decision_id: str | None
    ) -> None:
        current = self._find(action.cluster)
        if current is not None and self._still_answers(current, service):
            self._drain(action, service, profile, decision_id, self._now())
            return
        if current is not None and _is_to_end(current):
            self._begin_end(action, current)
            self.reroute(service)
        try:
            if not self._endings.ended(action.cluster):
                self._tell_if_slow(action, current)
                return
            sighting = self._tools.executor.observe([action.cluster]).get(action.cluster)
        except ArbiterError as error:
            # The intent stays open and is tried again for ever: a machine may be running.
            self._alarm("terminate_failed", action, f"{action.cluster} was not ended: {error}")
            return
        if sighting is not None and sighting.phase in (Phase.PENDING, Phase.UP):
            sentence = f"{action.cluster} was ended and is still there: it is ended again"
            self._alarm("terminate_unconfirmed", action, sentence)
            return
        self._end_settled(action, decision_id)

    def _still_answers(self, current: Replica, service: Service) -> bool:
        """One that its provider takes away is drained as any other, while there is time."""
        if current.state is not ReplicaState.HEALTHY or current.leaving_at is None or service.down:
            return False
        rule = self._tools.policy(service).sovereignty
        return not isinstance(judge(current.place, rule, current.offer.tier), Refused)

    def _begin_end(self, action: Action, current: Replica) -> None:
        now = self._now()
        with self._store.begin() as connection:
            ending = replace(current, state=ReplicaState.ENDING, changed_at=now, note=action.reason)
            fleet.save_replica(connection, ending)

    def _end_settled(self, action: Action, decision_id: str | None) -> None:
        for kind in FAILING:
            self._troubles.over(kind, action.service, action.cluster)
        now = self._now()
        with self._store.begin() as connection:
            current = fleet.find_replica(connection, self._tools.atlas, action.cluster)
            if current is not None and current.state is not ReplicaState.TERMINATED:
                ended = replace(
                    current, state=ReplicaState.TERMINATED, changed_at=now, note=action.reason
                )
                fleet.save_replica(connection, ended)
                _event(connection, now, "terminated", current, action.reason, decision_id)
            journal.close_launch(connection, action.cluster, ActionState.ABANDONED, now)
            journal.set_action(connection, action.id, ActionState.DONE, now)

    def _alarm(self, kind: str, action: Action, sentence: str) -> None:
        with self._store.begin() as connection:
            journal.set_action(
                connection, action.id, ActionState.INTENT, self._now(), error=sentence
            )
        self._troubles.note(kind, sentence, action.service, action.cluster)

    def _tell_if_slow(self, action: Action, current: Replica | None) -> None:
        if current is not None and current.state is ReplicaState.ENDING:
            lasts = self._now() - current.changed_at
            if lasts > SLOW:
                minutes = int(SLOW.total_seconds() // 60)
                sentence = f"{action.cluster} has been ending for more than {minutes} minutes"
                self._alarm("terminate_slow", action, sentence)

    def reroute(self, service: Service) -> None:
        """Lead clients to what serves now."""
        with self._tools.routing.turn:
            with self._store.read() as connection:
                replicas = fleet.replicas(connection, self._tools.atlas, service.name)
            self._tools.routing.route(service, replicas, service.profile)

    def _find(self, cluster: str) -> Replica | None:
        with self._store.read() as connection:
            return fleet.find_replica(connection, self._tools.atlas, cluster)


def _is_to_end(replica: Replica) -> bool:
    return replica.state.exists and replica.state is not ReplicaState.ENDING


def _is_to_drain(replica: Replica, action: Action) -> bool:
    out = (ReplicaState.ENDING, ReplicaState.DRAINING, ReplicaState.PARKING)
    return replica.cluster == action.cluster and replica.state.alive and replica.state not in out


def _event(
    connection: Connection,
    now: datetime,
    kind: str,
    current: Replica,
    reason: str,
    decision_id: str | None,
) -> None:
    journal.add_event(
        connection,
        now,
        kind,
        f"{current.cluster} on {current.offer.where} was {kind}: {reason}",
        service=current.service,
        cluster=current.cluster,
        decision_id=decision_id,
    )
