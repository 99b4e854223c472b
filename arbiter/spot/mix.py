"""A mix of machines, and what it costs an hour, missing replicas included. Pure.

    score = price of its machines + V x expected number of replicas missing     on-demand hours

The second term is the number of holes at a random instant when every loss is filled a cold start
later. Within that time pool z loses machines with probability q(z): all n of ours with
probability WHOLE, otherwise one. Pools lose independently; on demand loses nothing. With L
machines lost of a mix that has `spare` more than are asked for, max(0, L - spare) are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

WHOLE = 0.5
"""Share of a pool's losses that take all of our machines there; the others take one.

In the recordings of four machines held in each of three zones about half of the losses did."""

UNSTABLE = 0.45
"""Losses as likely as this are not divided out of a distribution, which is then made anew."""


class Risk(NamedTuple):
    """A pool as a place for a machine.

    Attributes:
        price: of one machine, on-demand hours per hour, what replacing it will cost included.
        loss: probability that the pool takes machines away within the time a hole lasts.
    """

    price: float
    loss: float


class Line(NamedTuple):
    """The score of a mix with one machine more, as a function of the new pool's risk.

    It rises with the price and with the loss: a pool dearer and riskier than another is never
    the better one of the two. Attributes: `missing = base + slope x loss`.
    """

    cost: float
    missing_cost: float
    base: float
    slope: float

    def at(self, risk: Risk) -> float:
        """The score with the machine in this pool."""
        missing = max(0.0, self.base + self.slope * risk.loss)
        return self.cost + risk.price + self.missing_cost * missing


class Mix:
    """Machines by pool and on demand, and the distribution of how many are lost.

    A value: `with_one` and `without_one` make another one in time proportional to the number of
    spares, not of pools.
    """

    __slots__ = ("_few", "_mean", "_risks", "_spare", "cost", "counts", "missing_cost", "on_demand")

    def __init__(
        self,
        risks: Mapping[str, Risk],
        replicas: int,
        missing_cost: float,
        counts: Mapping[str, int],
        on_demand: int,
    ) -> None:
        self._risks = risks
        self.missing_cost = missing_cost
        self.counts = {pool: count for pool, count in counts.items() if count}
        self.on_demand = on_demand
        self._spare = sum(self.counts.values()) + on_demand - replicas
        self.cost = float(on_demand)
        self._mean = 0.0
        for pool, count in self.counts.items():
            self.cost += count * risks[pool].price
            self._mean += _mean(count, risks[pool].loss)
        self._few = self._made_anew(max(1, self._spare + 1))  # long enough for one machine more

    def _made_anew(self, length: int, leaving_out: str | None = None) -> list[float]:
        few = [1.0] + [0.0] * (length - 1)
        for pool, count in self.counts.items():
            if pool != leaving_out:
                few = _joined(few, count, self._risks[pool].loss)
        return few

    def _others(self, pool: str) -> list[float]:
        """The distribution of what all pools but this one lose."""
        loss = self._risks[pool].loss
        if loss > UNSTABLE:
            return self._made_anew(len(self._few), pool)
        return _parted(self._few, self.counts[pool], loss)

    def _changed(self, pool: str | None, by: int) -> Mix:
        other = Mix.__new__(Mix)
        other._risks, other.missing_cost = self._risks, self.missing_cost
        other._spare = self._spare + by
        if pool is None:
            other.counts, other.on_demand = self.counts, self.on_demand + by
            other.cost, other._mean, few = self.cost + by, self._mean, self._few
        else:
            risk = self._risks[pool]
            before = self.counts.get(pool, 0)
            after = before + by
            other.counts = {**self.counts, pool: after}
            if not after:
                del other.counts[pool]
            other.on_demand = self.on_demand
            other.cost = self.cost + by * risk.price
            other._mean = self._mean + _mean(after, risk.loss) - _mean(before, risk.loss)
            few = self._others(pool) if before else self._few
            few = _joined(few, after, risk.loss) if after else few
        short = len(few) < other._spare  # beyond its length a distribution is not known
        other._few = other._made_anew(other._spare + 1) if short else few
        return other

    def with_one(self, pool: str | None) -> Mix:
        """One machine more: of this pool, or (None) on demand."""
        return self._changed(pool, 1)

    def without_one(self, pool: str | None) -> Mix:
        """One machine fewer."""
        return self._changed(pool, -1)

    def with_a_new_pool(self) -> Line:
        """The score with one machine more, in any pool that this mix has none in."""
        spare = self._spare
        if spare < 0:
            return Line(self.cost, self.missing_cost, self._mean - spare - 1, 1.0)
        few = self._few if len(self._few) > spare else self._made_anew(spare + 1)
        left_over = sum((spare + 1 - lost) * few[lost] for lost in range(spare + 1))
        enough = sum(few[: spare + 1])
        return Line(self.cost, self.missing_cost, self._mean - spare - 1 + left_over, 1.0 - enough)

    @property
    def missing(self) -> float:
        """The expected number of replicas missing."""
        spare = self._spare
        if spare <= 0:
            return self._mean - spare
        left_over = sum((spare - lost) * self._few[lost] for lost in range(spare))
        return max(0.0, self._mean - spare + left_over)

    @property
    def score(self) -> float:
        """On-demand hours per hour; the less the better."""
        return self.cost + self.missing_cost * self.missing


def _mean(count: int, loss: float) -> float:
    """Expected losses of so many machines in a pool."""
    return loss * (WHOLE * count + (1.0 - WHOLE)) if count else 0.0


def _joined(few: list[float], count: int, loss: float) -> list[float]:
    """The distribution when a pool with so many machines is added."""
    stays = 1.0 - loss
    if count == 1:
        joined = [stays * here for here in few]
        for lost in range(1, len(few)):
            joined[lost] += loss * few[lost - 1]
        return joined
    one, all_ = (1.0 - WHOLE) * loss, WHOLE * loss
    joined = [stays * here for here in few]
    for lost in range(1, len(few)):
        joined[lost] += one * few[lost - 1]
    for lost in range(count, len(few)):
        joined[lost] += all_ * few[lost - count]
    return joined


def _parted(few: list[float], count: int, loss: float) -> list[float]:
    """The distribution when the pool is taken away: `_joined` backwards. Stable for loss < 1/2."""
    one, all_ = ((1.0 - WHOLE) * loss, WHOLE * loss) if count > 1 else (loss, 0.0)
    stays = 1.0 - loss
    parted: list[float] = []
    for lost, here in enumerate(few):
        if lost:
            here -= one * parted[lost - 1]
        if all_ and lost >= count:
            here -= all_ * parted[lost - count]
        parted.append(here / stays)
    return parted
