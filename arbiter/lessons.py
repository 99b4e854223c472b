"""What the fleet's own history teaches of the pools it runs in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from arbiter.domain import Offer, Purchase, Replica, ReplicaState
from arbiter.errors import NoCapacity
from arbiter.pools import group_of, pool_of
from arbiter.spot.beliefs import Event, Happened
from arbiter.spot.cold import Answered
from arbiter.transitions import Seen


def lessons(
    now: datetime, replicas: Sequence[Replica], changes: Iterable[tuple[Replica, Seen | None]]
) -> list[Event]:
    """The events of one observation, in the order of the pools' names.

    Args:
        replicas: all that were alive before it.
        changes: each observed replica as it was, and what was seen; None where nothing changed.
    """
    at = now.timestamp()
    held = Counter(pool_of(one.offer) for one in replicas if _stood(one))
    lost: Counter[str] = Counter()
    kinds: dict[tuple[str, Happened], Offer] = {}
    for replica, change in changes:
        kind = _kind(replica, change)
        if kind is None or replica.offer.purchase is not Purchase.SPOT:
            continue
        pool = pool_of(replica.offer)
        lost[pool] += kind is Happened.LOST
        kinds[pool, kind] = replica.offer
    order = (Happened.STANDS, Happened.GAVE, Happened.REFUSED, Happened.LOST)
    return [
        Event(at, pool, group_of(offer), kind, held[pool], max(1, lost[pool]))
        for (pool, kind), offer in sorted(
            kinds.items(), key=lambda item: (item[0][0], order.index(item[0][1]))
        )
    ]


def answered(
    now: datetime, model: str, changes: Iterable[tuple[Replica, Seen | None]]
) -> list[Answered]:
    """The cold starts that one observation saw the end of, on spot and on demand.

    Args:
        model: name of the profile.
        changes: as of `lessons`.
    """
    return [
        Answered(
            now.timestamp(),
            model,
            group_of(replica.offer),
            (now - replica.launched_at).total_seconds(),
        )
        for replica, change in changes
        if change is not None
        and replica.healthy_at is None
        and replica.parked_at is None  # a start says nothing of how long a launch takes
        and change.replica.state is ReplicaState.HEALTHY
    ]


def refused(now: datetime, offer: Offer, held: int) -> Event:
    """A launch that the provider refused for want of capacity."""
    return Event(now.timestamp(), pool_of(offer), group_of(offer), Happened.REFUSED, held)


def _stood(replica: Replica) -> bool:
    """Whether its machine was there before the observation."""
    return replica.state.alive and replica.state is not ReplicaState.LAUNCHING


def _kind(replica: Replica, change: Seen | None) -> Happened | None:
    if change is None:
        return Happened.STANDS if _stood(replica) else None
    if change.error is not None:
        return Happened.REFUSED if isinstance(change.error, NoCapacity) else None
    if change.lost:
        return Happened.LOST
    if not change.replica.state.alive:
        return None  # ended by our own order
    if not _stood(change.replica):
        return None
    return Happened.STANDS if _stood(replica) else Happened.GAVE
