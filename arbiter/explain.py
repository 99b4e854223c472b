"""Plans, decisions, services and replicas as people read them, and as JSON-ready dicts. Pure.

Money is Decimal (a decimal string in JSON) with its currency in the key, times are aware UTC, and
what is not known is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from arbiter.domain import (
    Action,
    Plan,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.economics import expected_line
from arbiter.offer_shapes import Dict, by_rule, candidate_dict, machine, usd
from arbiter.scaling import Scaling
from arbiter.served import Served, served_dict

if TYPE_CHECKING:
    from arbiter.cold_starts import Progress
    from arbiter.store.journal import DecisionRow
    from arbiter.store.prices import PollRow
    from arbiter.store.turns import Turn


def dump(value: Any) -> str:
    """A value as one line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()


# --- replicas -------------------------------------------------------------------------------


def replica_dict(replica: Replica, progress: Progress | None = None) -> Dict:
    """A replica, in the place where it really runs as far as that is known.

    Args:
        progress: how far its launch has come; None of one that does not launch any more.
    """
    offer, place = replica.offer, replica.place
    observed = replica.observed_region is not None
    return {
        "cluster": replica.cluster,
        "state": replica.state.value,
        "provider": offer.provider,
        "region": replica.observed_region or offer.region,
        "zone": replica.observed_zone if observed else offer.zone,
        "country": place.country,
        "operator": place.operator,
        "instance_type": offer.instance_type,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "purchase": offer.purchase.value,
        "price_usd_hour": None if is_parked(replica) else usd(replica.price),
        "endpoint": replica.endpoint,
        "replaces": replica.replaces,
        "launched_at": replica.launched_at,
        "up_at": replica.up_at,
        "healthy_at": replica.healthy_at,
        "changed_at": replica.changed_at,
        "note": replica.note,
        "paid_usd_hour": usd(replica.paid),
        "leaving_at": replica.leaving_at,
        "parked_at": replica.parked_at,
        "phase": progress.phase if progress else None,
        "phase_s": progress.elapsed_s if progress else None,
        "phase_usual_s": progress.usual_s if progress else None,
    }


def is_parked(replica: Replica) -> bool:
    """Whether only its disk is paid for, at a price that is not known."""
    return replica.state is ReplicaState.PARKED


def where(replica: Replica) -> str:
    """Where it really runs, as far as that is known."""
    if replica.observed_region is None:
        return replica.offer.where
    parts = (replica.offer.provider, replica.observed_region, replica.observed_zone)
    return "/".join(part for part in parts if part)


# --- services and providers -----------------------------------------------------------------


def healthy(replicas: Sequence[Replica]) -> int:
    """How many of them answer."""
    return sum(1 for replica in replicas if replica.state is ReplicaState.HEALTHY)


def usd_per_hour(replicas: Sequence[Replica]) -> Decimal | None:
    """What those that may cost money cost together; None if one's price is not known."""
    amounts = [usd(replica.price) for replica in replicas if replica.state.alive]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def service_state(service: Service, replicas: Sequence[Replica]) -> str:
    """A service in one word: down, ending, paused, zero, up, degraded, starting or waiting."""
    alive = [replica for replica in replicas if replica.state.alive]
    if service.down:
        return "ending" if alive else "down"
    if service.paused:
        return "paused"
    if service.replicas == 0:
        return "zero"
    answering = healthy(replicas)
    if answering >= service.replicas:
        return "up"
    if answering:
        return "degraded"
    return "starting" if alive else "waiting"


def scaling_dict(scaling: Scaling) -> Dict:
    """What changes a service's number of replicas."""
    return {
        "min": scaling.min,
        "max": scaling.max,
        "schedule": [str(one) for one in scaling.schedule],
        "requests_per_replica": scaling.requests_per_replica,
        "idle_s": scaling.idle_s,
        "hold_s": scaling.hold_s,
    }


def service_dict(
    service: Service,
    level: str,
    replicas: Sequence[Replica],
    sentence: str | None,
    endpoint: str | None = None,
    progress: Mapping[str, Progress | None] | None = None,
    requests: int | None = None,
    served: Served | None = None,
) -> Dict:
    """A service with its replicas.

    Args:
        level: the sovereignty level in force for it.
        sentence: its last decision's, or None.
        endpoint: the gateway's, which stays; None where there is no gateway.
        progress: cluster -> how far its launch has come.
        requests: in flight when it was last looked; None where its load is not looked at.
        served: what its servers do, and what their tokens cost; None where nothing was counted.
    """
    known = progress or {}
    return {
        "name": service.name,
        "profile": service.profile,
        "state": service_state(service, replicas),
        "target": 0 if service.down else service.replicas,
        "healthy": healthy(replicas),
        "sovereignty": level,
        "paused": service.paused,
        "down": service.down,
        "tags": dict(service.tags),
        "usd_hour": usd_per_hour(replicas),
        "last_decision": sentence,
        "endpoint": None if service.down else endpoint,
        "scaling": None if service.scaling is None else scaling_dict(service.scaling),
        "requests": requests,
        **served_dict(served),
        "replicas": [replica_dict(replica, known.get(replica.cluster)) for replica in replicas],
    }


