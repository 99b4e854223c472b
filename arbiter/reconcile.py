"""One tick: observe -> plan -> write the intent -> act -> write the outcome.

The order of writes is what makes `kill -9` harmless. An intent is committed before its call; the
cluster's name is derived, so a repeated call meets the same cluster; and an intent whose outcome is
not known is finished before anything new is planned. No call leaves the machine inside a
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from arbiter.clock import Clock
from arbiter.domain import (
    Action,
    ActionKind,
    ActionState,
    Plan,
    Purchase,
    Quote,
    Refusal,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.errors import (
    ArbiterError,
    LaunchError,
    LaunchRejected,
    NoCapacity,
    QuotaExceeded,
    StoreError,
)
from arbiter.executors.base import Executor, LaunchSpec, Phase, Sighting
from arbiter.health import Health, HealthCheck
from arbiter.lessons import lessons, refused
from arbiter.planner import Fleet, plan
from arbiter.policy import DAY, Policy, next_refusal
from arbiter.profiles import Profile
from arbiter.regions import Atlas
from arbiter.spot.beliefs import Beliefs, Event, Happened, learn
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs, save_beliefs
from arbiter.store.engine import Store
from arbiter.transitions import Seen, seen

SWEEP_EVERY = timedelta(minutes=5)
"""How often the executor is asked for everything that runs under our name."""

STANDS_EVERY = timedelta(minutes=5)
"""How often it is written down that a machine still stands."""

Quotes = Callable[[], Sequence[Quote]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a tick works with.

    Attributes:
        policy: of a service: the settings' policy with the service's own level.
        profile: by name; raises ProfileError.
        spec: the complete launch of an action: rendered task, secrets, tags.
        quotes: every price that stands.
        not_launchable: provider -> why nothing is launched there.
        tell: gets every sentence that is journaled.
    """

    store: Store
    executor: Executor
    health: HealthCheck
    clock: Clock
    atlas: Atlas
    policy: Callable[[Service], Policy]
    profile: Callable[[str], Profile]
    spec: Callable[[Action, Service, Profile, str], LaunchSpec]
    quotes: Quotes
    not_launchable: Mapping[str, str]
    tell: Tell


