"""The arithmetic of past prices: stretches of series that never overlap. Pure.

A stretch is a price and the seconds for which it stood, its end excluded. All series lie on one
axis of integers, `series << TIME_BITS | second`, so that what is done to one is done to all of them
at once. What is stored already wins over what is brought; neighbours that touch with the same price
from the same origin are one stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arbiter.store.spool import GAP, LAST_SECOND, OPEN, ROW, TIME_BITS, Ints, Rows


class Stretches(NamedTuple):
    """Stretches sorted by place, none over another.

    Attributes:
        begin, end: places on the axis; the end is of the same series as the begin.
        micros: millionths of the currency per hour.
        origin: numbers of the caller's.
    """

    begin: Ints
    end: Ints
    micros: Ints
    origin: Ints

    @property
    def series(self) -> Ints:
        """The series of each."""
        return self.begin >> TIME_BITS

    @property
    def since(self) -> Ints:
        """When each begins, epoch seconds."""
        return self.begin & LAST_SECOND

    @property
    def until(self) -> Ints:
        """When each ends, epoch seconds."""
        return self.end & LAST_SECOND

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.begin)

    def where(self, chosen: npt.NDArray[Any]) -> Stretches:
        """Some of them, by a mask or by their places."""
        return Stretches(*(column[chosen] for column in self))


class Fitted(NamedTuple):
    """What has to be written so that stretches stand beside those that are stored.

    Attributes:
        added: to insert.
        absorbed: places at which a stored one begins that is a part of one in `added` now.
    """

    added: Stretches
    absorbed: Ints


def stretches(begin: Ints, end: Ints, micros: Ints, origin: Ints) -> Stretches:
    """Stretches in any order, sorted."""
    order = np.argsort(begin, kind="stable")
    return Stretches(begin[order], end[order], micros[order], origin[order])


def tidied(chunks: Iterable[Rows], open_until: int, now: int) -> Iterator[Stretches]:
    """Sorted rows as stretches that do not overlap, equal neighbours as one.

    A row stands until its own end or until its series' next row begins, whichever comes first. Of
    several rows of a series for one second the last counts.

    Args:
        chunks: arrays of `ROW`, sorted; a series may go on in the next.
        open_until: where the last row of a series ends that does not say so itself.
        now: nothing is kept beyond it.
    """
    waiting = np.empty(0, ROW)
    for chunk in chunks:
        rows = np.concatenate([waiting, chunk])
        if not len(rows):
            continue
        # The last row waits for the next, which may end it; so does the last stretch, which the
        # next may continue.
        made = _merged(_standing(rows, open_until, now, whole=False))
        kept = made.rows - 1
        waiting = np.concatenate([_as_rows(made, max(kept, 0)), rows[-1:]])
        if kept > 0:
            yield Stretches(*(column[:kept] for column in made))
    if len(waiting):
        made = _merged(_standing(waiting, open_until, now, whole=True))
        if made.rows:
            yield made


def _standing(rows: Rows, open_until: int, now: int, *, whole: bool) -> Stretches:
    """Each row with its end; without gaps, and without the last row unless the rows are whole."""
    begin = rows["begin"]
    last = np.append(begin[1:] != begin[:-1], whole)
    following = np.append(begin[1:], np.int64(-1))
    series, until = begin >> TIME_BITS, rows["until"]
    until = np.where(until == OPEN, open_until, until)
    next_begin = following & LAST_SECOND
    ended = following >> TIME_BITS == series
    # An open row goes on to the next one of its series, even beyond `open_until`.
    until = np.where(
        ended, np.where(rows["until"] == OPEN, next_begin, np.minimum(until, next_begin)), until
    )
    until = np.minimum(until, now)
    stands = last & (rows["micros"] > GAP) & (begin & LAST_SECOND < until)
    if not whole:
        stands[-1] = False
    end = series << TIME_BITS | until
    return Stretches(
        begin[stands], end[stands], rows["micros"][stands], rows["origin"][stands].astype(np.int64)
    )


def _as_rows(made: Stretches, first: int) -> Rows:
    rows = np.empty(made.rows - first, ROW)
    rows["begin"], rows["until"] = made.begin[first:], made.until[first:]
    rows["micros"], rows["origin"] = made.micros[first:], made.origin[first:]
    return rows


def _starts(sorted_: Stretches) -> npt.NDArray[np.bool_]:
    """Where a stretch is not the continuation of the one before it."""
    goes_on = (
        (sorted_.end[:-1] == sorted_.begin[1:])
        & (sorted_.micros[:-1] == sorted_.micros[1:])
        & (sorted_.origin[:-1] == sorted_.origin[1:])
    )
    return np.append(np.ones(min(1, sorted_.rows), bool), ~goes_on)


def _merged(sorted_: Stretches) -> Stretches:
    starts = _starts(sorted_)
    ends = np.append(starts[1:], np.ones(min(1, sorted_.rows), bool))
    made = sorted_.where(starts)
    return made._replace(end=sorted_.end[ends])


def fitted(new: Stretches, stored: Stretches, closed: tuple[Ints, Ints]) -> Fitted:
    """What is to be written of new stretches, beside those that are there.

    Args:
        stored: what earlier imports wrote.
        closed: begins and ends of spans into which nothing may be written, in any order.
    """
    pieces = _outside(
        new, np.concatenate([stored.begin, closed[0]]), np.concatenate([stored.end, closed[1]])
    )
    if not pieces.rows or not stored.rows:
        return Fitted(pieces, np.empty(0, np.int64))
    both = Stretches(*(np.concatenate(pair) for pair in zip(pieces, stored, strict=True)))
    order = np.argsort(both.begin, kind="stable")
    both = both.where(order)
    is_stored = order >= pieces.rows
    starts = _starts(both)
    group = np.cumsum(starts) - 1
    brings = np.zeros(int(group[-1]) + 1, bool)
    brings[group[~is_stored]] = True
    return Fitted(_merged(both).where(brings), both.begin[is_stored & brings[group]])


def _outside(new: Stretches, begins: Ints, ends: Ints) -> Stretches:
    """The parts of stretches outside of spans, which may overlap each other."""
    if not len(begins):
        return new
    order = np.argsort(begins, kind="stable")
    reach = np.maximum.accumulate(ends[order])
    # The gaps between the spans: before the first, between two, after the last.
    gap_begin = np.append(np.int64(-1), reach)
    gap_end = np.append(begins[order], np.iinfo(np.int64).max)
    real = gap_begin < gap_end
    gap_begin, gap_end = gap_begin[real], gap_end[real]
    first = np.searchsorted(gap_end, new.begin, side="right")
    count = np.searchsorted(gap_begin, new.end, side="left") - first
    count = np.maximum(count, 0)
    which = np.repeat(np.arange(new.rows), count)
    gap = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
    return Stretches(
        np.maximum(new.begin[which], gap_begin[gap]),
        np.minimum(new.end[which], gap_end[gap]),
        new.micros[which],
        new.origin[which],
    )
