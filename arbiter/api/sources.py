"""What the API reads: one snapshot of the store, shared by all requests of the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from arbiter.calibration import Rates
from arbiter.clock import Clock
from arbiter.cold_starts import ColdStarts
from arbiter.domain import Plan, Quote, Refusal, Replica, Service
from arbiter.errors import StoreError
from arbiter.market import Sifted
from arbiter.policy import Policy
from arbiter.profiles import Profile
from arbiter.pulse import Pulse
from arbiter.regions import Atlas
from arbiter.routing import Routing
from arbiter.scaling import Load
from arbiter.served import Served
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_rates
from arbiter.store.cold_starts import cold_starts
from arbiter.store.engine import Store
from arbiter.store.journal import DecisionRow, EventRow
from arbiter.store.prices import PollRow, last_polls
from arbiter.store.scaling import newest_loads
from arbiter.store.served_now import served_now

FRESH_S = 1.0
"""However many pages are open, the store is read this seldom."""

RECENT = 60
"""Decisions and events in a snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at an instant.

    Attributes:
        loads: service -> what was asked of it when it was last looked.
        rates: what was measured of machines.
        served: service -> what its servers do, and what their tokens cost.
        sifted: what was already sifted of it, by profile, policy and demand.
    """

    at: datetime
    quotes: Sequence[Quote]
    services: Sequence[Service]
    replicas: Sequence[Replica]
    refusals: Sequence[Refusal]
    polls: Sequence[PollRow]
    decisions: Sequence[DecisionRow]
    events: Sequence[EventRow]
    cold_starts: ColdStarts = field(default_factory=ColdStarts)
    starts: ColdStarts = field(default_factory=ColdStarts)
    loads: Mapping[str, Load] = field(default_factory=dict)
    rates: Rates = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    sifted: dict[tuple[str, Policy, Decimal | None], Sifted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon hands to the API.

    Attributes:
        quotes: every price that stands.
        policy: of a service: the settings' policy with the service's own level.
        profile: by name; raises ProfileError.
        preview: what the next tick would decide for a service.
        not_launchable: provider -> why nothing is launched there.
        scheduling: whether the thread that starts the jobs lives.
        tick_s: seconds between two ticks.
        routing: how clients are led to replicas.
        standing_troubles: what is wrong with the fleet and lasts, a line each.
        demand: service -> output tokens per second asked of it at its busiest; None: not known.
        simulated: nothing of this is real.
        market_time: of a simulated market, for the screen; None otherwise.
    """

    store: Store
    atlas: Atlas
    clock: Clock
    pulse: Pulse
    quotes: Callable[[], Sequence[Quote]]
    policy: Callable[[Service], Policy]
    profile: Callable[[str], Profile]
    preview: Callable[[Service], Plan]
    not_launchable: Mapping[str, str]
    tick_s: float
    scheduling: Callable[[], bool] = lambda: True
    routing: Routing = field(default_factory=Routing)
    standing_troubles: Callable[[], Sequence[str]] = lambda: ()
    demand: Callable[[str], float | None] = lambda _service: None
    simulated: bool = False
    market_time: Callable[[], datetime] | None = None


class Sources:
    """Reads snapshots.

    Args:
        fresh_s: for how long a snapshot serves; 0 reads anew for every request.
    """

    def __init__(self, parts: Parts, fresh_s: float = FRESH_S) -> None:
        self.parts = parts
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._quotes: tuple[object, Sequence[Quote]] | None = None

    def snapshot(self) -> Snapshot:
        """The newest, at most `fresh_s` old.

        Raises:
            StoreError: the database does not answer.
        """
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] >= self._fresh_s:
                self._last = (now, self._read())
            return self._last[1]

    def trouble(self) -> str | None:
        """Why the store cannot be read, in one line; None when it can."""
        try:
            self.snapshot()
        except StoreError as error:
            return str(error)
        return None

    def _read(self) -> Snapshot:
        parts = self.parts
        now = parts.clock.now()
        with parts.store.read() as connection:
            polls = last_polls(connection)
            services = fleet.services(connection)
            replicas = fleet.replicas(connection, parts.atlas)
            refusals = fleet.refusals(connection, now)
            decisions = journal.decisions(connection, limit=RECENT)
            events = journal.events(connection, limit=RECENT)
            known = cold_starts(connection, now)
            starts = cold_starts(connection, now, started=True)
            loads = newest_loads(connection, now)
            rates, served = read_rates(connection), served_now(connection, now)
        quotes = self._standing(polls)
        return Snapshot(
            now,
            quotes,
            services,
            replicas,
            refusals,
            polls,
            decisions,
            events,
            known,
            starts,
            loads,
            rates,
            served,
        )

    def _standing(self, polls: Sequence[PollRow]) -> Sequence[Quote]:
        """The quotes; read again only after another poll."""
        key = tuple((poll.provider, poll.finished_at) for poll in polls)
        if self._quotes is None or self._quotes[0] != key:
            self._quotes = (key, self.parts.quotes())
        return self._quotes[1]
