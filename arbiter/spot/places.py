"""The places of one decision in figures: what a machine there costs, how likely it is lost. Pure.

Most pools on offer are too dear to be the best, whatever their risk. So those without any of ours
are put in figures only as far up in price as the shortlist asks for.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from math import exp
from operator import attrgetter
from typing import NamedTuple

from arbiter.spot.beliefs import UNSEEN_H, Pool, age_at, hazard, losses_within, room_seen
from arbiter.spot.mix import Risk
from arbiter.spot.probes import wait_s
from arbiter.spot.situation import ON_DEMAND, Held, Offered, Situation, counted, place_of

FEW = 8
"""Pools that are put in figures at a time: what they gain may leave out the dearer ones."""


class Try(NamedTuple):
    """A place that a machine may be launched in.

    Attributes:
        order: of equals the first in this order is preferred.
        double_running: cost of its cold start, on-demand hours. stay_h: expected stay, hours.
        wasted: that cost over that stay, on-demand hours per hour.
        dear: that and the price of a machine.
    """

    name: str
    order: tuple[float, int]
    risk: Risk
    double_running: float
    stay_h: float
    wasted: float
    dear: float


class Places:
    """The places of a situation; a machine that is launched, and a pool more, may be added.

    Attributes:
        risks: of each place that was looked at, those with machines of ours among them.
        ours: launches in places with machines of ours, and on demand.
        others: launches elsewhere as far as they were looked at, the least dear first; a place in
            which one was launched since is still among them.
        least_loss: none of these loses less than this.
    """

    def __init__(self, situation: Situation, held: Sequence[Held]) -> None:
        """The places of these machines of ours, and of what is offered."""
        self._s, self._factors = situation, situation.beliefs.factors
        self._counts = counted(held)
        self._ready = {place_of(one) for one in held if one.ready}
        self._complete = sum(one.ready for one in held) >= situation.replicas
        self._offers: dict[str, tuple[Offered, tuple[float, int]]] = {}
        self._unseen: list[Offered] = []
        self.risks: dict[str, Risk] = {}
        self.ours: dict[str, Try] = {}
        self.others: list[Try] = []
        self.least_loss = 1.0
        for offer in situation.offered:
            self._know(offer)
            if offer.name in self._counts:
                self._look(offer)
            else:
                self._unseen.append(offer)
        self._unseen.sort(key=attrgetter("price"), reverse=True)
        for one in held:
            if place_of(one) not in self.risks:
                self._not_offered(one)
        if situation.on_demand:
            self._on_demand()

    @property
    def counts(self) -> Mapping[str, int]:
        """Machines of ours by place."""
        return self._counts

    def offer(self, offer: Offered) -> None:
        """One pool more that may be launched in."""
        self._know(offer)
        self._look(offer)

    def hold(self, one: Held) -> None:
        """One machine of ours more, which is not ready."""
        place = place_of(one)
        self._counts = {**self._counts, place: self._counts.get(place, 0) + 1}
        if place in self._offers:
            self._look(self._offers[place][0])
        elif place not in self.risks:
            self._not_offered(one)

    def buy_no_more(self, held: Sequence[Held]) -> None:
        """Nothing can be bought on demand any more; these are all machines of ours."""
        self.ours.pop(ON_DEMAND, None)
        self.risks.pop(ON_DEMAND, None)
        bought = next((one for one in held if one.pool is None), None)
        if bought is not None:
            self._not_offered(bought)

    def sets_price(self, held: Sequence[Held]) -> bool:
        """Whether `buy_no_more` would change the figures of a machine of ours."""
        bought = next((one for one in held if one.pool is None), None)
        return ON_DEMAND in self.ours and bought is not None and bought.price not in (None, 1.0)

    def look_up_to(self, price: float, refused: Collection[str] = ()) -> list[Try]:
        """Put in figures the next few that cost less than this, on-demand hours per hour.

        Args:
            refused: pools that may be left out for good.

        Returns:
            The launches found; none: there are no more.
        """
        found: list[Try] = []
        while len(found) < FEW and self._unseen and self._unseen[-1].price < price:
            offer = self._unseen.pop()
            attempt = None if offer.name in refused else self._look(offer)
            found += [] if attempt is None else [attempt]
        return found

    def _know(self, offer: Offered) -> None:
        self._offers[offer.name] = offer, (offer.rank, len(self._offers))

    def _look(self, offer: Offered) -> Try | None:
        held, begins_h = self._counts.get(offer.name, 0), self._begins_h(offer)
        risk, attempt = self._figures(offer, held, begins_h)
        self.risks[offer.name] = risk
        self.ours.pop(offer.name, None)
        if attempt is not None and held:
            self.ours[offer.name] = attempt
        elif attempt is not None:
            insort(self.others, attempt, key=attrgetter("dear"))
            self.least_loss = min(self.least_loss, risk.at(1))
        return attempt

    def _figures(self, offer: Offered, held: int, begins_h: float) -> tuple[Risk, Try | None]:
        """A pool as a place, and the launch there, if one may be tried."""
        s, (name, region, price, cold_h, notice_h, _) = self._s, offer
        pool = s.beliefs.pools.get(name) or Pool(region)
        room, hole_h = room_seen(pool, s.now), s.on_demand_cold_h - notice_h
        loss = full_loss = self._loss(pool, name, 0, hole_h, begins_h)
        if room:
            full_loss = self._loss(pool, name, room, hole_h, begins_h)
        now = full_loss if held >= room > 0 else loss
        risk = Risk(price * (1.0 + now), loss, room, full_loss, region)
        if not self._may_try(pool, held):
            return risk, None
        losses_h = hazard(age_at(pool, s.now), self._factors.of(name, region))
        stay_h = min(s.tuning.stay_h, 1.0 / losses_h)
        once = price * cold_h
        wasted = once / stay_h
        order = self._offers[name][1]
        return risk, Try(name, order, risk, once, stay_h, wasted, risk.price + wasted)

    def _not_offered(self, one: Held) -> None:
        price = 1.0 if one.price is None else one.price
        loss, region, s = 0.0, "", self._s
        if one.pool is not None:
            pool = s.beliefs.pool(one.pool)
            region = pool.region
            loss = self._loss(pool, one.pool, self._counts[one.pool], s.on_demand_cold_h)
        self.risks[place_of(one)] = Risk(price * (1.0 + loss), loss, region=region)

    def _begins_h(self, offer: Offered) -> float:
        """Hours until a pool's losses can make a replica miss: 0 where ours serve, or too few do.

        Elsewhere a machine launched now takes over a cold start later.
        """
        return offer.cold_h if self._complete and offer.name not in self._ready else 0.0

    def _loss(self, pool: Pool, name: str, held: int, hole_h: float, after_h: float = 0.0) -> float:
        """Probability of a loss within the time that a hole lasts, some hours from now."""
        if hole_h <= 0:
            return 0.0
        span_h = self._span_h(pool, name, hole_h)
        expected = losses_within(pool, self._factors, name, held, self._s.now, span_h, after_h)
        return 1.0 - exp(-expected * hole_h / span_h)

    def _span_h(self, pool: Pool, name: str, hole_h: float) -> float:
        """Hours whose mean losses are those that count.

        Where nobody can ask, only a machine there shows that a pool grows old. One that may be of
        any age is then judged by a stay, or it would be left alone for ever.
        """
        s = self._s
        watched = s.probing or name in self._counts or age_at(pool, s.now) < UNSEEN_H
        return hole_h if watched else max(hole_h, s.tuning.unseen_stay_h)

    def _on_demand(self) -> None:
        self.risks[ON_DEMAND] = risk = Risk(1.0, 0.0)
        once, stay_h = self._s.on_demand_cold_h, self._s.tuning.stay_h
        wasted, last = once / stay_h, (float("inf"), 0)
        self.ours[ON_DEMAND] = Try(ON_DEMAND, last, risk, once, stay_h, wasted, 1.0 + wasted)

    def _may_try(self, pool: Pool, held: int) -> bool:
        s = self._s
        if not pool.up:
            return not s.probing
        if pool.full_at is None or held < pool.full_at:
            return True
        return s.now - pool.full_asked >= wait_s(s.tuning, s.now - pool.full_since)
