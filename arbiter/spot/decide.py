"""The next step towards the best mix of spot and on-demand machines. Pure.

What is held is first cut down in thought to its useful part; then every pool on offer is tried as
one machine more, alone or in the place of one that is held. The best is launched if it pays for
its own cold start within the stay that is expected of it. When nothing is worth launching, what
is held beyond the useful part is ended: machines that are not ready at once, ready ones while
more are ready than are asked for. So whatever moves, moves make before break.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from operator import attrgetter
from typing import Literal, NamedTuple

from arbiter.spot.mix import Mix, Risk
from arbiter.spot.places import Places, Try
from arbiter.spot.shortlist import SAME, nearly, shortlist
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


def next_step(situation: Situation, refused: Collection[str] = ()) -> Step | None:
    """What to do next, or None: nothing.

    Do it, add what came of it to the situation or to `refused`, and ask again.

    Args:
        refused: pools that refused since the last tick; they are not tried.
    """
    return Board(situation).step(refused)


class _Cut(NamedTuple):
    """A mix after one machine of this place was left out."""

    place: str
    mix: Mix


class Board:
    """A situation in figures, kept from one step to the next while it only grows.

    Attributes:
        missing_cost: the V in force.
    """

    def __init__(self, situation: Situation) -> None:
        self._s = situation
        self.missing_cost = situation.missing_cost
        self._held = [one for one in situation.held if not one.doomed]
        self._starting = sum(not one.ready for one in self._held)
        self._most_starting = STARTING * situation.replicas
        self._places = Places(situation, self._held)
        self._risks = self._places.risks
        self._cuts: list[_Cut] | None = None

    def step(self, refused: Collection[str] = ()) -> Step | None:
        """As `next_step`; what has refused once must be among the refused ever after."""
        if self._cuts is None:
            self._cuts = self.cut_down()
        return self.launch(self._cuts[-1].mix, refused) or self.end(self._cuts)

    def idle(self, refused: Collection[str], *, beside: bool) -> bool:
        """Whether `step` leads to nothing where no machine may take the place of another.

        Whoever refuses such a launch, and asks again, is told of the next best, and at last of what
        is to end. This is the quick answer for all of them: if it is yes, then nothing comes of it.

        Args:
            beside: whether a machine may be launched beside what is held.
        """
        if self._cuts is None:
            self._cuts = self.cut_down()
        if self._places.sets_price(self._held) or self.end(self._cuts) is not None:
            return False
        return not beside or not self._gains_beside(self._cuts[-1].mix, refused)

    def _gains_beside(self, useful: Mix, refused: Collection[str]) -> bool:
        """Whether any launch may gain enough that makes no other machine superfluous."""
        least = self._s.tuning.add
        tries = shortlist(useful, self._places, (None,), least, refused).tries
        most = useful.score - least + nearly(useful)
        return any(useful.score_with(one.name) + one.wasted < most for one in tries)

    def offer(self, offer: Offered) -> None:
        """One pool more that may be launched in."""
        self._places.offer(offer)
        if offer.name in self._places.counts:
            self._cuts = None

    def hold(self, one: Held) -> None:
        """One machine more of ours, which was launched and is not ready."""
        self._held.append(one)
        self._starting += 1
        self._places.hold(one)
        self._cuts = None

    def buy_no_more(self) -> None:
        """Nothing can be bought on demand any more."""
        self._places.buy_no_more(self._held)
        self._cuts = None

    def cut_down(self) -> list[_Cut]:
        """What is held, then without one machine after the other that it does without."""
        mix = self._mix(self._places.counts)
        cuts = [_Cut("", mix)]
        while True:
            most, best = self._s.tuning.drop, ""
            lines, same = mix.lines(), nearly(mix)
            for place in mix.counts:
                # No machine is one that is always lost, and costs nothing.
                if mix.score - sum(lines[place]) > most - same:
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

    def launch(self, useful: Mix, refused: Collection[str]) -> Step | None:
        """The launch or purchase that gains the most, if any gains enough."""
        costs = useful.fewer()
        if self._starting >= self._most_starting:
            if sum(useful.counts.values()) >= self._s.replicas:
                return None
            costs = {None: useful.cost}  # enough moves: only what is missing is launched
        short = shortlist(useful, self._places, costs, self._s.tuning.add, refused)
        most, best = 0.0, None
        floors = [
            (one, self._floor(useful, one, costs[one])) for one in costs if one in short.replaced
        ]
        floors.sort(key=lambda one: one[1])
        tries = _worth_scoring(short.tries, useful)
        for one in sorted(tries, key=attrgetter("dear")):
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
        return cost + self.missing_cost * max(0.0, missing)

    def end(self, cuts: Sequence[_Cut]) -> Step | None:
        """The end of the most useless machine that may be ended now, if there is one.

        One that is ready may if enough others are ready, and if those do without it, too: what is
        to take its place may not be ready yet. One that is starting may if too many are.
        """
        if len(cuts) == 1:
            return None
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
        return Mix(self._risks, spare, self.missing_cost, counts)


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


def _worth_scoring(tries: Sequence[Try], useful: Mix) -> list[Try]:
    """The places with some of ours, and the others that none of the others beats in everything.

    Among those without any of ours the gain falls with price, loss and wasted cold start, and is
    the lower in a region that has some. So one is never the best that is beaten in all three, by
    another of its region or by one of a region without any of ours; leaving it out alters nothing.
    """
    fronts: dict[str, list[Try]] = {"": []}
    for one in sorted((one for one in tries if one.name not in useful.counts), key=_key):
        region = one.risk.region if one.risk.region in useful.regions else ""
        own, loss, wasted = fronts.setdefault(region, []), one.risk.loss, one.wasted
        beaten_by = own + fronts[""] if region else own
        if all(other.risk.loss > loss or other.wasted > wasted for other in beaten_by):
            own.append(one)
    worth = [one for front in fronts.values() for one in front]
    return [one for one in tries if one.name in useful.counts] + worth


def _key(one: Try) -> tuple[Risk, float]:
    return one.risk, one.wasted
