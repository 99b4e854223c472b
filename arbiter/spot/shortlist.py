"""Which launches may be the best, told by bounds before any is scored. Pure.

With one machine more, in a pool of its own whose price is p and whose loss is q, in the place of
one of another pool or of none, the score of a mix is a line over q:

    score = cost of the others + p + V x (base + slope x q)

`Mix.lines` has the lines of all that may be replaced, so the lowest of them is the best that a new
pool can do, whatever its name. In a pool that has k machines already, with e(n) for the expected
number of replicas missing where it loses n of them, one more adds

    q x whole(k) x (WHOLE x e(k + 1) - e(k) + (1 - WHOLE) x e(1))

to base. As e rises ever faster, though by no more than 1 for each machine, that is no less than

    WHOLE x q x slope                                        k = 1
    -q x whole(k) x max(0, (1 - WHOLE) x (k - 1) - WHOLE)    k > 1

if no pool loses less often for having more of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from arbiter.spot.mix import Mix, Risk
from arbiter.spot.places import Places, Try
from arbiter.spot.regional import WHOLE, whole

SAME = 1e-9
"""Scores closer than this share are equal: sums in another order."""


Line = tuple[float, float]
"""A score without the new machine's price: where it never falls, and what its falling adds."""


class Shortlist(NamedTuple):
    """What is worth an exact score.

    Attributes:
        tries: the launches, in their order.
        replaced: places that a machine may leave for one of them; None: it is one more.
    """

    tries: list[Try]
    replaced: frozenset[str | None]


class _Bound(NamedTuple):
    """What a launch gains at most: `top`, less the lowest line where the loss is `loss`."""

    gain: float
    top: float
    loss: float
    one: Try


def shortlist(
    useful: Mix,
    places: Places,
    replaced: Collection[str | None],
    least: float,
    refused: Collection[str] = (),
) -> Shortlist:
    """The launches that may gain the most, and more than `least`, on-demand hours per hour.

    Args:
        useful: what the new machine is added to.
        replaced: places that it may replace a machine of.
        refused: places that are not tried, now and from now on.
    """
    lines = {place: line for place, line in useful.lines().items() if place in replaced}
    lowest = _lowest(lines.values())
    same, regions = nearly(useful), useful.regions
    most = least
    bounds: list[_Bound] = []

    def consider(one: Try) -> None:
        nonlocal most
        gain = useful.score - one.dear - _least(lowest, loss := one.risk.at(1))
        if gain > most - same and one.name not in places.counts and one.name not in refused:
            bounds.append(_Bound(gain, useful.score - one.dear, loss, one))
            if one.risk.region not in regions:
                most = max(most, gain)  # in a new region it is what it gains, no mere bound
            elif None in lines:
                most = max(most, useful.score - one.wasted - useful.score_with(one.name))

    best = useful.score - _least(lowest, places.least_loss)
    for one in places.others:
        if best - one.dear <= most - same:
            break
        consider(one)
    while found := places.look_up_to(useful.score - lowest[0][0] - most + same, refused):
        for one in found:
            consider(one)
    for one in places.ours.values():
        loss, less = on_the_line(one.risk, useful.counts.get(one.name, 0))
        top = useful.score - one.dear + less * useful.missing_cost
        gain = top - _least(lowest, loss)
        if gain > most - same and one.name not in refused:
            bounds.append(_Bound(gain, top, loss, one))
    worth = [one for one in bounds if one.gain > most - same]
    floors = {(one.top - most + same, one.loss) for one in worth}
    return Shortlist(
        sorted([one.one for one in worth], key=attrgetter("order")),
        frozenset(
            [
                place
                for floor, loss in floors
                for place, (fixed, slope) in lines.items()
                if fixed + slope * loss < floor
            ]
        ),
    )


def nearly(mix: Mix) -> float:
    """Scores of a mix and of its neighbours that differ by less may be the same, rounded."""
    return SAME * (1.0 + mix.score + mix.missing_cost)


def _least(lowest: Sequence[Line], loss: float) -> float:
    if len(lowest) == 1:
        return lowest[0][0] + lowest[0][1] * loss
    return min([fixed + slope * loss for fixed, slope in lowest])


def _lowest(lines: Iterable[Line]) -> list[Line]:
    """The lines that may be the lowest somewhere: each begins higher than the last, less steep."""
    found: list[Line] = []
    for fixed, slope in sorted(lines):
        if not found or slope < found[-1][1]:
            found.append((fixed, slope))
    return found


def on_the_line(risk: Risk, count: int) -> Line:
    """The loss with which a new pool is no better than one machine more here, and by what more."""
    if not count:
        return risk.at(1), 0.0
    loss = risk.at(count)
    if count == 1:
        return WHOLE * loss, 0.0
    return 0.0, loss * whole(count) * max(0.0, (1.0 - WHOLE) * (count - 1) - WHOLE)
