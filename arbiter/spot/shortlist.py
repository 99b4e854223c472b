"""Which launches may be the best, told by bounds before any is scored. Pure.

With one machine more, in a pool of its own whose price is p and whose loss is q, in the place of
one of another pool or of none, the score of a mix is a line over q:

    score = cost of the others + p + V x (base + slope x q)

`Mix.lines` has the lines of all that may be replaced, so the lowest of them is the best that a new
pool can do, whatever its name. Beside k machines that its pool has already, one more does no
better than on the line at

    q' = WHOLE x q                                        k = 1, as it only falls with the other
    q' = 0, less q x (whole(k) - whole(k + 1)) x (k - 1)  k > 1, as all k fall less often

This holds as no pool loses less often for having more of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from arbiter.spot.mix import Mix, Risk, whole

SAME = 1e-9
"""Scores closer than this share are equal: sums in another order."""


class Try(NamedTuple):
    """A place that a machine may be launched in.

    Attributes:
        double_running: cost of its cold start, on-demand hours. stay_h: expected stay, hours.
        wasted: that cost over that stay, on-demand hours per hour.
    """

    name: str
    risk: Risk
    double_running: float
    stay_h: float
    wasted: float


Line = tuple[float, float]
"""A score without the new machine's price: where it never falls, and what its falling adds."""


class Shortlist(NamedTuple):
    """What is worth an exact score.

    Attributes:
        tries: in the order that they were given in.
        replaced: places that a machine may leave for one of them; None: it is one more.
    """

    tries: list[Try]
    replaced: frozenset[str | None]


def shortlist(
    useful: Mix, tries: Sequence[Try], replaced: Collection[str | None], least: float
) -> Shortlist:
    """The launches that may gain the most, and more than `least`, on-demand hours per hour.

    Args:
        useful: what the new machine is added to.
        replaced: places that it may replace a machine of.
    """
    lines = {place: line for place, line in useful.lines().items() if place in replaced}
    lowest = _lowest(lines.values())
    same = SAME * (1.0 + useful.score + useful.missing_cost)
    most = least
    bounds: list[tuple[float, float, float, Try]] = []
    for one in tries:
        count = useful.counts.get(one.name, 0)
        dear = one.risk.price + one.wasted
        loss, less = _on_the_line(one.risk, count)
        bound = useful.score - dear + less * useful.missing_cost
        gain = bound - min([fixed + slope * loss for fixed, slope in lowest])
        if gain > most - same:
            bounds.append((gain, bound, loss, one))
            if gain > most and not count:  # of a new pool it is what it gains, no mere bound
                most = gain
    found: list[Try] = []
    worth: set[str | None] = set()
    for gain, bound, loss, one in bounds:
        if gain > most - same:
            found.append(one)
            floor = bound - most + same
            worth.update(place for place, (at, rise) in lines.items() if at + rise * loss < floor)
    return Shortlist(found, frozenset(worth))


def _lowest(lines: Iterable[Line]) -> list[Line]:
    """The lines that may be the lowest somewhere: each begins higher than the last, less steep."""
    found: list[Line] = []
    for fixed, slope in sorted(lines):
        if not found or slope < found[-1][1]:
            found.append((fixed, slope))
    return found


def _on_the_line(risk: Risk, count: int) -> Line:
    """The loss with which a new pool is no better than one machine more here, and by what more."""
    if count <= 1:
        return (whole(2) if count else 1.0) * risk.at(1), 0.0
    return 0.0, risk.at(count) * (whole(count) - whole(count + 1)) * (count - 1)
