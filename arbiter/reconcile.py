"""One tick: observe -> plan -> write the intent -> act -> write the outcome.

The order of writes is what makes `kill -9` harmless. An intent is committed before its call; the
cluster's name is derived, so a repeated call meets the same cluster; and an intent whose outcome is
not known is finished before anything new is planned. No call leaves the machine inside a
transaction.

Observing is in `arbiter.observe`, acting in `arbiter.act`, the search for machines that nobody owns
in `arbiter.sweep`; here is what joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from arbiter.act import ORDER, Actor
from arbiter.churn import LOSSES_KEPT, churn
from arbiter.commitments import in_use
from arbiter.crash_loop import back_off
from arbiter.demand import Demand
from arbiter.domain import ActionKind, Plan, Purchase, Replica, ReplicaState, Service
from arbiter.drains import Drains
from arbiter.endings import Endings
from arbiter.errors import ArbiterError, StoreError
from arbiter.failures import note_hedges
from arbiter.hedging import slow_launches
from arbiter.notices import NOTICE_S
from arbiter.observe import Observer
from arbiter.orders import Destination, ordered_move
from arbiter.planner import Fleet, plan
from arbiter.policy import DAY, Policy
from arbiter.profiles import Profile
from arbiter.relaxing import Relaxation, relaxations
from arbiter.scaler import Scaler
from arbiter.spot.beliefs import Beliefs
from arbiter.steering import steered
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs, save_goal
from arbiter.store.cold_starts import cold_starts
from arbiter.store.told import read_seeds
from arbiter.sweep import Sweep
from arbiter.tools import Tools
from arbiter.transitions import as_planned
from arbiter.troubles import Troubles

__all__ = ["Loop", "Tools"]


class Loop:
    """Runs ticks. Holds nothing that a crash could lose: all state is in the store.

    Attributes:
        owner: identity of this arbiter, part of every cluster's name.
        troubles: what is wrong and lasts.
        demand: what is asked of services.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._store = tools.store
        self._now = tools.clock.now
        self._routing = tools.routing
        with self._store.begin() as connection:
            self.owner = journal.owner(connection)
        self.troubles = Troubles(tools.store, tools.clock, tools.tell)
        self.demand = Demand(tools.store, tools.clock)
        endings = Endings(tools.executor)
        self._drains = Drains(tools.routing, tools.monotonic)
        self._scaler = Scaler(tools)
        self._actor = Actor(tools, self.owner, self.troubles, endings, self._drains)
        self._sweep = Sweep(tools, self.owner, self.troubles, endings)
        self._observer = Observer(tools, lambda: self._sweep.paid)

    def tick(self, names: Sequence[str] | None = None) -> list[Plan]:
        """Observe and act for these services, or for all.

        One service's failure never stops the others: it is journaled and told.

        Raises:
            StoreError: the database failed; nothing can be decided without it.
        """
        self._routing.start()
        with self._store.read() as connection:
            services = fleet.services(connection)
        self._scaler.look(services)
        plans = []
        for service in services:
            if names is not None and service.name not in names:
                continue
            try:
                made = self._tick_one(service)
            except StoreError:
                raise
            except ArbiterError as error:
                self.troubles.note("tick_failed", f"{service.name}: {error}", service.name)
            else:
                self.troubles.over("tick_failed", service.name)
                if made is not None:
                    plans.append(made)
        if names is None:
            self._sweep.sweep()
        self._tell_of_the_gateway()
        return plans

    def has_changed(self) -> bool:
        """Whether, since the last tick, a replica that serves has stopped or was given notice, a
        request came for a service at zero, or one waits for a replica.

        It asks servers and gateway alone, and is quick: what they say is written down and told to
        the gateway at once, also while a tick waits for a cloud; the next tick finds out why.
        """
        with self._store.read() as connection:
            services = fleet.services(connection)
            replicas = fleet.replicas(connection, self._tools.atlas)
        changed = self._observer.glance(services, replicas)
        for service in services:
            if service.name in changed:
                self._actor.reroute(service)
        return bool(changed) or self._scaler.is_waited_for(services)

    def preview(self, service: Service) -> Plan:
        """What the next tick would decide, without observing, writing or acting."""
        fleet_now, policy, beliefs = self._fleet(service, self._tools.profile(service.profile))
        return plan(self._now(), self._tools.quotes(), fleet_now, policy, beliefs)

    def relaxations(self, service: Service) -> tuple[Relaxation, ...]:
        """What would let an offer in, where none is eligible for a service."""
        fleet_now, policy, beliefs = self._fleet(service, self._tools.profile(service.profile))
        return relaxations(self._now(), self._tools.quotes(), fleet_now, policy, beliefs.rates)

    def move(self, name: str, to: Destination, *, write: bool) -> Plan:
        """Order that a replica of a service moves; whoever ticks carries it out.

        Args:
            write: journal the order; otherwise it is only shown.

        Raises:
            ArbiterError: there is no such service, nothing to move, or nothing allowed there.
        """
        with self._store.read() as connection:
            service = fleet.get_service(connection, name)
        quotes = tuple(self._tools.quotes())
        profile = self._tools.profile(service.profile)
        fleet_now, policy, beliefs = self._fleet(service, profile)
        now = self._now()
        made = ordered_move(now, quotes, fleet_now, policy, to, beliefs)
        for action in made.actions:
            self._tools.spec(action, service, profile, self.owner)  # a missing secret is told now
        if not write:
            return made
        with self._store.begin() as connection:
            if fleet.get_service(connection, name) != service:
                raise ArbiterError(f"{name} was ordered otherwise meanwhile", "try again")
            inputs = journal.Inputs(now, quotes, fleet_now, policy, beliefs, to)
            journal.write_plan(connection, made, inputs)
        self._tools.tell(made.sentence)
        return made

    # --- one service ----------------------------------------------------------------------------

    def _tick_one(self, service: Service) -> Plan | None:
        profile = self._tools.profile(service.profile)
        if not service.paused:
            self._actor.finish(service, profile)
        try:
            self._observer.observe(service, profile)
        finally:
            self._actor.reroute(service)
        self._scale(service, profile)
        if service.paused:
            return None
        with self._store.read() as connection:
            service = fleet.get_service(connection, service.name)
        decided = self._decide(service, profile)
        if decided is None:
            return None
        made, decision_id = decided
        for action in sorted(made.actions, key=lambda one: ORDER.index(one.kind)):
            self._actor.act(action, service, profile, decision_id, self._now())
        if made.actions:
            self._actor.reroute(service)
        return made

    def _scale(self, service: Service, profile: Profile) -> None:
        """A schedule that cannot be read must not keep what is lost from being replaced."""
        try:
            self._scaler.scale(service, profile)
        except StoreError:
            raise
        except ArbiterError as error:
            self.troubles.note("scaling_failed", f"{service.name}: {error}", service.name)
        else:
            self.troubles.over("scaling_failed", service.name)

    def _tell_of_the_gateway(self) -> None:
        """Journal what is wrong with the gateway, once while it lasts."""
        troubles = self._routing.troubles
        if troubles:
            self.troubles.note("gateway", f"the gateway: {'; '.join(troubles)}")
        elif self.troubles.over("gateway"):
            self.troubles.note("gateway_well", "the gateway is well again")
            self.troubles.over("gateway_well")

    # --- decide ---------------------------------------------------------------------------------

    def _fleet(self, service: Service, profile: Profile) -> tuple[Fleet, Policy, Beliefs]:
        now, policy = self._now(), self._tools.policy(service)
        with self._store.read() as connection:
            replicas = fleet.replicas(connection, self._tools.atlas, service.name)
            open_actions = journal.open_actions(connection, service.name)
            refusals = fleet.refusals(connection, now)
            moves = journal.moves(connection, service.name, now - DAY)
            everyone = fleet.replicas(connection, self._tools.atlas) if policy.commitments else []
            others = [one for one in everyone if one.service != service.name]
            beliefs = replace(read_beliefs(connection), seeds=read_seeds(connection, now))
            known = cold_starts(connection, now)
            losses = fleet.losses(connection, service.name, now - LOSSES_KEPT, now)
            never_served = fleet.never_served(connection, service.name, now)
        of_kind = {
            kind: {row.action.cluster for row in open_actions if row.action.kind is kind}
            for kind in ActionKind
        }
        leaving = of_kind[ActionKind.DRAIN]
        why_not = self._why_not_parked(replicas, policy)
        found = Fleet(
            service=service,
            profile=profile,
            owner=self.owner,
            replicas=tuple(self._planned(one, profile, policy, leaving) for one in replicas),
            refusals=tuple(refusals),
            ending=tuple(
                row.action.cluster
                for row in open_actions
                if row.action.kind is ActionKind.TERMINATE
            ),
            moves=tuple(moves),
            not_launchable=self._tools.not_launchable,
            losses=tuple(losses),
            never_served=tuple(never_served),
            slow=slow_launches(
                now, replicas, service.profile, known, self._tools.fleet.hedge_after_s
            ),
            elsewhere=in_use(others),
            notice_s=NOTICE_S if self._tools.executor.name == "skypilot" else {},
            demand=self.demand.of(service.name),
            parkable=tuple(cluster for cluster, why in why_not.items() if why is None),
            not_parkable={
                one.offer.provider: why
                for one in replicas
                if (why := why_not.get(one.cluster)) is not None
            },
        )
        return found, policy, beliefs

    def _why_not_parked(self, replicas: Sequence[Replica], policy: Policy) -> dict[str, str | None]:
        """Cluster on demand -> why it cannot be stopped and started again; None: it can."""
        if not policy.parked:
            return {}
        bought = [one for one in replicas if one.offer.purchase is Purchase.ON_DEMAND]
        return {one.cluster: self._tools.executor.can_park(one.offer) for one in bought}

    def _planned(
        self, replica: Replica, profile: Profile, policy: Policy, leaving: set[str]
    ) -> Replica:
        now, drain_s = self._now(), profile.serving.drain_s
        if replica.cluster in leaving and replica.state is not ReplicaState.DRAINING:
            return replace(replica, state=ReplicaState.DRAINING, changed_at=now)
        draining = replica.state is ReplicaState.DRAINING
        return as_planned(
            replica,
            now,
            drained=self._drains.over(replica, now, drain_s) if draining else None,
            drain_s=drain_s,
            unhealthy_s=policy.unhealthy_s,
        )

    def _decide(self, service: Service, profile: Profile) -> tuple[Plan, str | None] | None:
        """Plan, and commit the intents with the replicas they will make.

        Returns:
            The plan and its id in the journal, where it was written; None where the service was
            ordered otherwise meanwhile, so that the plan is worth nothing.
        """
        quotes = self._tools.quotes()
        fleet_now, policy, beliefs = self._fleet(service, profile)
        now = self._now()
        made = plan(now, quotes, fleet_now, policy, beliefs)
        self._tell_of_holds(fleet_now, policy)
        self._steer(made, fleet_now, policy, beliefs)
        inputs = journal.Inputs(now, tuple(quotes), fleet_now, policy, beliefs)
        with self._store.begin() as connection:
            if fleet.get_service(connection, service.name) != service:
                return None
            last = journal.last_sentence(connection, service.name, now)
            if not made.actions and made.sentence == last:
                return made, None
            decision_id = journal.write_plan(connection, made, inputs)
            note_hedges(connection, made, fleet_now.replicas, policy, decision_id)
        self._tools.tell(made.sentence)
        return made, decision_id

    def _tell_of_holds(self, fleet_now: Fleet, policy: Policy) -> None:
        """Journal that spot, or any launch, is left alone for a while, once for each such while."""
        service, now = fleet_now.service, self._now()
        holds = {
            "spot_churn": churn(policy, fleet_now.losses, service.replicas, now),
            "never_served": back_off(fleet_now.never_served, now),
        }
        for kind, held in holds.items():
            if held is None:
                self.troubles.over(kind, service.name)
            else:
                self.troubles.note(kind, f"{service.name}: {held}", service.name)

    def _steer(self, made: Plan, fleet_now: Fleet, policy: Policy, beliefs: Beliefs) -> None:
        """Note how the service fares against its goal, for the plans to come."""
        service = fleet_now.service
        goal = steered(
            made.at,
            beliefs,
            service.name,
            policy,
            ready=sum(one.state is ReplicaState.HEALTHY for one in fleet_now.replicas),
            replicas=service.replicas,
            cost_share=made.cost_share,
        )
        if goal is not None and not service.down:
            with self._store.begin() as connection:
                save_goal(connection, service.name, goal, made.at)
