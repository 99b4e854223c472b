"""The next step towards the best mix of spot and on-demand machines. Pure.

What is held is first cut down in thought to its useful part; then every pool on offer is tried as
one machine more, alone or in the place of one that is held. The best is launched if it pays for
its own cold start within the stay that is expected of it. When nothing is worth launching, what
is held beyond the useful part is ended: machines that are not ready at once, ready ones while
more are ready than are asked for. So whatever moves, moves make before break.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import exp
from typing import Literal, NamedTuple

from arbiter.spot.beliefs import Factors, Pool, age_at, hazard, losses_within, room_seen
from arbiter.spot.mix import Mix, Risk
from arbiter.spot.probes import wait_s
from arbiter.spot.shortlist import SAME, Try, shortlist
from arbiter.spot.situation import ON_DEMAND, Held, Offered, Situation, counted, place_of

STARTING = 2
"""Machines that may be starting at once for each replica, before only missing replicas are
launched; more than that, after the number of replicas has fallen, are ended before they are ready.
So prices alone cause no more launches than that in the time of a cold start."""


class Why(NamedTuple):
    """The figures behind a step, for the decision record.

    Attributes:
        score_before, score_after: on-demand hours per hour, missing replicas included. Of a
            launch or purchase: of the useful part of what is held, and of that with the new
            machine (and without the one it replaces). Of an end: with the machine and without.
        saving: by how much the score falls, on-demand hours per hour.
        double_running: cost of the new machine until it is ready, on-demand hours; 0 for an end.
        stay_h: hours within which the saving has to bring that back; 0 for an end.
        missing_before, missing_after: expected number of replicas missing.
        replaces: pool (or ON_DEMAND) whose machine it makes superfluous; None: it is one more.
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


def next_step(situation: Situation, refused: frozenset[str] = frozenset()) -> Step | None:
    """What to do next, or None: nothing.

    Do it, add what came of it to the situation or to `refused`, and ask again.

    Args:
        refused: pools that refused since the last tick; they are not tried.
    """
    board = _Board(situation)
    cuts = board.cuts()
    return board.launch(cuts[-1].mix, refused) or board.end(cuts)


class _Cut(NamedTuple):
    """A mix after one machine of this place was left out."""

    place: str
    mix: Mix


