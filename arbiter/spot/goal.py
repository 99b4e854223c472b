"""What a missing replica is worth, where the user named an availability or a budget. Pure.

V is steered until the shortage so far, or the cost so far, is the one that was asked for:

    d log V / dt = (short - allowed) / allowed / PATIENCE_H       short: 1 while replicas miss, or 0
    d log V / dt = (budget - cost) / budget / PATIENCE_H          cost: a share of all on demand

Over a long time the mean of the right side is 0, unless V is at one of its ends. What the rule
uses follows only when it is off by STEP, so that decisions do not flicker.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from arbiter.spot.situation import Knobs

PATIENCE_H = 100.0
"""Hours after which a service that is never short has halved its V, and a little more."""

STEP = 0.2
"""By how much of its logarithm V must be off before it is changed."""

LEAST, MOST = 1.0, 5000.0
"""The ends of V, on-demand hours."""

ANCHOR, ANCHOR_SHORT, ANCHOR_POWER = 20.0, 0.01, 2 / 3
"""Where V begins. On the public traces V = 20 leaves 1 % of the time short, and V has to grow about
as the power -1.4 of that share; it begins lower, as one loss raises it at once and it falls slowly.
"""


class Goal(NamedTuple):
    """The state of the steering.

    Attributes:
        at: seconds up to which it has seen.
        wish: natural logarithm of the V that is aimed at.
        missing_cost: the V in force.
        aim: what it is steered to, in words; a service whose aim changes begins anew.
    """

    at: float
    wish: float
    missing_cost: float
    aim: str = ""


def begun(knobs: Knobs, at: float) -> Goal:
    """The goal of a service that begins now."""
    start = knobs.missing_cost
    if knobs.availability is not None:
        start = ANCHOR * (ANCHOR_SHORT / _allowed(knobs.availability)) ** ANCHOR_POWER
    start = min(MOST, max(LEAST, start))
    return Goal(at, log(start), start)


def served(goal: Goal, knobs: Knobs, at: float, *, ready: int, replicas: int, cost: float) -> Goal:
    """The goal after a time in which so many were ready.

    Args:
        at: the end of that time, seconds; its beginning is `goal.at`.
        cost: of all machines in that time, on-demand hours per hour.
    """
    hours = max(0.0, at - goal.at) / 3600.0
    pull = 0.0
    if knobs.availability is not None:
        pull = float(ready < replicas) / _allowed(knobs.availability) - 1.0
    elif knobs.budget is not None and replicas:
        pull = 1.0 - cost / replicas / knobs.budget
    wish = goal.wish + pull * hours / PATIENCE_H
    wish = min(log(MOST), max(log(LEAST), wish))
    off = abs(wish - log(goal.missing_cost)) >= STEP
    return Goal(max(at, goal.at), wish, exp(wish) if off else goal.missing_cost, goal.aim)


def _allowed(availability: float) -> float:
    """Share of time that may be short; never quite none."""
    return max(1e-5, 1.0 - availability)
