"""Time-weighted mathematics of step functions. Pure: arrays in, arrays out.

Instants are whole seconds since 1970 UTC, prices whole millionths of a currency, intervals
half-open. Everything is an integer until a ratio is asked for, so that no figure depends on the
order in which rows were read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BASIS = 10_000
"""Shares are whole hundredths of a per cent: 9500 is 95 %."""

_LOW_BITS = 20


@dataclass(frozen=True, slots=True)
class Steps:
    """Prices that stood, as columns of one length, ordered by line and then by time.

    Attributes:
        line: which step function a row belongs to (0, 1, ...); its rows do not overlap.
        begin, end: from when until when the price stood; where none stood, there is no row.
        micros: the price.
    """

    line: Ints
    begin: Ints
    end: Ints
    micros: Ints

    def __len__(self) -> int:
        return len(self.line)

    @property
    def seconds(self) -> Ints:
        """For how long each row stood."""
        return self.end - self.begin

    def picked(self, which: Flags | Ints) -> Steps:
        """Some of the rows, in their order."""
        return Steps(self.line[which], self.begin[which], self.end[which], self.micros[which])

    def priced(self, micros: Ints) -> Steps:
        """The same rows at other prices."""
        return Steps(self.line, self.begin, self.end, micros)


def no_steps() -> Steps:
    """Nothing ever stood."""
    empty = np.empty(0, np.int64)
    return Steps(empty, empty, empty, empty)


def within(steps: Steps, begin: int, end: int) -> Steps:
    """What of it lies in a window: the price carried in stands from the window's beginning on."""
    clipped = Steps(
        steps.line, np.maximum(steps.begin, begin), np.minimum(steps.end, end), steps.micros
    )
    return clipped.picked(clipped.begin < clipped.end)


def split(steps: Steps, bounds: Ints) -> tuple[Steps, Ints]:
    """Cut every row at the bounds; returns the pieces, and the cell of each.

    Args:
        bounds: ascending; cell i is from bounds[i] to bounds[i + 1]. They must enclose all rows.
    """
    first = np.searchsorted(bounds, steps.begin, "right") - 1
    last = np.searchsorted(bounds, steps.end, "left") - 1
    pieces = last - first + 1
    if not (pieces > 1).any():
        return steps, first
    row = np.repeat(np.arange(len(steps)), pieces)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    cell = first[row] + offset
    cut = Steps(
        steps.line[row],
        np.maximum(steps.begin[row], bounds[cell]),
        np.minimum(steps.end[row], bounds[cell + 1]),
        steps.micros[row],
    )
    return cut, cell


