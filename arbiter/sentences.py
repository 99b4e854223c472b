"""What was decided, in one past-tense sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from arbiter.crash_loop import BackOff
from arbiter.domain import MAKES, Action, ActionKind, Replica, ReplicaState, Service
from arbiter.market import Sifted


def sentence(
    service: Service,
    replicas: Sequence[Replica],
    actions: Sequence[Action],
    sifted: Sifted,
    held: BackOff | None = None,
) -> str:
    """The decision as people read it: the log line, the journal row and the page show this.

    Args:
        held: why nothing may be launched now.
    """
    parts = [_step(action, replicas, sifted) for action in actions]
    if parts:
        return f"{service.name}: {'; '.join(parts)}"
    missing = service.replicas - sum(1 for replica in replicas if replica.state.alive)
    if service.down:
        return f"{service.name}: nothing was left to end"
    if missing > 0 and held is not None:
        return f"{service.name}: {held}"
    if missing > 0 and not sifted.candidates:
        return f"{service.name}: found no eligible offer, {_refusals(sifted)}"
    if service.replicas == 0 and not any(replica.state.alive for replica in replicas):
        return f"{service.name}: kept nothing, for 0 replicas are wanted"
    return f"{service.name}: kept {_kept(replicas)}"


_VERBS = {
    ActionKind.DRAIN: "drained",
    ActionKind.PARK: "parked",
    ActionKind.TERMINATE: "ended",
}


def _step(action: Action, replicas: Sequence[Replica], sifted: Sifted) -> str:
    if action.kind in MAKES and action.offer is not None:
        offer = action.offer
        eligible = len(sifted.candidates)
        verb = "chose" if action.kind is ActionKind.LAUNCH else f"started {action.cluster} on"
        return (
            f"{verb} {offer.where} {offer.instance_type} {offer.gpu}:{offer.gpu_count} "
            f"{offer.purchase} at {action.price} an hour ({action.reason}; "
            f"{eligible} eligible, {len(sifted.refused)} refused)"
        )
    where = next((r.offer.where for r in replicas if r.cluster == action.cluster), "?")
    verb = _VERBS[action.kind]
    return f"{verb} {action.cluster} on {where} ({action.reason})"


def _kept(replicas: Sequence[Replica]) -> str:
    alive = [replica for replica in replicas if replica.state.alive]
    if not alive:
        return "nothing"
    healthy = sum(1 for replica in alive if replica.state is ReplicaState.HEALTHY)
    places = ", ".join(sorted({f"{r.offer.where} {r.offer.purchase}" for r in alive}))
    noun = "replica" if len(alive) == 1 else "replicas"
    return f"{len(alive)} {noun}, {healthy} healthy, on {places}"


def _refusals(sifted: Sifted) -> str:
    counted = [f"{count} by {rule}" for rule, count in sifted.refused_by_rule().items()]
    return "refused " + ", ".join(counted) if counted else "no offer is known: run arbiter poll"
