"""How the pools of one region lose machines together. Pure.

In recordings of markets with several zones a region, of 1,403 losses in pairs of open zones 302
were of both in the same minute, some thirty times as many as of independent ones. Whatever the ages
of the two runs, both are lost about 0.3 times as often as the safer one is: by ages below one hour,
below four, and above, 0.33, 0.29, 0.40, 0.30, 0.29 and 0.33. Of three open zones of a region
exactly two were lost at once 44 times, and all 13 times.

So a region has shocks of every severity. One of severity v strikes the pools that are lost with a
probability of v or more; shocks of severities up to v come with a probability of SHOCKS x v; and a
pool that is struck is lost with a probability of HIT. That makes both of two pools lost with
SHOCKS x HIT^2 = 0.3 of the smaller probability, and all three of three half as often. What is left
of each pool's probability of a loss is its own, so that in sum it is what it was. A pool that is
lost more often than HIT anyway is none the worse for a shock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

WHOLE = 0.55
"""Share of a pool's losses that take the second machine, too; and of those the third; and so on.

In recordings of up to four machines in a zone, 11 of 19 losses took both of two, 3 of 8 all of
three, 2 of 23 all of four; most of the others took one."""

SHOCKS, HIT = 1.2, 0.5
"""How often shocks come, and how often they take a pool that they strike: see above."""


class Exposed(NamedTuple):
    """Machines of ours in one pool: how many, and the probability that it takes some away."""

    machines: int
    loss: float


@cache
def whole(count: int) -> float:
    """Share of the losses of a pool with so many machines that take all of them."""
    share: float = WHOLE ** (count - 1)
    return share


def joined(few: list[float], count: int, loss: float) -> list[float]:
    """The probabilities that 0, 1, ... machines are lost when an independent pool is added."""
    stays = 1.0 - loss
    if count == 1:
        more = [stays * here for here in few]
        for lost in range(1, len(few)):
            more[lost] += loss * few[lost - 1]
        return more
    all_ = whole(count) * loss
    one = loss - all_
    more = [stays * here for here in few]
    for lost in range(1, len(few)):
        more[lost] += one * few[lost - 1]
    for lost in range(count, len(few)):
        more[lost] += all_ * few[lost - count]
    return more


def together(pools: Iterable[Exposed], length: int) -> Sequence[float]:
    """The probabilities that the pools of one region lose 0, 1, ... machines, so many of them."""
    return _together(tuple(sorted(pools, key=_by_loss)), length)


@lru_cache(maxsize=8192)
def _together(pools: tuple[Exposed, ...], length: int) -> Sequence[float]:
    nothing = [1.0] + [0.0] * (length - 1)
    sum_ = [0.0] * length
    for share, few in fates(pools, nothing):
        sum_ = [here + share * more for here, more in zip(sum_, few, strict=True)]
    return sum_


def fates(pools: Iterable[Exposed], few: list[float]) -> list[tuple[float, list[float]]]:
    """What may become of a region: how likely each fate is, and what is lost then.

    The first is the most severe shock, which strikes all; in the last no pool is struck. The shares
    come to 1.

    Args:
        few: the distribution of what is lost elsewhere.
    """
    ordered = sorted(pools, key=_by_loss)
    found: list[tuple[float, list[float]]] = []
    before = 0.0
    for number, one in enumerate(ordered):
        shock = struck(one.loss)
        if shock > before:
            hit = few
            for other in ordered[number:]:
                hit = joined(hit, other.machines, when_struck(other.loss))
            found.append((shock - before, hit))
            before = shock
        few = joined(few, one.machines, by_itself(one.loss))
    return [*found, (1.0 - before, few)]


def struck(loss: float) -> float:
    """The probability that a shock strikes a pool that is lost so often."""
    return SHOCKS * min(loss, HIT)


def when_struck(loss: float) -> float:
    """The probability that a pool is lost that a shock strikes."""
    return max(HIT, loss)


def by_itself(loss: float) -> float:
    """The probability that a pool is lost that no shock strikes: in sum it is `loss`."""
    shock = struck(loss)
    return (loss - shock * when_struck(loss)) / (1.0 - shock)


def _by_loss(one: Exposed) -> tuple[float, int]:
    return one.loss, one.machines


def combined(few: Sequence[float], other: Sequence[float]) -> list[float]:
    """The distribution of the sum of two independent numbers, as long as both are."""
    length = range(len(few))
    return [sum([few[lost - more] * other[more] for more in range(lost + 1)]) for lost in length]


def parted(few: Sequence[float], other: Sequence[float]) -> list[float]:
    """`combined` backwards: what is left when one of the two is taken away.

    Stable where `other` is 0 in more than half of the cases.
    """
    left: list[float] = []
    for lost, here in enumerate(few):
        rest = sum([other[more] * left[lost - more] for more in range(1, lost + 1)])
        left.append((here - rest) / other[0])
    return left