@dataclass(frozen=True, slots=True)
class Weighted:
    """Prices by group, each with the seconds for which it stood. Made by `weighted`.

    Attributes:
        seconds: how long any price stood, by group; 0 where none did.
    """

    seconds: Ints
    _micros: Ints  # ordered by group, then by price
    _elapsed: Ints  # running sum of the seconds in that order
    _present: Ints  # the groups that have rows
    _start: Ints  # of each present group, its first row

    def quantile(self, share: int) -> list[int | None]:
        """By group, the lowest price at or under which it was for that share of the time.

        This is the inverse of the distribution over time, without interpolation: the answer is
        always a price that stood. Share 0 is the minimum, BASIS the maximum.

        Args:
            share: in hundredths of a per cent, from 0 to BASIS.
        """
        before = self._elapsed[self._start] - self._first_seconds()
        total = self.seconds[self._present]
        target = before + np.maximum(1, -(-(total * share) // BASIS))
        return self._spread(self._micros[np.searchsorted(self._elapsed, target, "left")])

    def mean(self) -> list[int | None]:
        """By group, the time-weighted mean, rounded half-even to a millionth."""
        seconds = np.diff(self._elapsed, prepend=0)
        # In two halves: price times time, summed, would leave 64 bits.
        high = self._sum((self._micros >> _LOW_BITS) * seconds)
        low = self._sum((self._micros & ((1 << _LOW_BITS) - 1)) * seconds)
        found: list[int | None] = [None] * len(self.seconds)
        totals = self.seconds[self._present].tolist()
        for group, over, under, total in zip(
            self._present.tolist(), high, low, totals, strict=True
        ):
            found[group] = divided((over << _LOW_BITS) + under, total)
        return found

    def seconds_below(self, micros: int) -> Ints:
        """By group, for how long the price was strictly below an amount."""
        seconds = np.where(self._micros < micros, np.diff(self._elapsed, prepend=0), 0)
        found = np.zeros(len(self.seconds), np.int64)
        found[self._present] = self._sum(seconds)
        return found

    def _first_seconds(self) -> Ints:
        first = self._start
        previous = np.where(first > 0, self._elapsed[first - 1], 0)
        return self._elapsed[first] - previous

    def _sum(self, column: Ints) -> list[int]:
        if not len(self._start):
            return []
        sums: list[int] = np.add.reduceat(column, self._start).tolist()
        return sums

    def _spread(self, values: Ints) -> list[int | None]:
        found: list[int | None] = [None] * len(self.seconds)
        for group, value in zip(self._present.tolist(), values.tolist(), strict=True):
            found[group] = value
        return found


def weighted(steps: Steps, group: Ints, groups: int) -> Weighted:
    """Order the rows of each group by price.

    Args:
        group: of each row, from 0 to groups - 1.
    """
    order = _by_group_and_price(group, steps.micros)
    grouped, micros, lasting = group[order], steps.micros[order], steps.seconds[order]
    start = np.flatnonzero(np.diff(grouped, prepend=-1))
    present = grouped[start]
    seconds = np.zeros(groups, np.int64)
    if len(start):
        seconds[present] = np.add.reduceat(lasting, start)
    return Weighted(seconds, micros, np.cumsum(lasting), present, start)


def _by_group_and_price(group: Ints, micros: Ints) -> Ints:
    """As lexsort, which takes four times as long as one sort of a combined key."""
    if len(micros) and int(micros.max()) < 1 << 40 and int(group.max()) < 1 << 22:
        combined: Ints = np.argsort((group << 40) | micros)
        return combined
    ordered: Ints = np.lexsort((micros, group))
    return ordered


def changed(steps: Steps) -> Flags:
    """Which rows began as another price ended: a change, not the first row, not one after a gap."""
    flags = np.zeros(len(steps), np.bool_)
    flags[1:] = (
        (steps.line[1:] == steps.line[:-1])
        & (steps.begin[1:] == steps.end[:-1])
        & (steps.micros[1:] != steps.micros[:-1])
    )
    return flags


def joined(steps: Steps) -> Steps:
    """Rows that touch and have one price become one row."""
    if not len(steps):
        return steps
    goes_on = np.zeros(len(steps), np.bool_)
    goes_on[1:] = (
        (steps.line[1:] == steps.line[:-1])
        & (steps.begin[1:] == steps.end[:-1])
        & (steps.micros[1:] == steps.micros[:-1])
    )
    first = np.flatnonzero(~goes_on)
    last = np.append(first[1:], len(steps)) - 1
    return Steps(steps.line[first], steps.begin[first], steps.end[last], steps.micros[first])


def divided(numerator: int, denominator: int) -> int:
    """An integer quotient, rounded half-even."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return quotient + (twice > denominator or (twice == denominator and quotient & 1))


def divided_all(numerators: Ints, denominators: Ints | int) -> Ints:
    """As `divided`, for columns; denominators are above 0."""
    quotient, rest = np.divmod(numerators, denominators)
    twice = 2 * rest
    up = (twice > denominators) | ((twice == denominators) & (quotient & 1 == 1))
    rounded: Ints = quotient + up
    return rounded


def drawn(begin: Ints, micros: Ints, most: int) -> Ints:
    """Which rows of a single line to draw, so that the drawing looks as if all were drawn.

    The time is cut into equal stretches, and of each stretch the first, the last, the lowest and
    the highest row are kept: a spike is never lost, as it is when every n-th row is kept.

    Args:
        most: rows wanted; at most that many come back if it is at least 4.
    """
    if len(begin) <= most or most < 4:
        return np.arange(len(begin))
    stretches = most // 4
    width = int(begin[-1] - begin[0]) + 1
    bucket = (begin - begin[0]) * stretches // width
    order = np.lexsort((micros, bucket))
    start = np.flatnonzero(np.diff(bucket, prepend=-1))
    end = np.append(start[1:], len(bucket)) - 1
    kept: Ints = np.unique(np.concatenate((start, end, order[start], order[end])))
    return kept
