"""A mix of machines, and what it costs an hour, missing replicas included. Pure.

    score = price of its machines + V x expected number of replicas missing     on-demand hours

The second term is the number of holes at a random instant when every loss is filled a cold start
later. Within that time pool z loses machines with probability q(z): all n of ours with
probability WHOLE^(n - 1), otherwise one. The pools of a region lose together as `regional` has it,
regions lose independently, and on demand loses nothing. With L machines lost of a mix that has
`spare` more than are asked for, max(0, L - spare) are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arbiter.spot.regional import (
    Exposed,
    by_itself,
    combined,
    fates,
    joined,
    parted,
    struck,
    together,
    when_struck,
    whole,
)

UNSTABLE = 0.45
"""Losses as likely as this are not divided out of a distribution, which is then made anew."""


class Risk(NamedTuple):
    """A pool as a place for a machine.

    Attributes:
        price: of one machine, on-demand hours per hour, what replacing it will cost included.
        loss: probability that the pool takes machines away within the time a hole lasts.
        room: machines that it was just seen to have room for; 0: not known.
        full_loss: the probability where a mix has as many there as it has room for, or more.
        region: whose pools lose together; "": it loses alone.
    """

    price: float
    loss: float
    room: int = 0
    full_loss: float = 0.0
    region: str = ""

    def at(self, count: int) -> float:
        """The probability of a loss with so many machines there."""
        return self.full_loss if count >= self.room > 0 else self.loss


class Mix:
    """Machines by pool, and the distribution of how many of them are lost.

    A value. The distribution is made when it is first asked for; `score_with` finds the score of
    a neighbour, one machine away, in time proportional to the number of spares, not of pools.

    Attributes:
        counts: machines by pool, each at least one.
        cost: price of all of them, on-demand hours per hour.
        missing_cost: V, on-demand hours that one missing replica-hour costs.
    """

    __slots__ = (
        "_fated", "_few", "_lines", "_mean", "_missing", "_new", "_regions", "_rest", "_risks",
        "_score", "_scores", "_spare", "_without", "cost", "counts", "missing_cost",
    )  # fmt: skip

    def __init__(
        self,
        risks: Mapping[str, Risk],
        spare: int,
        missing_cost: float,
        counts: Mapping[str, int],
    ) -> None:
        """A mix of `spare` machines more than are asked for."""
        self._risks = risks
        self._spare = spare
        self.missing_cost = missing_cost
        self.counts = counts
        self.cost = self._mean = 0.0
        for pool, count in counts.items():
            risk = risks[pool]
            self.cost += count * risk.price
            self._mean += _mean(count, risk.at(count))
        self._fated: dict[str, list[tuple[float, float, float]]] = {}
        self._few: list[float] = []
        self._lines: dict[str | None, tuple[float, float]] = {}
        self._new: tuple[float, float] | None = None
        self._missing: float | None = None
        self._regions: dict[str, list[str]] | None = None
        self._rest: dict[str, list[float]] = {}
        self._score: float | None = None
        self._scores: dict[tuple[str, int], float] = {}
        self._without: dict[str, Mix] = {}

    def with_one(self, pool: str, by: int = 1) -> Mix:
        """The mix with `by` machines more in a pool; `by` may be -1."""
        counts = {**self.counts, pool: self.counts.get(pool, 0) + by}
        if not counts[pool]:
            del counts[pool]
        return Mix(self._risks, self._spare + by, self.missing_cost, counts)

    def fewer(self) -> Mapping[str | None, float]:
        """The cost as it is (None), and without one machine of each place."""
        costs: dict[str | None, float] = {None: self.cost}
        for pool in self.counts:
            costs[pool] = self.cost - self._risks[pool].price
        return costs

    def without(self, pool: str | None) -> Mix:
        """The mix without one machine of a pool, made once; None: as it is."""
        if pool is None:
            return self
        if pool not in self._without:
            self._without[pool] = self.with_one(pool, -1)
        return self._without[pool]

    @property
    def missing(self) -> float:
        """The expected number of replicas missing."""
        if self._missing is None:
            self._missing = self._missing_now()
        return self._missing

    def _missing_now(self) -> float:
        spare = self._spare
        if spare <= 0:
            return self._mean - spare
        return max(0.0, self._mean - spare + _left_over(self._distribution(spare), spare))

    @property
    def score(self) -> float:
        """On-demand hours per hour; the less the better."""
        if self._score is None:
            self._score = self.cost + self.missing_cost * self.missing
        return self._score

    def score_with(self, pool: str, by: int = 1) -> float:
        """The score of `with_one(pool, by)`, found once."""
        known = self._scores.get((pool, by))
        if known is None:
            known = self._scores[pool, by] = self._score_with(pool, by)
        return known

    def _score_with(self, pool: str, by: int) -> float:
        risk = self._risks[pool]
        before = self.counts.get(pool, 0)
        if before:
            missing = self._missing_with(pool, risk, before, before + by)
        elif risk.region in self.regions:
            missing = self._with_a_pool_beside(risk.region, risk.at(1))
        else:
            base, slope = self._with_a_new_pool()
            missing = base + slope * risk.at(1)
        return self.cost + by * risk.price + self.missing_cost * max(0.0, missing)

    def _missing_with(self, pool: str, risk: Risk, before: int, after: int) -> float:
        """The replicas missing with so many machines, not so many, in a pool."""
        spare, loss = self._spare + after - before, risk.at(after)
        missing = self._mean - _mean(before, risk.at(before)) + _mean(after, loss) - spare
        if spare <= 0:
            return missing
        return missing + _left_over(self._few_with(pool, after, spare), spare)

    def _with_a_new_pool(self) -> tuple[float, float]:
        """(base, slope): base + slope x loss replicas miss with one machine in a new region.

        In another pool of a region that has some of ours, no fewer miss. The slope is the
        probability that no spare is left over. As it is not negative, the score rises with the new
        pool's price and with its loss: of two pools, one that is both dearer and riskier is never
        the better.
        """
        if self._new is None:
            spare = self._spare + 1
            if spare <= 0:
                self._new = self._mean - spare, 1.0
            else:
                few = self._distribution(spare)
                slope = max(0.0, 1.0 - sum(few[:spare]))
                self._new = self._mean - spare + _left_over(few, spare), slope
        return self._new

    def _with_a_pool_beside(self, region: str, loss: float) -> float:
        """The replicas missing with one machine in a new pool of a region that has some of ours."""
        spare = self._spare + 1
        missing = self._mean + loss - spare
        if spare <= 0:
            return missing
        shock, hit, alone = struck(loss), when_struck(loss), by_itself(loss)
        before = 0.0
        for share, left, any_left in self._fates(region, spare):
            also = min(share, max(0.0, shock - before))  # how much of it strikes the new one, too
            missing += share * left - (also * hit + (share - also) * alone) * any_left
            before += share
        return missing

    def _fates(self, region: str, spare: int) -> list[tuple[float, float, float]]:
        """Of each fate of a region, the most severe first: its share, what is left over of so many
        spares, and the probability that any is."""
        known = self._fated.get(region)
        if known is None:
            exposed = map(self._exposed, self.regions[region])
            known = self._fated[region] = [
                (share, _left_over(few, spare), sum(few[:spare]))
                for share, few in fates(exposed, self._elsewhere(region, spare))
            ]
        return known

    def lines(self) -> Mapping[str | None, tuple[float, float]]:
        """The score with one machine in a new pool, its price aside, as a line over its loss.

        In the place of one machine of each pool, and beside all of them (None); to about 1e-12, as
        distributions are parted and joined for it.
        """
        if not self._lines:
            worth = self.missing_cost
            base, slope = self._with_a_new_pool()
            self._lines[None] = self.cost + worth * base, worth * slope
            for pool, count in self.counts.items():
                base, slope = self._with_a_new_pool_for(pool, count)
                cost = self.cost - self._risks[pool].price
                self._lines[pool] = cost + worth * base, worth * slope
        return self._lines

    def _with_a_new_pool_for(self, pool: str, count: int) -> tuple[float, float]:
        """`_with_a_new_pool` of the mix without one of the machines of a pool."""
        spare, risk = self._spare, self._risks[pool]
        loss = risk.at(count - 1)
        mean = self._mean - _mean(count, risk.at(count)) + _mean(count - 1, loss)
        if spare <= 0:
            return mean - spare, 1.0
        few = self._few_with(pool, count - 1, spare)
        return mean - spare + _left_over(few, spare), max(0.0, 1.0 - sum(few[:spare]))

    def _distribution(self, length: int) -> list[float]:
        """The probabilities that 0, 1, ... machines are lost, at least so many of them."""
        if len(self._few) < length:
            self._few = self._made_anew(max(length, self._spare + 1))
        return self._few

    def _made_anew(self, length: int, leaving_out: str = "") -> list[float]:
        """The distribution of all regions, or of all but one."""
        few = [1.0] + [0.0] * (length - 1)
        for region, pools in self.regions.items():
            if region != leaving_out:
                few = _with_region(few, [self._exposed(pool) for pool in pools])
        return few

    @property
    def regions(self) -> Mapping[str, list[str]]:
        """The pools that may lose machines of ours, by region; one that has none is its own."""
        if self._regions is None:
            self._regions = {}
            for pool, count in self.counts.items():
                risk = self._risks[pool]
                if risk.at(count):
                    self._regions.setdefault(risk.region or pool, []).append(pool)
        return self._regions

    def _exposed(self, pool: str) -> Exposed:
        count = self.counts[pool]
        return Exposed(count, self._risks[pool].at(count))

    def _few_with(self, pool: str, count: int, length: int) -> list[float]:
        """The distribution with so many machines in a pool."""
        risk = self._risks[pool]
        region, loss = risk.region or pool, risk.at(count)
        exposed = [self._exposed(one) for one in self.regions.get(region, ()) if one != pool]
        if count and loss:
            exposed.append(Exposed(count, loss))
        return _with_region(self._elsewhere(region, length)[:length], exposed)

    def _elsewhere(self, region: str, length: int) -> list[float]:
        """The distribution of what the pools of all other regions lose."""
        if region not in self.regions:
            return self._distribution(length)
        known = self._rest.get(region, [])
        if len(known) < length:
            few = self._distribution(length)
            here = together([self._exposed(pool) for pool in self.regions[region]], len(few))
            if here[0] < 1.0 - UNSTABLE:
                known = self._made_anew(len(few), region)
            else:
                known = parted(few, here)
            self._rest[region] = known
        return known


def _with_region(few: list[float], pools: Sequence[Exposed]) -> list[float]:
    """The distribution of what is lost elsewhere, and in a region."""
    if not pools:
        return few
    return joined(few, *pools[0]) if len(pools) == 1 else combined(few, together(pools, len(few)))


def _left_over(few: list[float], spare: int) -> float:
    """The expected number of spares that are not lost."""
    return sum([(spare - lost) * few[lost] for lost in range(spare)])


def _mean(count: int, loss: float) -> float:
    """Expected losses of so many machines in a pool."""
    if count == 1:
        return loss
    return loss * (1.0 + whole(count) * (count - 1)) if count else 0.0
