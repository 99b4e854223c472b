"""The serving model: a policy's machines on a market, tick by tick.

In a tick of 60 seconds, in this order:

1. where more is held than the zone gives, the excess is taken away without warning, oldest first;
2. the policy is asked, and its orders are carried out one after the other;
3. what is held now is paid for until the next tick, and what is ready now serves.

On-demand machines always launch. A machine is ready a cold start after its launch and is paid for
from the launch to its end. Ticks in which nothing can change are passed over in one step: that
saves time and alters no figure.

The engine never hands out itself, the market or anything that leads to them: orders come out of a
policy's generator and outcomes are sent into it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from arbiter.backtest.conditions import Conditions
from arbiter.backtest.grid import Grid
from arbiter.backtest.view import (
    ATTEMPTS,
    FOREVER,
    Attempts,
    Buy,
    End,
    Instance,
    Launch,
    Order,
    Outcome,
    Policy,
    Probe,
    Setting,
    View,
)
from arbiter.errors import ArbiterError

MOST_ORDERS = 100_000
"""Orders in one tick; a policy that gives more never ends."""


class PolicyError(ArbiterError):
    """A policy did what no policy may: the message says which tick, and what."""


class Life(NamedTuple):
    """What became of one machine: ticks, `ended` exclusive.

    Attributes:
        zone: number of the zone, or None: on demand.
        lost: it was taken away; False: the policy ended it, or the run did.
    """

    id: int
    zone: int | None
    launched: int
    ready_at: int
    ended: int
    lost: bool


@dataclass(slots=True)
class Totals:
    """The account as the run goes, after the warm-up.

    Attributes:
        spot_micros, on_demand_micros: micros per hour, times ticks.
        launch_micros: paid for launches, micros.
        short: replica-ticks missing. needed: replica-ticks asked for.
        met: ticks with enough replicas ready. ticks: all of them.
        spot_held, on_demand_held: machine-ticks paid for.
    """

    spot_micros: int = 0
    on_demand_micros: int = 0
    launch_micros: int = 0
    short: int = 0
    needed: int = 0
    met: int = 0
    ticks: int = 0
    spot_held: int = 0
    on_demand_held: int = 0
    launches: int = 0
    preemptions: int = 0
    refused: int = 0
    probes: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """A run that is over."""

    totals: Totals
    lives: tuple[Life, ...]


@dataclass(slots=True)
class _Fleet:
    """What is held: by zone (oldest first), on demand, and what is not ready yet."""

    spot: list[dict[int, Instance]]
    on_demand: dict[int, Instance] = field(default_factory=dict)
    starting: list[tuple[int, int]] = field(default_factory=list)  # heap of (ready_at, id)
    where: dict[int, dict[int, Instance]] = field(default_factory=dict)  # id -> its holder
    ready: set[int] = field(default_factory=set)
    standing: tuple[Instance, ...] | None = None

    def instances(self) -> tuple[Instance, ...]:
        """All machines, oldest first."""
        if self.standing is None:
            self.standing = tuple(self.where[id_][id_] for id_ in sorted(self.where))
        return self.standing

    def add(self, instance: Instance, tick: int) -> None:
        holder = self.on_demand if instance.zone is None else self.spot[instance.zone]
        holder[instance.id] = instance
        self.where[instance.id] = holder
        self.standing = None
        if instance.ready_at <= tick:
            self.ready.add(instance.id)
        else:
            heapq.heappush(self.starting, (instance.ready_at, instance.id))

    def remove(self, id_: int) -> Instance:
        self.standing = None
        self.ready.discard(id_)
        return self.where.pop(id_).pop(id_)

    def note(self, id_: int, lost_at: int) -> None:
        holder = self.where[id_]
        holder[id_] = holder[id_]._replace(lost_at=lost_at)
        self.standing = None

    def ripen(self, tick: int) -> bool:
        """Count what becomes ready in this tick; whether anything did."""
        any_ready = False
        while self.starting and self.starting[0][0] <= tick:
            _, id_ = heapq.heappop(self.starting)
            if id_ in self.where:
                self.ready.add(id_)
                any_ready = True
        return any_ready


class Engine:
    """One run of one policy."""

    def __init__(
        self,
        grid: Grid,
        policy: Policy,
        setting: Setting,
        demand: tuple[tuple[int, int], ...],
        conditions: Conditions,
    ) -> None:
        self._policy, self._setting, self._conditions = policy, setting, conditions
        self._ticks, self._steps = grid.ticks, grid.steps
        self._demand = demand
        zones = len(setting.zones)
        self._fleet = _Fleet([{} for _ in range(zones)])
        self._available, self._prices = [0] * zones, [0] * zones
        self._coming = [0] * zones  # capacity as far ahead as notice is given
        self._next_step = self._next_coming = self._next_demand = 0
        self._replicas = demand[0][1]
        self._wake = 0
        self._lost: list[Instance] = []
        self._launched = 0
        self._leaving: list[tuple[int, int]] = []  # heap of (lost_at, id)
        self.totals = Totals()
        self.lives: list[Life] = []

    def play(self) -> Played:
        """Run to the market's end."""
        tick = 0
        while tick < self._ticks:
            if self._begin(tick) or tick >= self._wake:
                self._ask(tick)
            until = self._next_event(tick)
            self._account(tick, until)
            tick = until
        for instance in self._fleet.instances():
            self._settle(instance, self._ticks, lost=False)
        self.lives.sort()
        return Played(self.totals, tuple(self.lives))

    # --- the beginning of a tick --------------------------------------------------------------

    def _begin(self, tick: int) -> bool:
        """What happens by itself; whether the policy can see any of it."""
        seen = self._follow_market(tick)
        seen |= self._follow_demand(tick)
        self._take_away(tick)
        seen |= bool(self._lost)
        seen |= self._give_notice(tick)
        return self._fleet.ripen(tick) | seen

    def _follow_market(self, tick: int) -> bool:
        """Bring capacity and prices up to this tick; whether a price changed."""
        steps, seen = self._steps, False
        while self._next_step < len(steps) and steps[self._next_step].tick <= tick:
            _, zone, available, micros = steps[self._next_step]
            seen |= self._prices[zone] != micros
            self._available[zone], self._prices[zone] = available, micros
            self._next_step += 1
        return seen

    def _follow_demand(self, tick: int) -> bool:
        before = self._replicas
        while self._next_demand < len(self._demand) and self._demand[self._next_demand][0] <= tick:
            self._replicas = self._demand[self._next_demand][1]
            self._next_demand += 1
        return self._replicas != before

    def _take_away(self, tick: int) -> None:
        """Machines whose notice has run out, and then the excess of each zone, oldest first."""
        while self._leaving and self._leaving[0][0] <= tick:
            _, id_ = heapq.heappop(self._leaving)
            if id_ in self._fleet.where:
                self._lose(id_, tick)
        for zone, held in enumerate(self._fleet.spot):
            while len(held) > self._available[zone]:
                self._lose(next(iter(held)), tick)

    def _lose(self, id_: int, tick: int) -> None:
        instance = self._fleet.remove(id_)
        self._lost.append(instance)
        self._settle(instance, tick, lost=True)
        self.totals.preemptions += tick >= self._conditions.warm_up

    def _give_notice(self, tick: int) -> bool:
        """Tell of the losses that a zone's coming capacity means; whether there are any."""
        notice, steps, told = self._setting.notice, self._steps, False
        if not notice:
            return False
        while self._next_coming < len(steps) and steps[self._next_coming].tick <= tick + notice:
            step = steps[self._next_coming]
            self._coming[step.zone] = step.available
            self._next_coming += 1
        for zone, held in enumerate(self._fleet.spot):
            if len(held) <= self._coming[zone]:
                continue
            staying = [one.id for one in held.values() if one.lost_at is None]
            for id_ in staying[: max(0, len(staying) - self._coming[zone])]:
                self._fleet.note(id_, tick + notice)
                heapq.heappush(self._leaving, (tick + notice, id_))
                told = True
        return told

    # --- the policy ---------------------------------------------------------------------------

    def _ask(self, tick: int) -> None:
        attempts = Attempts()
        view = View(
            tick,
            self._replicas,
            tuple(self._prices),
            self._fleet.instances(),
            tuple(self._lost),
            attempts,
        )
        self._lost.clear()
        refusals = orders = 0
        talk = self._policy.tick(view)
        try:
            order = next(talk)
            while True:
                orders += 1
                if orders > MOST_ORDERS:
                    raise PolicyError(f"the policy gave {MOST_ORDERS} orders in tick {tick}")
                if refusals >= ATTEMPTS and isinstance(order, Launch | Probe):
                    raise PolicyError(
                        f"the policy went on after {ATTEMPTS} refusals in tick {tick}",
                        "look at view.attempts before an attempt",
                    )
                outcome = self._obey(order, tick)
                if isinstance(order, Launch | Probe) and not outcome:
                    refusals += 1
                    attempts.left = ATTEMPTS - refusals
                    self.totals.refused += tick >= self._conditions.warm_up
                order = talk.send(outcome)
        except StopIteration as end:
            until = tick + 1 if end.value is None else int(end.value)
            self._wake = max(tick + 1, until)

    def _obey(self, order: Order, tick: int) -> Outcome:
        match order:
            case Launch(zone):
                return self._launch(zone, tick) if self._gives(zone, tick) else None
            case Buy():
                return self._launch(None, tick)
            case End(id_):
                if id_ not in self._fleet.where:
                    raise PolicyError(f"the policy ended machine {id_} in tick {tick}: it has none")
                self._settle(self._fleet.remove(id_), tick, lost=False)
                return None
            case Probe(zone):
                self.totals.probes += tick >= self._conditions.warm_up
                return self._gives(zone, tick)
        raise PolicyError(f"the policy gave in tick {tick} what is no order: {order!r}")

    def _gives(self, zone: int, tick: int) -> bool:
        """Whether the zone gives one machine more."""
        if not 0 <= zone < len(self._available):
            raise PolicyError(f"the policy named zone {zone} in tick {tick}: there is none")
        if len(self._fleet.spot[zone]) >= self._available[zone]:
            return False
        share = self._conditions.refusal
        # One fate for a zone's tick, whoever asks: policies are compared on the same bad luck.
        if not share:
            return True
        fate = Random(f"{self._conditions.seed}/{zone}/{tick}")  # noqa: S311 (no secret)
        return fate.random() >= share

    def _launch(self, zone: int | None, tick: int) -> Instance:
        setting = self._setting
        wait = setting.on_demand_cold_start if zone is None else setting.cold_starts[zone]
        self._launched += 1
        instance = Instance(self._launched, zone, tick, tick + wait)
        self._fleet.add(instance, tick)
        if tick >= self._conditions.warm_up:
            self.totals.launches += 1
            self.totals.launch_micros += self._conditions.launch_micros
        return instance

    def _settle(self, instance: Instance, tick: int, *, lost: bool) -> None:
        id_, zone, launched, ready_at, _ = instance
        self.lives.append(Life(id_, zone, launched, ready_at, tick, lost))

    # --- time ---------------------------------------------------------------------------------

    def _next_event(self, tick: int) -> int:
        """The first later tick in which anything can be different."""
        following = [self._wake, self._ticks]
        if self._next_step < len(self._steps):
            following.append(self._steps[self._next_step].tick)
        if self._setting.notice and self._next_coming < len(self._steps):
            following.append(self._steps[self._next_coming].tick - self._setting.notice)
        if self._next_demand < len(self._demand):
            following.append(self._demand[self._next_demand][0])
        if self._fleet.starting:
            following.append(self._fleet.starting[0][0])
        if self._leaving:
            following.append(self._leaving[0][0])
        if tick < self._conditions.warm_up:
            following.append(self._conditions.warm_up)
        return min(FOREVER, max(tick + 1, min(following)))

    def _account(self, tick: int, until: int) -> None:
        if tick < self._conditions.warm_up:
            return
        totals, fleet, span = self.totals, self._fleet, until - tick
        ready = len(fleet.ready)
        held = [len(machines) for machines in fleet.spot]
        bought = len(fleet.on_demand)
        rate = sum(count * price for count, price in zip(held, self._prices, strict=True))
        totals.spot_micros += rate * span
        totals.on_demand_micros += bought * self._setting.on_demand_micros * span
        totals.spot_held += sum(held) * span
        totals.on_demand_held += bought * span
        totals.short += max(0, self._replicas - ready) * span
        totals.needed += self._replicas * span
        totals.met += span if ready >= self._replicas else 0
        totals.ticks += span
