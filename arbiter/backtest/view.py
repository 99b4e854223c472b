"""What a policy sees, and what it may order. Values alone: nothing here leads to the market.

A policy is asked once a tick with a `View` and answers as a generator: it yields one order after
the other, is sent the outcome of each, and may return the tick until which it wants nothing. It
holds no object of the engine, so the capacity of a zone and everything later stay unknown to it.

    class Stay:
        def tick(self, view: View) -> Orders:
            while len(view.spot) < view.replicas and view.attempts:
                got = yield Launch(zone=0)          # an Instance, or None: refused
                if got is None:
                    return None                     # ask me again at the next tick
            return FOREVER                          # until something happens

Something happens when a machine of its own is lost, is given notice or becomes ready, when any
spot price changes, and when the number of replicas does: then it is asked before its time.

Ticks are whole numbers from the start of the run; prices are millionths of a USD per hour of one
machine; a zone is its number in `Setting.zones`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

ATTEMPTS = 3
"""Attempts that may be refused in one tick; after these the policy has to wait for the next."""

FOREVER = 2**62
"""Nothing is wanted until something happens."""


class Zone(NamedTuple):
    """A place with a spot price and a capacity of its own."""

    name: str
    region: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy is told once, before the first tick.

    Attributes:
        cold_starts: ticks from launch to ready, one for each zone.
        on_demand_cold_start: the same on demand.
        on_demand_micros: the on-demand price, in millionths of a USD per hour.
        tick_s: seconds in a tick.
        missing_cost: V of J(V): on-demand hours that one missing replica-hour costs.
        notice: ticks between the notice of a loss and the loss; 0: it comes without warning.
    """

    zones: tuple[Zone, ...]
    cold_starts: tuple[int, ...]
    on_demand_cold_start: int
    on_demand_micros: int
    tick_s: int = 60
    missing_cost: float = 20.0
    notice: int = 0


class Instance(NamedTuple):
    """A machine that the policy launched.

    Attributes:
        id: rises with every launch, so that the smallest is the oldest.
        zone: number of the zone, or None: on demand.
        launched: the tick of the launch; it is paid for from there on.
        ready_at: the first tick in which it serves.
        lost_at: the tick in which it will be taken away, once notice was given; None before.
    """

    id: int
    zone: int | None
    launched: int
    ready_at: int
    lost_at: int | None = None


@dataclass(slots=True)
class Attempts:
    """How many more refusals the tick has room for."""

    left: int = ATTEMPTS


@dataclass(frozen=True, slots=True)
class View:
    """What a policy knows at the beginning of a tick.

    Attributes:
        tick: the present tick.
        replicas: how many are to be ready.
        prices: the spot price of each zone now, in millionths of a USD per hour.
        instances: its own machines, oldest first, as they stood before its first order.
        lost: its machines that were taken away since it was last asked.
    """

    tick: int
    replicas: int
    prices: tuple[int, ...]
    instances: tuple[Instance, ...]
    lost: tuple[Instance, ...] = ()
    _attempts: Attempts = field(default_factory=Attempts, repr=False, compare=False)

    @property
    def spot(self) -> tuple[Instance, ...]:
        """Its spot machines, ready or not."""
        return tuple(one for one in self.instances if one.zone is not None)

    @property
    def on_demand(self) -> tuple[Instance, ...]:
        """Its on-demand machines, ready or not."""
        return tuple(one for one in self.instances if one.zone is None)

    @property
    def attempts(self) -> int:
        """Refusals that this tick still has room for; it falls with every refusal."""
        return self._attempts.left

    def is_ready(self, instance: Instance) -> bool:
        """Whether the machine serves in this tick."""
        return instance.ready_at <= self.tick


class Launch(NamedTuple):
    """Launch one spot machine; the outcome is the Instance, or None: refused."""

    zone: int


class Buy(NamedTuple):
    """Launch one machine on demand; the outcome is the Instance."""


class End(NamedTuple):
    """End a machine of one's own, which is not paid for from this tick on. The outcome is None."""

    id: int


class Probe(NamedTuple):
    """Ask whether one more machine would be given in a zone, and cancel it before it runs.

    It is free and counted. The outcome is True or False; False is one of the tick's refusals.
    """

    zone: int


Order = Launch | Buy | End | Probe
Outcome = Instance | bool | None
Orders = Generator[Order, Outcome, int | None]
"""Yields orders, is sent outcomes; returns the tick until which nothing is wanted, or None to be
asked at the next tick."""


class Policy(Protocol):
    """What decides. A policy must be deterministic; a new one is made for every run."""

    def tick(self, view: View) -> Orders:
        """The orders of one tick."""
        ...


Factory = Callable[[Setting], Policy]
"""Makes a policy for one run."""
