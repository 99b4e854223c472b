"""Observe: what really runs, and whether it serves; every change written with its event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from arbiter.counting import Counting
from arbiter.domain import MAKES, ActionState, Replica, ReplicaState, Service
from arbiter.executors.base import Phase, Sighting
from arbiter.failures import fail, failure_sentence, keep
from arbiter.health import Health, Probe
from arbiter.lessons import answered, lessons
from arbiter.money import Price
from arbiter.notices import is_watched
from arbiter.policy import Policy, next_refusal
from arbiter.profiles import Profile
from arbiter.store import fleet, journal
from arbiter.tools import Tools
from arbiter.transitions import Limits, Seen, glanced, seen

AHEAD = timedelta(seconds=2)
"""A replica dated further ahead than this was written before the clock was set back."""


class Observer:
    """Looks at a service's replicas. What it remembers only makes sentences more exact.

    Args:
        paid: cluster -> what its provider charges an hour, where the executor cannot tell.
    """

    def __init__(self, tools: Tools, paid: Callable[[], Mapping[str, Price]] = dict) -> None:
        self._tools = tools
        self._paid = paid
        self._store = tools.store
        self._real = tools.executor.name == "skypilot"
        self._well: dict[str, float] = {}
        self._counting = Counting(tools)

    def observe(self, service: Service, profile: Profile) -> None:
        """See what really runs, and write every change with its event in one transaction.

        Raises:
            ArbiterError: the executor cannot be asked; nothing is concluded from that.
        """
        tools = self._tools
        with self._store.read() as connection:
            replicas = fleet.replicas(connection, tools.atlas, service.name)
        if any(_is_ahead(one, tools.clock.now()) for one in replicas):
            self._leave_the_future()
        with self._store.read() as connection:
            replicas = fleet.replicas(connection, tools.atlas, service.name)
            open_launches = {
                row.action.cluster
                for row in journal.open_actions(connection, service.name)
                if row.action.kind in MAKES and row.state is ActionState.INTENT
            }
        looked_at = [one for one in replicas if _is_watched(one, open_launches)]
        if not looked_at:
            return
        policy = tools.policy(service)
        sightings = self._priced(tools.executor.observe([one.cluster for one in looked_at]))
        checks = self._check(looked_at, sightings, profile)
        looked_at = self._as_glanced_at(looked_at)
        limits = Limits(
            timedelta(seconds=tools.fleet.launch_deadline_s),
            policy.max_usd_per_hour,
            timedelta(seconds=tools.fleet.leave_s),
        )
        changes = [(one, self._seen(one, sightings, checks, limits)) for one in looked_at]
        changes = [
            (one, change if change is not None and self._write(one, change, policy) else None)
            for one, change in changes
        ]
        self._remember(looked_at, checks)
        now = tools.clock.now()
        told = lessons(now, replicas, changes)
        keep(self._store, tools.clock, [*told, *answered(now, profile.name, changes)])
        answering = {
            cluster: sightings[cluster].endpoint or ""
            for cluster, check in checks.items()
            if check.serving
        }
        self._counting.count(service, profile, answering)

    def _as_glanced_at(self, replicas: Sequence[Replica]) -> list[Replica]:
        """The same as a glance has left them: the executor may have taken half a minute."""
        with self._store.read() as connection:
            found = fleet.replicas(connection, self._tools.atlas, replicas[0].service)
        now = {one.cluster: one for one in found}
        return [now.get(one.cluster, one) for one in replicas]

    def _unseen_s(self, replica: Replica) -> float | None:
        last = self._well.get(replica.cluster)
        return None if last is None else self._tools.monotonic() - last

    def _priced(self, sightings: Mapping[str, Sighting]) -> Mapping[str, Sighting]:
        """With the price of those whose provider alone tells it."""
        paid = self._paid()
        return {
            cluster: replace(one, price=one.price or paid.get(cluster))
            for cluster, one in sightings.items()
        }

    def _leave_the_future(self) -> None:
        now = self._tools.clock.now()
        with self._store.begin() as connection:
            moved = fleet.leave_the_future(connection, now)
            sentence = f"the clock was set back: {moved} replicas were dated from the future"
            journal.add_event(connection, now, "clock_set_back", sentence)
        self._tools.tell(sentence)

    def glance(self, services: Sequence[Service], replicas: Sequence[Replica]) -> set[str]:
        """Write what those that serve say themselves: silence, a first notice, its time come.

        The executor is not asked: of a machine that stands still SkyPilot may take half a minute
        to say that it is up. May run beside `observe`, in a thread of its own.

        Returns:
            The names of the services of which something was written.
        """
        ordered = {one.name: one for one in services}
        serving = [
            one
            for one in replicas
            if one.state is ReplicaState.HEALTHY and one.endpoint and one.service in ordered
        ]
        probes = {
            one.cluster: Probe(
                one.endpoint or "",
                ordered[one.service].profile,
                watched=self._real and is_watched(one.offer),
            )
            for one in serving
        }
        checks = self._tools.health.check(probes)
        now, leave = self._tools.clock.now(), timedelta(seconds=self._tools.fleet.leave_s)
        written = set()
        for one in serving:
            change = glanced(one, checks[one.cluster], now, leave, self._unseen_s(one))
            if change is not None:
                self._write(one, change, self._tools.policy(ordered[one.service]))
                written.add(one.service)  # by whichever look
        self._saw(checks)
        return written

    def _seen(
        self,
        current: Replica,
        sightings: Mapping[str, Sighting],
        checks: Mapping[str, Health],
        limits: Limits,
    ) -> Seen | None:
        unseen_s = self._unseen_s(current)
        cluster, now = current.cluster, self._tools.clock.now()
        return seen(current, sightings.get(cluster), checks.get(cluster), now, limits, unseen_s)

    def _check(
        self, replicas: Sequence[Replica], sightings: Mapping[str, Sighting], profile: Profile
    ) -> Mapping[str, Health]:
        probes = {}
        for one in replicas:
            sighting = sightings.get(one.cluster)
            if sighting is None or sighting.phase is not Phase.UP or not sighting.endpoint:
                continue
            probes[one.cluster] = Probe(
                sighting.endpoint,
                profile.name,
                complete=one.state
                in (ReplicaState.LAUNCHING, ReplicaState.STARTING, ReplicaState.UNHEALTHY),
                watched=self._real and is_watched(one.offer),
            )
        return self._tools.health.check(probes)

    def _remember(self, replicas: Sequence[Replica], checks: Mapping[str, Health]) -> None:
        self._saw(checks)
        known = {one.cluster for one in replicas}
        service = replicas[0].service
        for cluster in [name for name in tuple(self._well) if _is_of(name, service)]:
            if cluster not in known:
                del self._well[cluster]

    def _saw(self, checks: Mapping[str, Health]) -> None:
        now = self._tools.monotonic()
        self._well.update(dict.fromkeys((name for name, one in checks.items() if one.serving), now))

    def _write(self, current: Replica, change: Seen, policy: Policy) -> bool:
        """Whether it was written: what the other look wrote meanwhile is for the next one."""
        now = self._tools.clock.now()
        with self._store.begin() as connection:
            if change.error is not None:
                error, parked = change.error, change.parked
                fail(connection, change.replica, error, policy, now, parked=parked)
            elif not fleet.save_replica(connection, change.replica, was=current):
                return False
            else:
                if change.closes_launch is not None:
                    journal.close_launch(connection, current.cluster, change.closes_launch, now)
                if change.lost:
                    past, note = fleet.refusals(connection, now), change.replica.note
                    key = current.offer.key
                    lost = next_refusal(policy, past, key, now, note, lost=True)
                    fleet.add_refusal(connection, current.service, lost)
                if change.kind is not None:
                    journal.add_event(
                        connection,
                        now,
                        change.kind,
                        change.sentence,
                        service=current.service,
                        cluster=current.cluster,
                        within_s=change.within_s,
                    )
        if change.error is not None:
            self._tools.tell(failure_sentence(current, change.error))
        elif change.kind is not None:
            self._tools.tell(change.sentence)
        return True


def _is_watched(replica: Replica, open_launches: set[str]) -> bool:
    """What is being ended or stopped is looked at by who does it."""
    if replica.state in (ReplicaState.ENDING, ReplicaState.PARKING):
        return False
    return replica.state.exists and replica.cluster not in open_launches


def _is_ahead(replica: Replica, now: datetime) -> bool:
    """By more than the moment between two programs' looks at one clock."""
    latest = max(replica.launched_at, replica.changed_at, replica.healthy_at or replica.launched_at)
    return latest - now > AHEAD


def _is_of(cluster: str, service: str) -> bool:
    return cluster.rsplit("-", 1)[0].endswith(f"-{service}")
