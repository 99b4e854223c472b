"""The churn breaker: a service that keeps losing spot machines stays on demand for a while. Pure.

Every loss costs a cold start, and the rule that weighs prices against learnt hazards may be wrong
for hours before it has learnt enough. The breaker is the bound that holds whatever was learnt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from arbiter.policy import Policy

LOSSES_KEPT = timedelta(days=2)
"""How far back losses are looked at: longer than the longest hold by default, and its calm."""

MOST_TRIPS = 4
"""Holds in a row that each last twice as long as the one before; no later one lasts longer."""


@dataclass(frozen=True, slots=True)
class Churn:
    """A hold that is in force.

    Attributes:
        until: no spot machine is launched before this instant, where on-demand can be had.
        losses: spot machines lost within the window that led to it.
        trips: the how-manieth hold in a row it is; 1 is the first.
    """

    until: datetime
    losses: int
    trips: int

    def __str__(self) -> str:
        again = "" if self.trips == 1 else f", {self.trips} times in a row"
        return f"on-demand until {self.until:%H:%M} UTC, after {self.losses} spot losses{again}"


def churn(policy: Policy, losses: Sequence[datetime], replicas: int, now: datetime) -> Churn | None:
    """The hold that the losses of one service have led to; None while there is none.

    What is lost during a hold had been launched before it, and counts for nothing.

    Args:
        losses: when spot machines of the service were lost, in any order.
        replicas: how many were ordered: as many more losses are borne.
    """
    most = policy.churn_after * max(1, replicas)
    if len(losses) < most:
        return None
    window = timedelta(seconds=policy.churn_window_s)
    held: Churn | None = None
    recent: deque[datetime] = deque()
    for at in sorted(losses):
        if at > now or (held is not None and at < held.until):
            continue
        while recent and recent[0] <= at - window:
            recent.popleft()
        recent.append(at)
        if len(recent) >= most:
            trips = _trips(policy, held, at)
            held = Churn(at + _hold(policy, trips), len(recent), trips)
            recent.clear()
    return held if held is not None and now < held.until else None


def _trips(policy: Policy, last: Churn | None, at: datetime) -> int:
    """In a row are holds with no more between them than the window and the hold itself."""
    if last is None:
        return 1
    calm = timedelta(seconds=policy.churn_window_s) + _hold(policy, last.trips)
    return last.trips + 1 if at <= last.until + calm else 1


def _hold(policy: Policy, trips: int) -> timedelta:
    return timedelta(seconds=policy.churn_hold_s * 2 ** (min(trips, MOST_TRIPS) - 1))
