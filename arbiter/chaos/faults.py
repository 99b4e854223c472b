"""A seeded schedule of faults. Pure: a seed and a length always give the same one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What goes wrong."""

    RECLAIM = "reclaim"  # a machine is taken away without a word
    NOTICE = "notice"  # it is announced first
    REFUSED = "launch_refused"  # a region has no capacity
    HUNG = "launch_hung"  # its launches say neither yes nor no
    GATEWAY_KILLED = "gateway_killed"
    DAEMON_KILLED = "daemon_killed"  # kill -9
    DATABASE_CUT = "database_cut"
    CLOCK_STEP = "clock_step"
    PROVIDER_DOWN = "provider_down"  # its prices grow old
    PRICE_SPIKE = "price_spike"
    RULE_WITHDRAWN = "rule_withdrawn"  # a region may not be used any more
    MISPLACED = "misplaced"  # its launches come up in another country


LASTING = frozenset(
    {
        Kind.REFUSED,
        Kind.HUNG,
        Kind.DATABASE_CUT,
        Kind.CLOCK_STEP,
        Kind.PROVIDER_DOWN,
        Kind.PRICE_SPIKE,
        Kind.RULE_WITHDRAWN,
        Kind.MISPLACED,
    }
)
"""Faults that end again; the others happen at an instant."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at: seconds from the begin.
        lasts: seconds until it is over; 0 for one that happens at an instant.
        draw: a number in [0, 1) that chooses what it hits.
    """

    at: float
    kind: Kind
    lasts: float = 0.0
    draw: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.lasts else ""
        return f"{self.at:5.2f} s  {self.kind}{lasts}"


def schedule(seed: int, seconds: float, every_s: float = 0.5) -> tuple[Fault, ...]:
    """The faults of a seed within so many seconds, in the order of time.

    Args:
        every_s: mean seconds between two.
    """
    drawn = random.Random(seed)  # noqa: S311  nothing secret depends on it
    found = []
    at = drawn.uniform(0, every_s)
    while at < seconds:
        kind = drawn.choice(list(Kind))
        lasts = drawn.uniform(0.3, max(0.4, seconds / 3)) if kind in LASTING else 0.0
        found.append(Fault(at, kind, min(lasts, seconds - at), drawn.random()))
        at += drawn.expovariate(1 / every_s)
    return tuple(found)