def poll_dict(row: PollRow) -> Dict:
    """The account of one poll."""
    return {
        "provider": row.provider,
        "state": row.state,
        "offers": row.offers,
        "changes": row.changes,
        "withdrawn": row.withdrawn,
        "skipped": sum(row.skips.values()),
        "malformed": row.malformed,
        "skips": dict(row.skips),
        "seconds": round((row.finished_at - row.started_at).total_seconds(), 3),
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "reasons": list(row.reasons),
    }


def turn_dict(turn: Turn | None, held: int, standing: int) -> Dict:
    """How a provider's polling stands, as the daemon notes it, and how many prices it has.

    Args:
        turn: None where no daemon has polled it.
        held: prices that are kept and not believed.
        standing: prices that stand; after a poll that failed, those of the last that did not.
    """
    return {
        "circuit": turn.circuit if turn else None,
        "failures": turn.failures if turn else None,
        "next_poll_at": turn.next_at if turn else None,
        "polling_since": turn.polling_since if turn else None,
        "progress": turn.note if turn else "",
        "held_back": held,
        "standing": standing,
    }


# --- plans and decisions --------------------------------------------------------------------


def action_dict(action: Action, state: str | None = None, error: str = "") -> Dict:
    """One step, with its outcome where it was journaled."""
    return {
        "id": action.id,
        "kind": action.kind.value,
        "cluster": action.cluster,
        "reason": action.reason,
        "state": state,
        "error": error,
        "offer": str(action.offer.key) if action.offer else None,
        "price_usd_hour": usd(action.price),
        "replaces": action.replaces,
        "for_money": action.for_money,
        "expected": asdict(action.expected) if action.expected else None,
    }


def plan_dict(plan: Plan) -> Dict:
    """A plan, complete."""
    return {
        "service": plan.service,
        "at": plan.at,
        "sentence": plan.sentence,
        "eligible": plan.eligible,
        "refused_by_rule": dict(plan.refused_by_rule),
        "cost_share": plan.cost_share,
        "notes": list(plan.notes),
        "actions": [action_dict(action) for action in plan.actions],
        "candidates": [candidate_dict(candidate) for candidate in plan.candidates],
    }


def plan_json(plan: Plan) -> str:
    """A plan as one line of JSON."""
    return dump(plan_dict(plan))


def plan_lines(plan: Plan) -> list[str]:
    """A plan as people read it: the sentence, the steps, the best offers, the refusals."""
    return [plan.sentence, *_steps([(action, "") for action in plan.actions]), *_ground(plan)]


def decision_dict(row: DecisionRow) -> Dict:
    """A journaled decision with what became of its actions."""
    outcome = [action_dict(one.action, one.state.value, one.error) for one in row.actions]
    known = {"id": row.id, "policy": row.policy, "version": row.version}
    return {**known, **plan_dict(row.plan), "actions": outcome}


def decision_lines(row: DecisionRow) -> list[str]:
    """A journaled decision as people read it."""
    steps = [
        (one.action, f"{one.state}{f': {one.error}' if one.error else ''}") for one in row.actions
    ]
    return [
        row.sentence,
        f"  decision {row.id} at {row.at:%Y-%m-%d %H:%M:%S} UTC, policy {row.policy}, "
        f"arbiter {row.version}",
        *_steps(steps),
        *_ground(row.plan),
    ]


def _steps(actions: list[tuple[Action, str]]) -> Iterator[str]:
    if actions:
        yield "  actions"
    for action, outcome in actions:
        what = f"    {action.kind} {action.cluster}"
        if action.offer is not None:
            what += f" on {action.offer.where} {machine(action.offer)} at {action.price} an hour"
        if action.replaces:
            what += f", in place of {action.replaces}"
        yield f"{what}: {action.reason}{f'  [{outcome}]' if outcome else ''}"
        if action.expected is not None:
            yield f"      {expected_line(action.expected)}"


def _ground(plan: Plan) -> Iterator[str]:
    """What the decision rests on."""
    yield from (f"  {note}" for note in plan.notes)
    if plan.candidates:
        yield f"  best of {plan.eligible} eligible offers"
    for number, candidate in enumerate(plan.candidates, 1):
        quote = candidate.quote
        where = f"{quote.offer.where} ({quote.offer.place.country or 'country unknown'})"
        yield (
            f"    {number}. {candidate.usd_per_mtok} USD/Mtok  {where}  "
            f"{machine(quote.offer)}  {quote.price} an hour, {candidate.tokens_per_s} tokens/s "
            f"{candidate.evidence}, {', '.join((candidate.variant, *candidate.marks))}"
        )
    if refused := sum(plan.refused_by_rule.values()):
        yield f"  refused {refused} offers: {by_rule(plan.refused_by_rule)}"
