"""The next step towards the best mix of spot and on-demand machines. Pure.

What is held is first cut down in thought to its useful part; then every pool on offer is tried as
one machine more, alone or in the place of one that is held. The best is launched if it pays for
its own cold start within the stay that is expected of it. When nothing is worth launching, what
is held beyond the useful part is ended: machines that are not ready at once, ready ones while
more are ready than are asked for. So whatever moves, moves make before break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Literal, NamedTuple

from arbiter.spot.beliefs import HOUR, Beliefs, Pool, foreseen, hazard
from arbiter.spot.mix import Mix, Risk


@dataclass(frozen=True, slots=True)
class Tuning:
    """Constants of the rule. The score is flat around them: none was fitted closely.

    Attributes:
        add, drop: on-demand hours per hour that a launch, or an end, must at least be worth.
        stay_h: longest stay that is counted on, hours: prices and needs change, too.
        up_probe_s: seconds after which a pool with room, and none of ours, is asked again.
        down_probe_min_s, down_probe_max_s, down_share: one that refused is asked again after
            this share of the time since it did, within these bounds, seconds.
        unknown_age_h: age of a run that nobody has seen the beginning of, hours.
    """

    add: float = 0.03
    drop: float = 0.03
    stay_h: float = 3.0
    up_probe_s: float = 600.0
    down_probe_min_s: float = 180.0
    down_probe_max_s: float = 1800.0
    down_share: float = 0.1
    unknown_age_h: float = 1.0


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the user wants.

    Attributes:
        missing_cost: V, on-demand hours that one missing replica-hour costs.
        availability: share of time with all replicas ready that V is steered to; None: V stays.
        budget: mean cost as a share of all on demand that V is steered to; None: V stays.
    """

    missing_cost: float = 20.0
    availability: float | None = None
    budget: float | None = None


class Offered(NamedTuple):
    """A pool as it is offered now.

    Attributes:
        price: on-demand hours per hour.
        cold_h: hours from a launch to ready.
        notice_h: hours of warning before a loss; 0: none, or not known.
    """

    name: str
    region: str
    price: float
    cold_h: float
    notice_h: float = 0.0


class Held(NamedTuple):
    """One machine of ours.

    Attributes:
        pool: where it runs; None: on demand.
        doomed: its loss was announced.
        price: what it costs now, on-demand hours per hour, where its pool is not offered.
    """

    id: int | str
    pool: str | None
    ready: bool
    doomed: bool = False
    price: float | None = None


class Why(NamedTuple):
    """The figures behind a step, for the decision record.

    Attributes:
        score_before, score_after: of the useful part of what is held, and with the step done
            (for a machine in the place of another: with that one gone). On-demand hours per hour.
        saving: what the step saves, on-demand hours per hour, before the next two.
        double_running: cost of the machine until it is ready, on-demand hours.
        stay_h: hours over which that has to come back.
        missing_before, missing_after: expected number of replicas missing.
        replaces: pool whose machine it makes superfluous ("" is on demand); None: no machine.
    """

    score_before: float
    score_after: float
    saving: float
    double_running: float
    stay_h: float
    missing_before: float
    missing_after: float
    replaces: str | None = None


class Step(NamedTuple):
    """One thing to do: launch in a pool, buy on demand, or end the machine `id`."""

    kind: Literal["launch", "buy", "end"]
    pool: str | None
    id: int | str | None
    why: Why


@dataclass(frozen=True)
class Situation:
    """All that a decision is made from.

    Attributes:
        now: seconds, on the clock of the beliefs' events.
        on_demand_cold_h: hours from buying on demand to ready.
        offered: pools that may be launched in, no name twice.
        held: machines of ours, oldest first, those being ended left out.
        probing: whether pools can be asked without launching. If not, one never heard of, or
            believed down, may be tried.
        on_demand: whether machines can be bought on demand.
    """

    now: float
    replicas: int
    knobs: Knobs
    on_demand_cold_h: float
    offered: Sequence[Offered]
    held: Sequence[Held]
    beliefs: Beliefs
    probing: bool = True
    on_demand: bool = True
    tuning: Tuning = field(default_factory=Tuning)


