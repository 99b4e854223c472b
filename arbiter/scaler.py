"""Scale: how many replicas of a service should answer, changed as its schedule and load say.

The gateway sees every request that comes by it, also while nothing runs; the servers' own counters
see those that do not. Where a load cannot be seen as a whole it is not noted at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from arbiter.domain import Service
from arbiter.errors import ArbiterError, GatewayError
from arbiter.gateway.base import Counts
from arbiter.profiles import Profile
from arbiter.scaling import Load, Scaling, Target, noted, target
from arbiter.store import fleet, journal
from arbiter.store.scaling import keep_load, loads
from arbiter.store.served import readings
from arbiter.tools import Tools

FRESH = timedelta(seconds=30)
"""A server's reading that is older says nothing of its load now."""

NOTHING = Counts()


class Scaler:
    """Changes the number of replicas that are ordered; what is remembered of loads is in SQL."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._counts: Mapping[str, Counts] | None = None

    def look(self, services: Sequence[Service]) -> None:
        """Ask the gateway what passes, once a tick, if one of the services follows its load."""
        follow = any(one.scaling is not None and one.scaling.by_load for one in services)
        self._counts = self._ask() if follow else None

    def scale(self, service: Service, profile: Profile) -> None:
        """Note the load, and order another number of replicas where that is due.

        Raises:
            ArbiterError: a time zone of the schedule is not known here.
        """
        scaling = service.scaling
        if scaling is None or service.down:
            return
        if scaling.by_load and self._tools.routing.gateway is None:
            scaling = replace(scaling, min=max(1, scaling.min))  # nobody could wake it
        now = self._tools.clock.now()
        history = self._note(service, now) if scaling.by_load else []
        if service.paused:
            return
        found = target(
            now,
            scaling,
            service.replicas,
            scaling.per_replica(profile.workload.concurrency),
            history,
            local_times(scaling, now),
            self._tools.reaction,
        )
        if found.replicas != service.replicas:
            self._order(service, found, now)

    def is_waited_for(self, services: Sequence[Service]) -> bool:
        """Whether a request waits, or came for a service at zero since the last tick.

        A failure to ask is none: the next tick finds it.
        """
        looked_at = [one for one in services if _may_be_waited_for(one)]
        if not looked_at or self._tools.routing.gateway is None:
            return False
        before, now = self._counts, self._ask()
        if now is None:
            return False
        for one in looked_at:
            seen = now.get(one.name, NOTHING)
            known = None if before is None else before.get(one.name, NOTHING)
            came = known is not None and seen.requests > known.requests
            if seen.held or (one.replicas == 0 and (seen.active or came)):
                return True
        return False

    def _ask(self) -> Mapping[str, Counts] | None:
        gateway = self._tools.routing.gateway
        if gateway is not None:
            with suppress(GatewayError):
                return gateway.counts()
        return None

    def _note(self, service: Service, now: datetime) -> list[Load]:
        """The loads that are known, this look's included; none where it cannot be seen now."""
        store, reaction = self._tools.store, self._tools.reaction
        with store.read() as connection:
            history = loads(connection, service.name, now)
            told = readings(connection, service.name).values()
        running = service.replicas > 0  # what a server that is ended said last is not so any more
        fresh = [one for one in told if running and abs(now - one.counters.at) <= FRESH]
        gateway = self._tools.routing.gateway
        if (gateway is None and not fresh) or (gateway is not None and self._counts is None):
            return []
        seen = (self._counts or {}).get(service.name, NOTHING)
        inside = sum(one.counters.running + one.counters.waiting for one in fresh)
        if not inside and any(one.tokens_per_s for one in fresh):
            inside = 1  # it came and went between two readings
        requests = max(seen.active, inside + seen.held)
        last = history[-1] if history else None
        newest = noted(last, now, requests, seen.requests, reaction)
        with store.begin() as connection:
            keep_load(connection, service.name, newest, reaction.memory)
        return [*(one for one in history if one.since != newest.since), newest]

    def _order(self, service: Service, found: Target, now: datetime) -> None:
        sentence = (
            f"{service.name} was scaled from {service.replicas} to {found.replicas} replicas: "
            f"{found.reason}"
        )
        with self._tools.store.begin() as connection:
            if fleet.get_service(connection, service.name) != service:
                return  # it was ordered otherwise meanwhile
            fleet.scale(connection, service.name, found.replicas, service.scaling, now)
            journal.add_event(connection, now, "scaled", sentence, service=service.name)
        self._tools.tell(sentence)


def local_times(scaling: Scaling, now: datetime) -> dict[str, datetime]:
    """Zone -> now as its own time, for every zone of a schedule.

    Raises:
        ArbiterError: a zone is not known here.
    """
    found = {}
    for zone in {one.zone for one in scaling.schedule}:
        try:
            found[zone] = now.astimezone(ZoneInfo(zone))
        except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError
            raise ArbiterError(
                f"no time zone is called {zone!r}", "zones are like Europe/Berlin or UTC"
            ) from None
    return found


def _may_be_waited_for(service: Service) -> bool:
    scaling = service.scaling
    if scaling is None or service.paused or service.down:
        return False
    return scaling.hold_s > 0 or (scaling.by_load and service.replicas == 0)