class Loop:
    """Runs ticks. Holds nothing that a crash could lose: all state is in the store.

    Attributes:
        owner: identity of this arbiter, part of every cluster's name.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._store = tools.store
        self._now = tools.clock.now
        self._swept_at: datetime | None = None
        with self._store.begin() as connection:
            self.owner = journal.owner(connection)

    def tick(self, names: Sequence[str] | None = None) -> list[Plan]:
        """Observe and act for these services, or for all.

        One service's failure never stops the others: it is journaled and told.

        Raises:
            StoreError: the database failed; nothing can be decided without it.
        """
        with self._store.read() as connection:
            services = fleet.services(connection)
        plans = []
        for service in services:
            if names is not None and service.name not in names:
                continue
            try:
                made = self._tick_one(service)
            except StoreError:
                raise
            except ArbiterError as error:
                self._note("tick_failed", f"{service.name}: {error}", service.name)
            else:
                if made is not None:
                    plans.append(made)
        if names is None:
            self._sweep()
        return plans

    def preview(self, service: Service) -> Plan:
        """What the next tick would decide, without observing, writing or acting."""
        fleet_now, policy, beliefs = self._fleet(service, self._tools.profile(service.profile))
        return plan(self._now(), self._tools.quotes(), fleet_now, policy, beliefs)

    # --- one service ----------------------------------------------------------------------------

    def _tick_one(self, service: Service) -> Plan | None:
        profile = self._tools.profile(service.profile)
        if not service.paused:
            self._finish_intents(service, profile)
        self._observe(service, profile)
        if service.paused:
            return None
        with self._store.begin() as connection:
            service = fleet.get_service(connection, service.name)
        made, decision_id = self._decide(service, profile)
        for action in made.actions:
            self._act(action, service, profile, decision_id)
        return made

    def _fleet(self, service: Service, profile: Profile) -> tuple[Fleet, Policy, Beliefs]:
        now = self._now()
        with self._store.read() as connection:
            found = Fleet(
                service=service,
                profile=profile,
                owner=self.owner,
                replicas=tuple(fleet.replicas(connection, self._tools.atlas, service.name)),
                refusals=tuple(fleet.refusals(connection, now)),
                ending=tuple(
                    row.action.cluster
                    for row in journal.open_actions(connection, service.name)
                    if row.action.kind is ActionKind.TERMINATE
                ),
                moves=tuple(journal.moves(connection, service.name, now - DAY)),
                not_launchable=self._tools.not_launchable,
            )
            beliefs = read_beliefs(connection)
        return found, self._tools.policy(service), beliefs

    # --- decide ---------------------------------------------------------------------------------

    def _decide(self, service: Service, profile: Profile) -> tuple[Plan, str | None]:
        """Plan, and commit the intents with the replicas they will make."""
        quotes = self._tools.quotes()
        fleet_now, policy, beliefs = self._fleet(service, profile)
        now = self._now()
        made = plan(now, quotes, fleet_now, policy, beliefs)
        with self._store.begin() as connection:
            if not made.actions and made.sentence == journal.last_sentence(
                connection, service.name
            ):
                return made, None
            inputs = journal.Inputs(now, tuple(quotes), fleet_now, policy, beliefs)
            decision_id = journal.write_decision(connection, made, inputs)
            for action in made.actions:
                if action.kind is ActionKind.LAUNCH and action.offer is not None:
                    newcomer = Replica(
                        cluster=action.cluster,
                        service=service.name,
                        offer=action.offer,
                        price=action.price,
                        state=ReplicaState.LAUNCHING,
                        launched_at=now,
                        changed_at=now,
                        replaces=action.replaces,
                    )
                    fleet.add_replica(connection, newcomer, action.variant)
        self._tools.tell(made.sentence)
        return made, decision_id

    # --- act ------------------------------------------------------------------------------------

    def _act(
        self, action: Action, service: Service, profile: Profile, decision_id: str | None
    ) -> None:
        if action.kind is ActionKind.LAUNCH:
            self._launch(action, service, profile, decision_id)
        elif action.kind is ActionKind.DRAIN:
            self._drain(action, decision_id)
        else:
            self._terminate(action, decision_id)

    def _launch(
        self, action: Action, service: Service, profile: Profile, decision_id: str | None
    ) -> None:
        try:
            spec = self._tools.spec(action, service, profile, self.owner)
            request_id = self._tools.executor.submit(spec)
        except LaunchError as error:
            self._launch_failed(action.cluster, error, decision_id)
            return
        except ArbiterError as error:
            # Whether it started is not known, or a secret is missing: the intent stays open, and
            # the next tick tries the same launch again.
            self._note("launch_uncertain", f"{action.cluster}: {error}", service.name)
            return
        now = self._now()
        with self._store.begin() as connection:
            journal.set_action(
                connection, action.id, ActionState.SUBMITTED, now, request_id=request_id
            )
            current = self._replica(connection, action.cluster)
            if current is not None:
                fleet.save_replica(connection, replace(current, request_id=request_id))

    def _launch_failed(self, cluster: str, error: LaunchError, decision_id: str | None) -> None:
        now = self._now()
        with self._store.begin() as connection:
            current = self._replica(connection, cluster)
            if current is None or not current.state.alive:
                return
            policy = self._tools.policy(fleet.get_service(connection, current.service))
            self._fail(connection, current, error, policy, now, decision_id)
        if isinstance(error, NoCapacity) and current.offer.purchase is Purchase.SPOT:
            self._learn([refused(now, current.offer, held=0)])
        self._tools.tell(_failure_sentence(current, error))

    def _fail(
        self,
        connection: Connection,
        current: Replica,
        error: LaunchError,
        policy: Policy,
        now: datetime,
        decision_id: str | None = None,
    ) -> None:
        """A launch ended in an error: remember the place, close the action, tell why."""
        failed = replace(current, state=ReplicaState.FAILED, changed_at=now, note=error.message)
        fleet.save_replica(connection, failed)
        journal.close_launch(connection, current.cluster, ActionState.FAILED, now, error.message)
        fleet.add_refusal(
            connection,
            current.service,
            _refusal(policy, fleet.refusals(connection, now), current, now, error),
        )
        journal.add_event(
            connection,
            now,
            "launch_failed",
            _failure_sentence(current, error),
            service=current.service,
            cluster=current.cluster,
            decision_id=decision_id,
        )

    def _drain(self, action: Action, decision_id: str | None) -> None:
        now = self._now()
        with self._store.begin() as connection:
            current = self._replica(connection, action.cluster)
            if current is not None and current.state.alive:
                draining = replace(
                    current, state=ReplicaState.DRAINING, changed_at=now, note=action.reason
                )
                fleet.save_replica(connection, draining)
                self._event(connection, now, "drained", current, action.reason, decision_id)
            journal.set_action(connection, action.id, ActionState.DONE, now)

    def _terminate(self, action: Action, decision_id: str | None) -> None:
        try:
            self._tools.executor.terminate(action.cluster)
        except ArbiterError as error:
            # The intent stays open and is tried again for ever: a machine may be running.
            self._note("terminate_failed", f"{action.cluster}: {error}", action.service)
            return
        now = self._now()
        with self._store.begin() as connection:
            current = self._replica(connection, action.cluster)
            if current is not None and current.state is not ReplicaState.TERMINATED:
                ended = replace(
                    current, state=ReplicaState.TERMINATED, changed_at=now, note=action.reason
                )
                fleet.save_replica(connection, ended)
                self._event(connection, now, "terminated", current, action.reason, decision_id)
            journal.close_launch(connection, action.cluster, ActionState.ABANDONED, now)
            journal.set_action(connection, action.id, ActionState.DONE, now)

    # --- finish what a crash left open ----------------------------------------------------------

    def _finish_intents(self, service: Service, profile: Profile) -> None:
        """Repeat every call whose outcome is not written. Names make the repetition safe."""
        with self._store.read() as connection:
            rows = journal.open_actions(connection, service.name)
        for row in rows:
            if row.state is not ActionState.INTENT:
                continue
            if row.action.kind is ActionKind.LAUNCH and service.down:
                continue  # the plan will end it, whether or not it came to be
            self._act(row.action, service, profile, row.decision_id)

    # --- observe --------------------------------------------------------------------------------

    def _observe(self, service: Service, profile: Profile) -> None:
        """See what really runs, and write every change with its event in one transaction."""
        with self._store.read() as connection:
            replicas = fleet.replicas(connection, self._tools.atlas, service.name)
            open_launches = {
                row.action.cluster
                for row in journal.open_actions(connection, service.name)
                if row.action.kind is ActionKind.LAUNCH and row.state is ActionState.INTENT
            }
        alive = [one for one in replicas if one.state.alive and one.cluster not in open_launches]
        if not alive:
            return
        sightings = self._tools.executor.observe([one.cluster for one in alive])
        checks = self._check(sightings, profile)
        policy = self._tools.policy(service)
        changes = [
            (one, seen(one, sightings.get(one.cluster), checks.get(one.cluster), self._now()))
            for one in alive
        ]
        for current, change in changes:
            if change is not None:
                self._write_seen(current, change, policy)
        self._learn(lessons(self._now(), replicas, changes))

    def _learn(self, events: Sequence[Event]) -> None:
        """Keep what was learnt; that machines still stand is written down now and then only."""
        if not events:
            return
        told = any(event.kind is not Happened.STANDS for event in events)
        now = self._now()
        with self._store.read() as connection:
            beliefs = read_beliefs(connection)
        stale = any(
            now.timestamp() - beliefs.pool(event.pool).seen_at >= STANDS_EVERY.total_seconds()
            for event in events
        )
        if told or stale:
            with self._store.begin() as connection:
                save_beliefs(connection, learn(read_beliefs(connection), events), now)

    def _check(self, sightings: Mapping[str, Sighting], profile: Profile) -> Mapping[str, Health]:
        endpoints = {
            cluster: sighting.endpoint
            for cluster, sighting in sightings.items()
            if sighting.phase is Phase.UP and sighting.endpoint
        }
        return self._tools.health.check(endpoints, dict.fromkeys(endpoints, profile.name))

    def _write_seen(self, current: Replica, change: Seen, policy: Policy) -> None:
        now = self._now()
        with self._store.begin() as connection:
            if change.error is not None:
                self._fail(connection, current, change.error, policy, now)
                self._tools.tell(_failure_sentence(current, change.error))
                return
            fleet.save_replica(connection, change.replica)
            if change.closes_launch is not None:
                journal.close_launch(connection, current.cluster, change.closes_launch, now)
            if change.lost:
                past = fleet.refusals(connection, now)
                fleet.add_refusal(
                    connection,
                    current.service,
                    next_refusal(
                        policy, past, current.offer.key, now, change.replica.note, lost=True
                    ),
                )
            if change.kind is not None:
                journal.add_event(
                    connection,
                    now,
                    change.kind,
                    change.sentence,
                    service=current.service,
                    cluster=current.cluster,
                )
        if change.kind is not None:
            self._tools.tell(change.sentence)

    # --- sweep ----------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Report machines that carry our name and that no service knows. They cost money."""
        now = self._now()
        if self._swept_at is not None and abs(now - self._swept_at) < SWEEP_EVERY:
            return
        self._swept_at = now
        try:
            running = self._tools.executor.inventory(self.owner)
        except ArbiterError:
            return  # whoever ticks is told of an executor out of reach already
        with self._store.read() as connection:
            known = {one.cluster for one in fleet.replicas(connection, self._tools.atlas)}
        for cluster in sorted(set(running) - known):
            sentence = f"{cluster} runs and belongs to no service; end it where it runs"
            self._note("orphan", sentence, None)

    # --- small things ---------------------------------------------------------------------------

    def _replica(self, connection: Connection, cluster: str) -> Replica | None:
        return fleet.find_replica(connection, self._tools.atlas, cluster)

    def _event(
        self,
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

    def _note(self, kind: str, sentence: str, service: str | None) -> None:
        """Journal a trouble, once while it lasts."""
        with self._store.begin() as connection:
            last = journal.events(connection, service, limit=1)
            if last and last[-1].kind == kind and last[-1].sentence == sentence:
                return
            journal.add_event(connection, self._now(), kind, sentence, service=service)
        self._tools.tell(sentence)


def _failure_sentence(current: Replica, error: LaunchError) -> str:
    offer = current.offer
    return f"{current.cluster} was not launched on {offer.where} {offer.purchase}: {error.message}"


def _refusal(
    policy: Policy,
    past: Sequence[Refusal],
    current: Replica,
    now: datetime,
    error: LaunchError,
) -> Refusal:
    """The memory of a failed launch: what waiting cannot mend is left alone for longest."""
    found = next_refusal(policy, past, current.offer.key, now, error.message, lost=False)
    if isinstance(error, QuotaExceeded | LaunchRejected):
        return replace(found, until=policy.remembered_until(now, 20))
    return found
