"""Our own policy in the backtest: the orders that `arbiter.spot` decides on."""

from __future__ import annotations

from collections.abc import Sequence

from arbiter.backtest.view import Buy, End, Instance, Launch, Orders, Probe, Setting, View
from arbiter.spot.beliefs import HOUR, Beliefs, Event, Happened, learn, with_goal
from arbiter.spot.decide import Step, next_step
from arbiter.spot.goal import begun, served
from arbiter.spot.probes import probes
from arbiter.spot.situation import Held, Knobs, Offered, Situation, Tuning

MOST_STEPS = 1000
"""Steps in one tick; the rule ends by itself long before."""

MOST_PROBES = 3
"""Probes in one tick."""


class Arbiter:
    """Beliefs, and a decision every few ticks.

    Args:
        knobs: what the user wants; None: the setting's missing cost.
        every: ticks between decisions while nothing happens.
    """

    def __init__(
        self,
        setting: Setting,
        knobs: Knobs | None = None,
        tuning: Tuning | None = None,
        look: int = 3,
        calm: int = 10,
        notable: float = 0.02,
    ) -> None:
        self._setting = setting
        self._knobs = knobs or Knobs(missing_cost=setting.missing_cost)
        self._tuning = tuning or Tuning()
        self._look = look
        self._calm = calm
        self._notable = notable
        self._look_at = self._decide_at = 0
        self._seen: tuple[int, tuple[Instance, ...], int] | None = None
        self._prices: tuple[int, ...] = ()
        self._standing: list[Instance] = []
        self._beliefs = Beliefs()
        self._number = {zone.name: number for number, zone in enumerate(setting.zones)}
        hours = setting.tick_s / HOUR
        self._offered = [
            Offered(zone.name, zone.region, 1.0, cold * hours, setting.notice * hours)
            for zone, cold in zip(setting.zones, setting.cold_starts, strict=True)
        ]
        self._offered_at: tuple[int, ...] = ()  # the prices that those are at
        self._told: set[int] = set()  # machines whose coming loss was learnt already

    def tick(self, view: View) -> Orders:
        """Learn, step until nothing is left to do, and probe."""
        stirred = self._stirred(view)
        if not stirred and view.tick < self._look_at:
            return self._look_at
        held = list(view.instances)
        self._learn(view)
        self._account(view)
        if stirred or view.tick >= self._decide_at:
            yield from self._decide(view, held)
        for name in probes(self._situation(view, held))[:MOST_PROBES]:
            if not view.attempts:
                break
            given = yield Probe(self._number[name])
            before = self._beliefs.pool(name)
            self._heard(view, name, bool(given), self._held_in(name, held))
            after = self._beliefs.pool(name)
            if after.up != before.up or after.shrunk_since != before.shrunk_since:
                self._decide_at = view.tick
        if self._decide_at <= view.tick:
            yield from self._decide(view, held)
        self._standing = held
        self._look_at = min(self._decide_at, view.tick + (self._look if view.attempts else 1))
        return self._look_at

    def _decide(self, view: View, held: list[Instance]) -> Orders:
        """Carry out steps until there is none."""
        refused: set[str] = set()
        blocked = False
        for _ in range(MOST_STEPS):
            step = next_step(self._situation(view, held), frozenset(refused))
            if step is None:
                break
            if step.kind == "launch" and not view.attempts:
                blocked = True
                break
            yield from self._do(view, step, held, refused)
        self._prices = view.prices
        self._seen = self._state(view, held)
        calm = self._seen[2] == len(held) >= view.replicas
        wait = self._calm if calm else self._look
        self._decide_at = view.tick + (1 if blocked else wait)
        return None

    def _account(self, view: View) -> None:
        """Steer towards the goal by what stood since the last look."""
        knobs, now = self._knobs, view.tick * self._setting.tick_s
        if knobs.availability is None and knobs.budget is None:
            return
        goal = self._beliefs.goals.get("") or begun(knobs, now)
        ready = sum(one.ready_at < view.tick for one in self._standing)
        prices, od = self._prices, self._setting.on_demand_micros
        cost = sum(1.0 if one.zone is None else prices[one.zone] / od for one in self._standing)
        goal = served(goal, knobs, now, ready=ready, replicas=view.replicas, cost=cost)
        self._beliefs = with_goal(self._beliefs, "", goal)

    def _stirred(self, view: View) -> bool:
        """Whether anything but time has passed since the last decision."""
        if view.lost or self._state(view, view.instances) != self._seen:
            return True
        return any(
            abs(now - before) > self._notable * before
            for now, before in zip(view.prices, self._prices, strict=True)
        )

    @staticmethod
    def _state(view: View, held: Sequence[Instance]) -> tuple[int, tuple[Instance, ...], int]:
        return view.replicas, tuple(held), sum(map(view.is_ready, held))

    def _do(self, view: View, step: Step, held: list[Instance], refused: set[str]) -> Orders:
        if step.kind == "end":
            assert isinstance(step.id, int)
            yield End(step.id)
            held[:] = [one for one in held if one.id != step.id]
            return None
        if step.kind == "buy":
            bought = yield Buy()
            assert isinstance(bought, Instance)
            held.append(bought)
            return None
        assert step.pool is not None
        given = yield Launch(self._number[step.pool])
        self._heard(view, step.pool, given is not None, self._held_in(step.pool, held))
        if isinstance(given, Instance):
            held.append(given)
        else:
            refused.add(step.pool)
        return None

    def _held_in(self, pool: str, held: Sequence[Instance]) -> int:
        zone = self._number[pool]
        return sum(one.zone == zone for one in held)

    def _heard(self, view: View, pool: str, given: bool, held: int) -> None:
        zone = self._setting.zones[self._number[pool]]
        kind = Happened.GAVE if given else Happened.REFUSED
        event = Event(view.tick * self._setting.tick_s, pool, zone.region, kind, held)
        self._beliefs = learn(self._beliefs, [event])

    def _learn(self, view: View) -> None:
        """What was lost or announced to be, and what still stands."""
        now = view.tick * self._setting.tick_s
        lost: dict[int, int] = {}
        stands: dict[int, int] = {}
        for one in view.lost:
            if one.zone is not None and one.id not in self._told:
                lost[one.zone] = lost.get(one.zone, 0) + 1
            self._told.discard(one.id)
        for one in view.instances:
            if one.zone is None:
                continue
            if one.lost_at is None:
                stands[one.zone] = stands.get(one.zone, 0) + 1
            elif one.id not in self._told:
                self._told.add(one.id)
                lost[one.zone] = lost.get(one.zone, 0) + 1
        events = []
        for number, zone in enumerate(self._setting.zones):
            gone, left = lost.get(number, 0), stands.get(number, 0)
            if gone:
                kind = Happened.LOST
                events.append(Event(now, zone.name, zone.region, kind, gone + left, gone))
            elif left:
                events.append(Event(now, zone.name, zone.region, Happened.STANDS, left))
        if events:
            self._beliefs = learn(self._beliefs, events)

    def _situation(self, view: View, held: list[Instance]) -> Situation:
        setting = self._setting
        if view.prices != self._offered_at:
            self._offered_at = view.prices
            self._offered = [
                base._replace(price=price / setting.on_demand_micros)
                for base, price in zip(self._offered, view.prices, strict=True)
            ]
        return Situation(
            now=view.tick * setting.tick_s,
            replicas=view.replicas,
            knobs=self._knobs,
            on_demand_cold_h=setting.on_demand_cold_start * setting.tick_s / HOUR,
            offered=self._offered,
            held=[
                Held(
                    one.id,
                    None if one.zone is None else setting.zones[one.zone].name,
                    view.is_ready(one),
                    one.lost_at is not None,
                )
                for one in held
            ],
            beliefs=self._beliefs,
            probing=True,
            tuning=self._tuning,
        )
