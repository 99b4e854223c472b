"""How many replicas a service should have: by a schedule, and by its load. Pure.

The larger of the two counts, within the service's bounds. By load as the Kubernetes Horizontal Pod
Autoscaler does it, whose words and defaults these are where it has any: the wanted number is the
load over the load that one replica is to have, a band of tolerance around the present number
changes nothing, and down goes only what no minute of the whole stabilisation window has needed.

What cannot be seen is no load when it would add a replica, and forbids to end one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from math import ceil
from typing import NamedTuple

from arbiter.errors import ArbiterError
from arbiter.service_hours import ScheduleWindow

UTILISATION = 0.7
"""Share of the requests that a replica can decode together which it is given on average, where
nothing else is asked for: what is left takes the arrivals until another replica is up. Knative's
`container-concurrency-target-percentage` has the same default."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What was ordered of a service's number of replicas.

    Attributes:
        min: never fewer by arbiter's own act.
        max: so many at most, by load; None: the load is not looked at.
        schedule: at least so many while a window is open.
        requests_per_replica: running and waiting, on average; None: UTILISATION of what the
            model's profile lets a replica decode together.
        idle_s: seconds without a request after which, with a minimum of 0, the last one is ended.
        hold_s: seconds for which a request waits at the gateway while no replica can answer; 0
            answers 503 with Retry-After at once.
    """

    min: int = 1
    max: int | None = None
    schedule: tuple[ScheduleWindow, ...] = ()
    requests_per_replica: int | None = None
    idle_s: float = 900.0
    hold_s: float = 0.0

    def __str__(self) -> str:
        """In a few words: "1 to 4 replicas by load, at least 4 mon-fri 08:00-20:00 UTC"."""
        if self.max is None:
            parts = [f"{self.min} replica{'s' * (self.min != 1)}"]
        else:
            parts = [f"{self.min} to {self.max} replicas by load"]
            if self.requests_per_replica is not None:
                parts.append(f"{self.requests_per_replica} requests at a time for each")
            if self.min == 0:
                parts.append(f"to 0 after {self.idle_s:g} s without a request")
        for window in self.schedule:
            parts.append(f"at least {window.replicas} {str(window).partition(' = ')[0]}")
        if self.hold_s:
            parts.append(f"requests wait up to {self.hold_s:g} s for the first one")
        return ", ".join(parts)

    @property
    def by_load(self) -> bool:
        """Whether the load is looked at."""
        return self.max is not None

    def checked(self) -> Scaling:
        """Itself.

        Raises:
            ArbiterError: its figures contradict one another.
        """
        most = self.max
        if most is not None and most < max(1, self.min):
            raise ArbiterError(f"--max {most} is below --min {max(1, self.min)}", "raise --max")
        above = [one for one in self.schedule if most is not None and one.replicas > most]
        if above:
            raise ArbiterError(f"the schedule {above[0]} is above --max {most}", "raise --max")
        if self.min == 0 and most is None and not self.schedule:
            raise ArbiterError(
                "with --min 0 alone the service would never run", "add --max 1, or a --schedule"
            )
        if self.requests_per_replica is not None and most is None:
            raise ArbiterError(
                "--requests-per-replica means nothing without an upper bound", "add --max N"
            )
        return self

    def per_replica(self, concurrency: int) -> float:
        """The load that one replica is to have, where it can decode so many together."""
        if self.requests_per_replica is not None:
            return float(self.requests_per_replica)
        return max(1.0, UTILISATION * concurrency)


@dataclass(frozen=True, slots=True)
class Reaction:
    """How soon a number of replicas follows the load.

    Attributes:
        up_s: seconds over which the load is averaged.
        down_s: the stabilisation window: seconds within which no average may have needed the
            replica that is ended.
        tolerance: share by which the load may be off before anything changes.
        gap_s: seconds between two looks beyond which nothing is known of the time between.
        most_held: requests of one service that may wait at the gateway at a time; the next are
            answered 429.
    """

    up_s: float = 60.0
    down_s: float = 300.0
    tolerance: float = 0.1
    gap_s: float = 120.0
    most_held: int = 256

    @property
    def memory(self) -> timedelta:
        """How far back loads are asked for."""
        return timedelta(seconds=self.up_s + self.down_s + self.gap_s)


@dataclass(frozen=True, slots=True)
class Load:
    """A load that stood from one look to another.

    Attributes:
        requests: running, waiting and held.
        passed: requests that the gateway has ever answered: rises with one that came and went
            between two looks. Where it falls, the gateway has begun to count anew.
    """

    since: datetime
    until: datetime
    requests: int
    passed: int


class Target(NamedTuple):
    """How many replicas there should be, and why, in words that follow a colon."""

    replicas: int
    reason: str


def noted(last: Load | None, now: datetime, requests: int, passed: int, reaction: Reaction) -> Load:
    """The newest load after a look: the last one, still standing, or another."""
    if last is not None and (last.requests, last.passed) == (requests, passed):
        unseen_s = (now - last.until).total_seconds()
        if 0 <= unseen_s <= reaction.gap_s:
            return replace(last, until=now)
    return Load(now, now, requests, passed)


def target(
    now: datetime,
    scaling: Scaling,
    current: int,
    per_replica: float,
    history: Sequence[Load],
    local: Mapping[str, datetime],
    reaction: Reaction,
) -> Target:
    """How many replicas there should be now.

    Args:
        current: the number that is ordered now.
        per_replica: `Scaling.per_replica`.
        history: loads, oldest first; empty where none is known.
        local: zone -> now as that zone's own time, for every zone of the schedule.
    """
    floor = _floor(scaling, local)
    if scaling.max is None:
        return floor
    ceiling = max(scaling.max, floor.replicas)
    found = _by_load(now, scaling, current, per_replica, history, reaction, floor.replicas == 0)
    if found.replicas < floor.replicas:
        return floor
    if found.replicas > ceiling:
        return Target(ceiling, f"{found.reason}; at most {ceiling} may run")
    return found


# --- schedule -------------------------------------------------------------------------------


def _floor(scaling: Scaling, local: Mapping[str, datetime]) -> Target:
    open_now = [one for one in scaling.schedule if one.is_open(local[one.zone])]
    most = max(open_now, key=lambda one: one.replicas, default=None)
    if most is not None and most.replicas >= scaling.min:
        return Target(most.replicas, f"the schedule says so ({most})")
    if scaling.schedule and scaling.max is None:
        return Target(scaling.min, f"no schedule asks for more than {scaling.min} now")
    return Target(scaling.min, f"at least {scaling.min} were ordered")


# --- load -----------------------------------------------------------------------------------


def _by_load(
    now: datetime,
    scaling: Scaling,
    current: int,
    per_replica: float,
    history: Sequence[Load],
    reaction: Reaction,
    zero: bool,
) -> Target:
    known = _unbroken(now, history, timedelta(seconds=reaction.gap_s))
    if not known:
        return Target(current, "its load is not known")
    busy_at, seen_at = _busy_at(known), known[-1].until
    if current == 0:
        if busy_at is None or (seen_at - busy_at).total_seconds() >= scaling.idle_s:
            return Target(0, "no request came")
        return Target(max(1, ceil(known[-1].requests / per_replica)), "a request came")
    idle_s = (seen_at - (busy_at or known[0].since)).total_seconds()
    if zero and idle_s >= scaling.idle_s:
        return Target(0, f"no request came for {idle_s:.0f} s")
    curve = _Curve(now, known, reaction)
    mean = curve.mean(0.0)
    per = f"{per_replica:g} for each replica"
    if mean > current * per_replica * (1 + reaction.tolerance):
        reason = f"{mean:.1f} requests at a time in the last {reaction.up_s:.0f} s, {per}"
        return Target(ceil(mean / per_replica), reason)
    peak = curve.peak()
    if peak is not None:
        needed = max(1, ceil(peak / (per_replica * (1 - reaction.tolerance))))
        if needed < current:
            reason = f"at most {peak:.1f} requests at a time for {reaction.down_s:.0f} s, {per}"
            return Target(needed, reason)
    return Target(current, f"{mean:.1f} requests at a time, {per}")


def _unbroken(now: datetime, history: Sequence[Load], gap: timedelta) -> list[Load]:
    """The newest loads between which nothing is missing; none if even now is not known."""
    past = [one for one in history if one.until <= now]
    if not past or now - past[-1].until > gap:
        return []
    first = len(past) - 1
    while first and past[first].since - past[first - 1].until <= gap:
        first -= 1
    return past[first:]


def _busy_at(known: Sequence[Load]) -> datetime | None:
    """When a request was last there; None: never in what is known."""
    for before, after in reversed(list(pairwise((None, *known)))):
        if after is not None and after.requests:
            return after.until
        if before is not None and after is not None and after.passed > before.passed:
            return after.since
    return None


class _Curve:
    """The load over time, and its sliding mean. Times are seconds before now, so 0 or negative.

    A load is taken to have stood since the look before it.
    """

    def __init__(self, now: datetime, known: Sequence[Load], reaction: Reaction) -> None:
        ends = [(one.until - now).total_seconds() for one in known]
        self._times = [(known[0].since - now).total_seconds(), *ends[:-1], 0.0]
        pieces = [
            one.requests * (end - start)
            for one, (start, end) in zip(known, pairwise(self._times), strict=True)
        ]
        self._areas = list(accumulate(pieces, initial=0.0))
        self._reaction = reaction

    def mean(self, at: float) -> float:
        """Over the `up_s` before an instant; what is not known counts as no load."""
        span = self._reaction.up_s
        return (self._area(at) - self._area(at - span)) / span

    def peak(self) -> float | None:
        """The highest mean within `down_s`; None where not all of that is known.

        The mean of a load that stands in steps is highest where its span begins or ends at a step.
        """
        first = -self._reaction.down_s
        if self._times[0] > first - self._reaction.up_s:
            return None
        return max(self.mean(at) for at in self._corners(first))

    def _corners(self, first: float) -> Iterator[float]:
        yield first
        for at in self._times:
            for corner in (at, at + self._reaction.up_s):
                if first < corner <= 0.0:
                    yield corner

    def _area(self, at: float) -> float:
        """Requests times seconds from the beginning to an instant."""
        if at <= self._times[0]:
            return 0.0
        index = min(bisect_right(self._times, at), len(self._times) - 1)
        start, end = self._times[index - 1], self._times[index]
        share = (at - start) / (end - start) if end > start else 1.0
        return self._areas[index - 1] + share * (self._areas[index] - self._areas[index - 1])
