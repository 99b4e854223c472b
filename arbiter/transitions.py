"""What a sighting and a health check make of a replica. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from arbiter.domain import ActionState, Purchase, Replica, ReplicaState
from arbiter.errors import LaunchError, NoCapacity
from arbiter.executors.base import Phase, Sighting
from arbiter.health import Health


@dataclass(frozen=True, slots=True)
class Seen:
    """A change that was seen.

    Attributes:
        replica: as it is now.
        kind, sentence: of the event to journal; None where only details changed.
        closes_launch: the outcome of the open launch, if it has one now.
        lost: it was running and is gone without our order.
        error: its launch failed.
    """

    replica: Replica
    kind: str | None = None
    sentence: str = ""
    closes_launch: ActionState | None = None
    lost: bool = False
    error: LaunchError | None = None


def seen(
    current: Replica, sighting: Sighting | None, health: Health | None, now: datetime
) -> Seen | None:
    """The change, or None where nothing changed.

    Args:
        sighting: None where the executor does not know the cluster.
        health: of a replica whose machine is up; None otherwise.
    """
    if sighting is None:
        return _vanished(current, now)
    if sighting.phase is Phase.FAILED:
        error = sighting.error or NoCapacity("the launch failed without a reason")
        return Seen(current, error=error)
    if sighting.phase is Phase.GONE:
        return _vanished(current, now)
    if sighting.phase is Phase.PENDING:
        return _noted(current, replace(current, note=sighting.progress))
    return _up(current, sighting, health or Health(False, "not checked"), now)


def _vanished(current: Replica, now: datetime) -> Seen:
    if current.state is ReplicaState.DRAINING:
        ended = replace(current, state=ReplicaState.TERMINATED, changed_at=now, note="gone")
        return Seen(ended, "terminated", f"{current.cluster} was gone before its drain ended")
    if current.state is ReplicaState.LAUNCHING:
        return Seen(current, error=NoCapacity("it disappeared while it was being launched"))
    reclaimed = current.offer.purchase is Purchase.SPOT
    kind = "spot_reclaimed" if reclaimed else "lost"
    verb = "was reclaimed" if reclaimed else "was lost"
    lost = replace(current, state=ReplicaState.LOST, changed_at=now, note=verb)
    sentence = f"{current.cluster} on {current.offer.where} {verb}"
    return Seen(lost, kind, sentence, ActionState.DONE, lost=True)


def _up(current: Replica, sighting: Sighting, health: Health, now: datetime) -> Seen | None:
    located = replace(
        current,
        endpoint=sighting.endpoint or current.endpoint,
        observed_region=sighting.region or current.observed_region,
        observed_zone=sighting.zone or current.observed_zone,
    )
    if current.state is ReplicaState.DRAINING:
        return _noted(current, located)
    state = _state(current, health)
    if state is current.state:
        return _noted(current, replace(located, note=health.reason))
    changed = replace(located, state=state, changed_at=now, note=health.reason)
    where = current.offer.where
    if state is ReplicaState.HEALTHY:
        after = (now - current.launched_at).total_seconds()
        first = current.healthy_at is None
        changed = replace(changed, healthy_at=current.healthy_at or now)
        tale = f"answered {after:.0f} s after its launch" if first else "answers again"
        return Seen(changed, "healthy", f"{current.cluster} on {where} {tale}", ActionState.DONE)
    if state is ReplicaState.UNHEALTHY:
        sentence = f"{current.cluster} on {where} stopped answering: {health.reason}"
        return Seen(changed, "unhealthy", sentence)
    return Seen(changed, "up", f"{current.cluster} on {where} was up, its server is starting")


def _state(current: Replica, health: Health) -> ReplicaState:
    if health.serving:
        return ReplicaState.HEALTHY
    if current.state in (ReplicaState.HEALTHY, ReplicaState.UNHEALTHY):
        return ReplicaState.UNHEALTHY
    return ReplicaState.STARTING


def _noted(current: Replica, changed: Replica) -> Seen | None:
    return None if changed == current else Seen(changed)
