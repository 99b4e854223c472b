"""What one poll has that the one before had not. By identity: most of it is the same objects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import is_not
from typing import TypeVar

_T = TypeVar("_T")


def difference(before: Sequence[_T], after: Sequence[_T]) -> tuple[list[_T], list[_T]]:
    """The objects that are gone, and those that have come, each in their order.

    An object that only stands elsewhere is neither. Where every other one stands where it stood, as
    in a poll that changes a few prices, this costs a comparison of two addresses for each.
    """
    if len(before) == len(after):
        places = moved(before, after)
        gone, come = [before[n] for n in places], [after[n] for n in places]
    else:
        gone, come = list(before), list(after)
    both = set(map(id, gone)) & set(map(id, come))
    if both:
        gone = [one for one in gone if id(one) not in both]
        come = [one for one in come if id(one) not in both]
    return gone, come


def moved(before: Sequence[object], after: Sequence[object]) -> list[int]:
    """The places at which two sequences of one length hold different objects."""
    return list(compress(count(), map(is_not, before, after)))