def next_step(situation: Situation, refused: frozenset[str] = frozenset()) -> Step | None:
    """What to do next, or None: nothing.

    Do it, add what came of it to the situation or to `refused`, and ask again.

    Args:
        refused: pools that refused since the last tick; they are not tried.
    """
    board = _Board(situation)
    useful = board.useful()
    return board.launch(useful, refused) or board.end()


def probes(situation: Situation) -> list[str]:
    """Pools with none of ours that should be asked whether they have room, most overdue first."""
    now, tuning = situation.now, situation.tuning
    ours = {one.pool for one in situation.held}
    due = []
    for offer in situation.offered:
        if offer.name not in ours:
            pool = situation.beliefs.pool(offer.name, offer.region)
            late = now - pool.seen_at - _probe_wait(tuning, pool, now)
            if late >= 0:
                due.append((-late, offer.name))
    due.sort(key=lambda one: one[0])
    return [name for _, name in due]


def _probe_wait(tuning: Tuning, pool: Pool, now: float) -> float:
    if pool.up:
        return tuning.up_probe_s
    return 0.0 if pool.down_since is None else wait_s(tuning, now - pool.down_since)


def wait_s(tuning: Tuning, down_s: float) -> float:
    """Seconds after which a pool is asked again that has refused for `down_s` seconds."""
    return min(tuning.down_probe_max_s, max(tuning.down_probe_min_s, tuning.down_share * down_s))


class _Try(NamedTuple):
    """A pool that may be launched in."""

    name: str
    risk: Risk
    double_running: float
    stay_h: float

    @property
    def wasted(self) -> float:
        """The cold start's cost over the stay, on-demand hours per hour."""
        return self.double_running / self.stay_h