class _Board:
    """A situation in figures."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation
        self._held = [one for one in situation.held if not one.doomed]
        self._counts = counted(self._held)
        self._starting = sum(not one.ready for one in self._held)
        self._most_starting = STARTING * situation.replicas
        self._ready = {place_of(one) for one in self._held if one.ready}
        self._complete = len(self._held) - self._starting >= situation.replicas
        self._risks: dict[str, Risk] = {}
        self._tries: list[Try] = []
        factors = situation.beliefs.factors
        found = {} if situation.found is None else situation.found
        for offer in situation.offered:
            held, begins_h = self._counts.get(offer.name, 0), self._begins_h(offer)
            known = found.get(key := (offer.name, held, begins_h))
            risk, attempt = known or found.setdefault(key, self._offer(offer, factors))
            self._risks[offer.name] = risk
            if attempt is not None:
                self._tries.append(attempt)
        for one in self._held:
            if place_of(one) not in self._risks:
                self._not_offered(one)
        if situation.on_demand:
            self._on_demand()

    def _offer(self, offer: Offered, factors: Factors) -> tuple[Risk, Try | None]:
        """A pool as a place, and the launch there, if one may be tried."""
        s, (name, region, price, cold_h, notice_h) = self._s, offer
        pool = s.beliefs.pools.get(name) or Pool(region)
        held, room = self._counts.get(name, 0), room_seen(pool, s.now)
        hole_h, after_h = s.on_demand_cold_h - notice_h, self._begins_h(offer)
        loss = full_loss = self._loss(pool, name, 0, hole_h, after_h)
        if room:
            full_loss = self._loss(pool, name, room, hole_h, after_h)
        risk = Risk(price, loss, room, full_loss)
        risk = risk._replace(price=price * (1.0 + risk.at(held)))
        if not self._may_try(pool, held):
            return risk, None
        losses_h = hazard(age_at(pool, s.now), factors.of(name, region))
        stay_h = min(s.tuning.stay_h, 1.0 / losses_h)
        once = price * cold_h
        return risk, Try(name, risk, once, stay_h, once / stay_h)

    def _not_offered(self, one: Held) -> None:
        price = 1.0 if one.price is None else one.price
        loss, s = 0.0, self._s
        if one.pool is not None:
            pool = s.beliefs.pool(one.pool)
            loss = self._loss(pool, one.pool, self._counts[one.pool], s.on_demand_cold_h)
        self._risks[place_of(one)] = Risk(price * (1.0 + loss), loss)

    def _begins_h(self, offer: Offered) -> float:
        """Hours until a pool's losses can make a replica miss: 0 where ours serve, or too few do.

        Elsewhere a machine launched now takes over a cold start later.
        """
        return offer.cold_h if self._complete and offer.name not in self._ready else 0.0

    def _loss(self, pool: Pool, name: str, held: int, hole_h: float, after_h: float = 0.0) -> float:
        """Probability of a loss within the time that a hole lasts, some hours from now."""
        if hole_h <= 0:
            return 0.0
        factors, now = self._s.beliefs.factors, self._s.now
        return 1.0 - exp(-losses_within(pool, factors, name, held, now, hole_h, after_h))

    def _on_demand(self) -> None:
        self._risks[ON_DEMAND] = risk = Risk(1.0, 0.0)
        once, stay_h = self._s.on_demand_cold_h, self._s.tuning.stay_h
        self._tries.append(Try(ON_DEMAND, risk, once, stay_h, once / stay_h))

    def _may_try(self, pool: Pool, held: int) -> bool:
        s = self._s
        if not pool.up:
            return not s.probing
        if pool.full_at is None or held < pool.full_at:
            return True
        return s.now - pool.full_asked >= wait_s(s.tuning, s.now - pool.full_since)

    def cuts(self) -> list[_Cut]:
        """`cut_down`, or what it was when the same machines were held."""
        known = {} if self._s.cut is None else self._s.cut
        key = (tuple(self._held), self._s.on_demand, self._s.replicas)
        risks, cuts = known.get(key) or known.setdefault(key, (self._risks, self.cut_down()))
        risks.update(self._risks)  # the mixes look up places that were not offered then
        return list(cuts)

    def cut_down(self) -> list[_Cut]:
        """What is held, then without one machine after the other that it does without."""
        mix = self._mix(self._counts)
        cuts = [_Cut("", mix)]
        while True:
            most, best = self._s.tuning.drop, ""
            for place in mix.counts:
                if self._risks[place].price > most:  # leaving it out saves no more than that
                    saving = mix.score - mix.score_with(place, -1)
                    if saving > most:
                        most, best = saving, place
            if not best:
                return self._exchanged(cuts)
            mix = mix.with_one(best, -1)
            cuts.append(_Cut(best, mix))

    def _exchanged(self, cuts: list[_Cut]) -> list[_Cut]:
        """The cuts so changed that none is better put back, alone or in the place of another.

        Otherwise a launch could seem worth it where a machine of ours stands idle already.
        """
        out = [cut.place for cut in cuts[1:]]
        mix = cuts[-1].mix
        while better := self._exchange(mix, out):
            back, gone, mix = better
            out.remove(back)
            if gone is not None:
                out.append(gone)
        if mix is cuts[-1].mix:
            return cuts
        ordered = [cuts[0]]
        while out:
            last = ordered[-1].mix
            place = min(dict.fromkeys(out), key=partial(last.score_with, by=-1))
            out.remove(place)
            ordered.append(_Cut(place, last.with_one(place, -1)))
        return ordered

    def _exchange(self, mix: Mix, out: Sequence[str]) -> tuple[str, str | None, Mix] | None:
        """The best place to put one back into, the place that it replaces, and the mix then."""
        most = SAME
        best: tuple[str, str | None] | None = None
        for back in dict.fromkeys(out):
            room = mix.score - self._risks[back].price
            for gone, cost in mix.fewer().items():
                if gone != back and room - cost > most:
                    saving = mix.score - mix.without(gone).score_with(back)
                    if saving > most:
                        most, best = saving, (back, gone)
        if best is None:
            return None
        return *best, mix.without(best[1]).with_one(best[0])

    def launch(self, useful: Mix, refused: frozenset[str]) -> Step | None:
        """The launch or purchase that gains the most, if any gains enough."""
        costs = useful.fewer()
        if self._starting >= self._most_starting:
            if sum(useful.counts.values()) >= self._s.replicas:
                return None
            costs = {None: useful.cost}  # enough moves: only what is missing is launched
        left = [one for one in self._tries if one.name not in refused]
        short = shortlist(useful, left, costs, self._s.tuning.add)
        most, best = 0.0, None
        floors = [
            (one, self._floor(useful, one, costs[one])) for one in costs if one in short.replaced
        ]
        floors.sort(key=lambda one: one[1])
        tries = _worth_scoring(short.tries, useful.counts)
        for one in sorted(tries, key=lambda one: one.risk.price + one.wasted):
            room = useful.score - one.wasted - self._s.tuning.add - one.risk.price
            for replaced, floor in floors:
                if room - floor <= most:
                    break
                if replaced != one.name:
                    after = useful.without(replaced).score_with(one.name)
                    gain = room + one.risk.price - after
                    if gain > most:
                        most, best = gain, (one, replaced)
        if best is None:
            return None
        one, replaced = best
        mix = useful.without(replaced).with_one(one.name)
        why = _why(useful, mix, one.double_running, one.stay_h, replaced)
        if one.name == ON_DEMAND:
            return Step("buy", None, None, why)
        return Step("launch", one.name, None, why)

    def _floor(self, useful: Mix, replaced: str | None, cost: float) -> float:
        """What the score is at least, its own price aside, with any one machine more.

        One machine more takes one from the expected number of replicas missing at most.
        """
        missing = useful.without(replaced).missing - 1.0
        return cost + self._s.missing_cost * max(0.0, missing)

    def end(self, cuts: Sequence[_Cut]) -> Step | None:
        """The end of the most useless machine that may be ended now, if there is one.

        One that is ready may if enough others are ready, and if those do without it, too: what is
        to take its place may not be ready yet. One that is starting may if too many are.
        """
        s = self._s
        ready = self._mix(counted(one for one in self._held if one.ready))
        newest_first = sorted(self._held[::-1], key=lambda one: one.ready)  # noqa: C415 (stable)
        for (_, before), (place, after) in pairwise(cuts):
            machine = next(one for one in newest_first if place_of(one) == place)
            newest_first.remove(machine)
            if not machine.ready and self._starting > self._most_starting:
                return Step("end", machine.pool, machine.id, _why(before, after))
            if machine.ready and sum(ready.counts.values()) > s.replicas:
                without = ready.with_one(place, -1)
                if ready.score - without.score > s.tuning.drop:
                    return Step("end", machine.pool, machine.id, _why(ready, without))
        return None

    def _mix(self, counts: Mapping[str, int]) -> Mix:
        s = self._s
        spare = sum(counts.values()) - s.replicas
        return Mix(self._risks, spare, s.missing_cost, counts)


def _why(
    before: Mix,
    after: Mix,
    double_running: float = 0.0,
    stay_h: float = 0.0,
    replaces: str | None = None,
) -> Why:
    saving = before.score - after.score
    missing = before.missing, after.missing
    return Why(before.score, after.score, saving, double_running, stay_h, *missing, replaces)


def _worth_scoring(tries: Sequence[Try], ours: Mapping[str, int]) -> list[Try]:
    """The places with some of ours, and the others that none of the others beats in everything.

    Among those without any of ours the gain falls with price, loss and wasted cold start, so one
    beaten in all three is never the best, and leaving it out alters no answer.
    """
    front: list[Try] = []
    for one in sorted((one for one in tries if one.name not in ours), key=_key):
        loss, wasted = one.risk.loss, one.wasted
        if all(other.risk.loss > loss or other.wasted > wasted for other in front):
            front.append(one)
    return [one for one in tries if one.name in ours] + front


def _key(one: Try) -> tuple[Risk, float]:
    return one.risk, one.wasted
