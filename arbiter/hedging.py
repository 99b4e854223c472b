"""Hedges: a slow launch gets a second one beside it, once, and the first that is up stays. Pure.

A launch may hang for as long as its executor is patient: SkyPilot waits 600 s for an SSH that never
answers. Waiting that long is dear only while replicas are missing, so only then is it hedged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from arbiter.cold_starts import ColdStarts
from arbiter.domain import Candidate, Offer, Purchase, Replica, ReplicaState

MEASURED_FROM = 3
"""Launches in a provider's region from which on what is usual there is believed."""

TIMES_THE_SLOWEST = 2.0
"""A launch is slow after so many times the slowest of the newest ones there."""

LEAST_PATIENCE_S = 60.0
"""Seconds below which no launch is called slow, however quick a place was, unless the setting is
shorter itself."""


def patience_s(known: ColdStarts, profile: str, offer: Offer, hedge_after_s: float) -> float:
    """After how many seconds without a machine a launch at an offer is slow.

    Args:
        hedge_after_s: where too little is measured.
    """
    usual = known.of(profile, offer)
    if usual is None or usual.region != offer.region or usual.count < MEASURED_FROM:
        return hedge_after_s
    return max(TIMES_THE_SLOWEST * usual.machine_slow_s, min(LEAST_PATIENCE_S, hedge_after_s))


def slow_launches(
    now: datetime,
    replicas: Iterable[Replica],
    profile: str,
    known: ColdStarts,
    hedge_after_s: float,
) -> tuple[str, ...]:
    """Clusters whose launch has brought no machine for longer than is usual there."""
    return tuple(
        one.cluster
        for one in replicas
        if one.state is ReplicaState.LAUNCHING
        and (now - one.launched_at).total_seconds()
        > patience_s(known, profile, one.offer, hedge_after_s)
    )


def hedges(kept: Sequence[Replica]) -> frozenset[str]:
    """Clusters that were launched beside one of these: of each such pair only one will stay.

    Where both answer they are two replicas as any others.
    """
    return frozenset(
        second.cluster for first, second in _pairs(kept) if not _both_answer(first, second)
    )


def settled(kept: Sequence[Replica], ordered: int) -> list[tuple[Replica, Replica]]:
    """Of each pair with a machine that is up: the one that stays, and the other.

    Two that answer both stay, unless more than ordered do.
    """
    answering = sum(one.state is ReplicaState.HEALTHY for one in kept)
    found = []
    for first, second in _pairs(kept):
        if _progress(first) == _progress(second) == 0:
            continue
        if _both_answer(first, second):
            if answering <= ordered:
                continue
            answering -= 1
        stays, goes = (first, second) if _progress(first) >= _progress(second) else (second, first)
        found.append((stays, goes))
    return found


def to_hedge(kept: Sequence[Replica], slow: Collection[str], ordered: int) -> list[Replica]:
    """The slow launches that get a second one: at most one for each replica that is missing."""
    if not slow:
        return []
    beside = hedges(kept)
    answering = sum(one.state is ReplicaState.HEALTHY for one in kept)
    hedged = sum(one.cluster in beside for one in kept)
    found = [
        one
        for one in kept
        if one.state is ReplicaState.LAUNCHING
        and one.cluster in slow
        and one.hedged_by is None
        and one.cluster not in beside
    ]
    return found[: max(0, ordered - answering - hedged)]


def next_candidate(
    slow: Replica, candidates: Iterable[Candidate], used: Collection[str], *, spot: bool
) -> Candidate | None:
    """The cheapest offer in another place; what was bought on demand stays on demand.

    Args:
        used: places that are not taken.
        spot: whether spot may be tried, where anything else is left.
    """
    bought = slow.offer.purchase is not Purchase.SPOT
    elsewhere = [
        one
        for one in candidates
        if one.quote.offer.where not in used
        and (not bought or one.quote.offer.purchase is not Purchase.SPOT)
    ]
    calm = [one for one in elsewhere if spot or one.quote.offer.purchase is not Purchase.SPOT]
    return next(iter(calm or elsewhere), None)


def _pairs(kept: Sequence[Replica]) -> list[tuple[Replica, Replica]]:
    hedged = [one for one in kept if one.hedged_by is not None]
    by_name = {one.cluster: one for one in kept} if hedged else {}
    return [(one, by_name[one.hedged_by]) for one in hedged if one.hedged_by in by_name]


def _both_answer(first: Replica, second: Replica) -> bool:
    return first.state is second.state is ReplicaState.HEALTHY


def _progress(replica: Replica) -> int:
    if replica.state is ReplicaState.LAUNCHING:
        return 0
    return 2 if replica.state is ReplicaState.HEALTHY else 1