class _Board:
    """A situation in figures."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation
        self._risks: dict[str, Risk] = {}
        self._tries: list[_Try] = []
        self._counts: dict[str, int] = {}
        self._bought = 0
        held = [one for one in situation.held if not one.doomed]
        for one in held:
            if one.pool is None:
                self._bought += 1
            else:
                self._counts[one.pool] = self._counts.get(one.pool, 0) + 1
        self._held = held
        factors = situation.beliefs.factors
        for offer in situation.offered:
            self._offer(offer, factors.of(offer.name, offer.region))
        for one in held:
            if one.pool is not None and one.pool not in self._risks:
                self._withdrawn(one.pool, one.price)

    def _offer(self, offer: Offered, factor: float) -> None:
        s, (name, region, price, cold_h, notice_h) = self._s, offer
        pool = s.beliefs.pools.get(name) or Pool(region)
        age_h = self._age_h(pool)
        hole_h = max(0.0, s.on_demand_cold_h - notice_h)
        loss = 1.0 - exp(-factor * foreseen(age_h, age_h + hole_h))
        self._risks[name] = risk = Risk(price * (1.0 + loss), loss)
        if self._may_try(pool, self._counts.get(name, 0)):
            stay_h = min(s.tuning.stay_h, 1.0 / hazard(age_h, factor))
            self._tries.append(_Try(name, risk, price * cold_h, stay_h))

    def _withdrawn(self, name: str, price: float | None) -> None:
        s = self._s
        pool = s.beliefs.pool(name)
        age_h = self._age_h(pool)
        factor = s.beliefs.factors.of(name, pool.region)
        loss = 1.0 - exp(-factor * foreseen(age_h, age_h + s.on_demand_cold_h))
        self._risks[name] = Risk((1.0 if price is None else price) * (1.0 + loss), loss)

    def _age_h(self, pool: Pool) -> float:
        """Age of the run as far as it is known; a run not seen for long is one of unknown age."""
        if pool.up_since is None:
            new = pool.down_since is None
            return self._s.tuning.unknown_age_h if new else 0.0
        return max(0.0, self._s.now - pool.up_since) / HOUR

    def _may_try(self, pool: Pool, held: int) -> bool:
        s = self._s
        if not pool.up:
            return not s.probing
        if pool.full_at is None or held < pool.full_at:
            return True
        since = s.now - pool.full_since
        return since >= wait_s(s.tuning, since)

    def mix(self, counts: Mapping[str, int], on_demand: int) -> Mix:
        s = self._s
        return Mix(self._risks, s.replicas, s.knobs.missing_cost, counts, on_demand)

    def useful(self) -> Mix:
        """What is held, without the machines that the best part of it does without."""
        mix = self.mix(self._counts, self._bought)
        while True:
            least = min(_leaving(mix), key=lambda one: one[1].score, default=None)
            if least is None or mix.score - least[1].score <= self._s.tuning.drop:
                return mix
            mix = least[1]

    def launch(self, useful: Mix, refused: frozenset[str]) -> Step | None:
        """The launch or purchase that gains the most, if any gains enough."""
        s = self._s
        before = useful.score
        bases: list[tuple[str | None, Mix, bool]] = [(None, useful, False)]
        bases += [(pool, mix, True) for pool, mix in _leaving(useful)]
        lines = [mix.with_a_new_pool() for _, mix, _ in bases]
        best_gain = 0.0
        best: tuple[_Try, str | None, Mix, bool] | None = None
        for one in _front(self._tries, refused, useful.counts):
            held = one.name in useful.counts
            for (leaving, mix, swap), line in zip(bases, lines, strict=True):
                if swap and leaving == one.name:
                    continue
                after = mix.with_one(one.name).score if held else line.at(one.risk)
                gain = before - after - one.wasted - s.tuning.add
                if gain > best_gain:
                    best_gain, best = gain, (one, leaving, mix, swap)
        if s.on_demand:
            stay_h = s.tuning.stay_h
            after_mix = useful.with_one(None)
            gain = before - after_mix.score - s.on_demand_cold_h / stay_h - s.tuning.add
            if gain > best_gain:
                return Step(
                    "buy", None, None, _why(useful, after_mix, s.on_demand_cold_h, stay_h, None)
                )
        if best is None:
            return None
        one, leaving, mix, swap = best
        replaces = (leaving or "") if swap else None
        after_mix = mix.with_one(one.name)
        why = _why(useful, after_mix, one.double_running, one.stay_h, replaces)
        return Step("launch", one.name, None, why)

    def end(self) -> Step | None:
        """The most useless machine: one that the best part of what is held does without."""
        s = self._s
        mix = self.mix(self._counts, self._bought)
        ready_counts: dict[str, int] = {}
        ready_bought = 0
        for one in self._held:
            if one.ready:
                if one.pool is None:
                    ready_bought += 1
                else:
                    ready_counts[one.pool] = ready_counts.get(one.pool, 0) + 1
        ready = self.mix(ready_counts, ready_bought)
        all_ready = sum(ready_counts.values()) + ready_bought
        held = sorted(self._held[::-1], key=lambda one: one.ready)  # the newest first
        while True:
            least = min(_leaving(mix), key=lambda one: one[1].score, default=None)
            if least is None or mix.score - least[1].score <= s.tuning.drop:
                return None
            pool, after = least
            machine = next(one for one in held if one.pool == pool)
            if not machine.ready:
                return Step("end", pool, machine.id, _why(mix, after, 0.0, 0.0, None))
            if all_ready > s.replicas:
                without = ready.without_one(pool)
                if ready.score - without.score > s.tuning.drop:
                    return Step("end", pool, machine.id, _why(ready, without, 0.0, 0.0, None))
            held.remove(machine)
            mix = after


def _why(
    before: Mix, after: Mix, double_running: float, stay_h: float, replaces: str | None
) -> Why:
    return Why(
        before.score,
        after.score,
        before.score - after.score,
        double_running,
        stay_h,
        before.missing,
        after.missing,
        replaces,
    )


def _leaving(mix: Mix) -> Iterable[tuple[str | None, Mix]]:
    """The mixes with one machine less, on demand first."""
    places: list[str | None] = [None] if mix.on_demand else []
    return [(place, mix.without_one(place)) for place in [*places, *mix.counts]]


def _front(tries: Sequence[_Try], refused: frozenset[str], ours: Mapping[str, int]) -> list[_Try]:
    """The pools worth scoring: with some of ours, or not worse than another in everything.

    Among pools without any of ours the gain falls with price, loss and wasted cold start, so one
    that is beaten in all three is never chosen, and leaving it out alters no answer.
    """
    kept = [one for one in tries if one.name in ours and one.name not in refused]
    front: list[_Try] = []
    new = [one for one in tries if one.name not in ours and one.name not in refused]
    for one in sorted(new, key=lambda one: (one.risk, one.wasted)):
        loss, wasted = one.risk.loss, one.wasted
        if not any(other.risk.loss <= loss and other.wasted <= wasted for other in front):
            front.append(one)
    return kept + front
