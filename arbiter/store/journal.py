"""The journal: decisions, the actions they led to, and events. Append-only.

An intent is committed before its call, the request id right after it, the outcome at the end. What
plan() was given is kept with each decision, so that the decision can be replayed byte for byte.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from arbiter import __version__
from arbiter.domain import (
    MAKES,
    Action,
    ActionKind,
    ActionState,
    Plan,
    Quote,
    Replica,
    ReplicaState,
)
from arbiter.errors import ArbiterError, UnknownName
from arbiter.orders import Destination
from arbiter.planner import Fleet
from arbiter.policy import Policy
from arbiter.spot.beliefs import Beliefs
from arbiter.store import fleet, parking
from arbiter.store.tables import action, decision, event, meta
from arbiter.typed import decode

ORPHANS = "orphans"
OPEN = (ActionState.INTENT.value, ActionState.SUBMITTED.value)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What plan() was given.

    Attributes:
        order: a move that a user ordered; None for the planner's own decisions.
    """

    now: datetime
    quotes: tuple[Quote, ...]
    fleet: Fleet
    policy: Policy
    beliefs: Beliefs = field(default_factory=Beliefs)
    order: Destination | None = None


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action with its outcome so far."""

    action: Action
    decision_id: str
    state: ActionState
    request_id: str | None
    error: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One journaled decision with its actions."""

    id: str
    service: str
    at: datetime
    sentence: str
    policy: str
    version: str
    plan: Plan
    actions: tuple[ActionRow, ...]


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened, as one past-tense sentence.

    Attributes:
        within_s: of a loss or a notice: its cause was at most so many seconds before; None of
            other events, and where that is not known.
    """

    id: int
    at: datetime
    kind: str
    service: str | None
    cluster: str | None
    decision_id: str | None
    sentence: str
    within_s: float | None = None


def encode(value: Plan | Inputs) -> bytes:
    """Canonical JSON: equal values give equal bytes."""
    return msgspec.json.encode(value, order="deterministic")


def write_decision(connection: Connection, plan: Plan, inputs: Inputs) -> str:
    """Journal a decision and the intents of its actions; returns its id."""
    decision_id = secrets.token_hex(6)
    connection.execute(
        insert(decision).values(
            id=decision_id,
            service=plan.service,
            at=plan.at,
            sentence=plan.sentence,
            policy=inputs.policy.name,
            version=__version__,
            plan=encode(plan).decode(),
            inputs=zlib.compress(encode(inputs), 6),
        )
    )
    for ordinal, step in enumerate(plan.actions):
        connection.execute(
            insert(action).values(
                id=step.id,
                decision_id=decision_id,
                ordinal=ordinal,
                service=step.service,
                kind=step.kind.value,
                cluster=step.cluster,
                for_money=step.for_money,
                state=ActionState.INTENT.value,
                body=msgspec.json.encode(step).decode(),
                error="",
                created_at=plan.at,
                updated_at=plan.at,
            )
        )
    return decision_id


def write_plan(connection: Connection, plan: Plan, inputs: Inputs) -> str:
    """Journal a decision with the intents of its actions and the replicas they will make."""
    decision_id = write_decision(connection, plan, inputs)
    for step in plan.actions:
        if step.kind is ActionKind.START:
            parking.begin_start(connection, step, plan.at)
        elif step.kind is ActionKind.PARK:
            parking.begin_park(connection, step.cluster, plan.at)
        elif step.kind is ActionKind.LAUNCH and step.offer is not None:
            newcomer = Replica(
                cluster=step.cluster,
                service=plan.service,
                offer=step.offer,
                price=step.price,
                state=ReplicaState.LAUNCHING,
                launched_at=plan.at,
                changed_at=plan.at,
                replaces=step.replaces,
            )
            fleet.add_replica(connection, newcomer, step.variant)
        if step.hedges is not None:
            fleet.mark_hedged(connection, step.hedges, step.cluster)
    return decision_id


def set_action(
    connection: Connection,
    action_id: str,
    state: ActionState,
    now: datetime,
    *,
    request_id: str | None = None,
    error: str = "",
) -> None:
    """Note how far an action has come."""
    values = {"state": state.value, "updated_at": now, "error": error}
    if request_id is not None:
        values["request_id"] = request_id
    connection.execute(update(action).where(action.c.id == action_id).values(**values))


def close_launch(
    connection: Connection, cluster: str, state: ActionState, now: datetime, error: str = ""
) -> None:
    """Close the launch, or start, of a cluster, if it is open."""
    connection.execute(
        update(action)
        .where(
            action.c.cluster == cluster,
            action.c.kind.in_([kind.value for kind in MAKES]),
            action.c.state.in_(OPEN),
        )
        .values(state=state.value, updated_at=now, error=error)
    )


def open_actions(connection: Connection, service: str) -> list[ActionRow]:
    """Actions that were begun and not finished, in their order."""
    rows = connection.execute(
        select(action)
        .where(action.c.service == service, action.c.state.in_(OPEN))
        .order_by(action.c.created_at, action.c.ordinal)
    ).mappings()
    return [_action(row) for row in rows]


def failing_ends(connection: Connection) -> dict[str, list[ActionRow]]:
    """Service -> ends that were ordered and have failed so far, oldest first."""
    rows = connection.execute(
        select(action)
        .where(
            action.c.kind == ActionKind.TERMINATE.value,
            action.c.state.in_(OPEN),
            action.c.error != "",
        )
        .order_by(action.c.created_at)
    ).mappings()
    found: dict[str, list[ActionRow]] = {}
    for row in rows:
        found.setdefault(row["service"], []).append(_action(row))
    return found


def orphans(connection: Connection) -> dict[str, int]:
    """Cluster of ours that belongs to no service -> how many sweeps in a row have found it."""
    body = connection.execute(select(meta.c.value).where(meta.c.key == ORPHANS)).scalar()
    return {str(name): int(times) for name, times in json.loads(body or "{}").items()}


def keep_orphans(connection: Connection, found: Mapping[str, int]) -> None:
    """Write down what the newest sweep has found."""
    connection.execute(delete(meta).where(meta.c.key == ORPHANS))
    connection.execute(insert(meta).values(key=ORPHANS, value=json.dumps(dict(found))))


def moves(connection: Connection, service: str, since: datetime) -> list[datetime]:
    """When launches for money were decided since an instant; those that failed moved nothing."""
    return list(
        connection.execute(
            select(action.c.created_at)
            .where(
                action.c.service == service,
                action.c.for_money,
                action.c.created_at > since,
                action.c.state.not_in((ActionState.FAILED, ActionState.ABANDONED)),
            )
            .order_by(action.c.created_at)
        ).scalars()
    )


def decisions(
    connection: Connection, service: str | None = None, limit: int = 50
) -> list[DecisionRow]:
    """The newest decisions first."""
    query = select(decision).order_by(decision.c.at.desc(), decision.c.id).limit(limit)
    if service is not None:
        query = query.where(decision.c.service == service)
    rows = list(connection.execute(query).mappings())
    return [_decision(connection, row) for row in rows]


def get_decision(connection: Connection, decision_id: str) -> DecisionRow:
    """The decision of that id, or of a beginning of it that is unique.

    Raises:
        UnknownName: no decision, or more than one, begins so.
    """
    escaped = decision_id.replace("\\", "").replace("%", "").replace("_", "")
    rows = list(
        connection.execute(
            select(decision).where(decision.c.id.like(f"{escaped}%")).limit(2)
        ).mappings()
    )
    if len(rows) != 1 or not escaped:
        what = "no decision begins" if not rows else "several decisions begin"
        raise UnknownName(f"{what} with {decision_id!r}", "see: arbiter explain SERVICE")
    return _decision(connection, rows[0])


def last_sentence(connection: Connection, service: str, now: datetime | None = None) -> str | None:
    """The sentence of the newest decision of a service, or None.

    Args:
        now: leaves out decisions from the future, made before the clock was set back.
    """
    query = select(decision.c.sentence).where(decision.c.service == service)
    if now is not None:
        query = query.where(decision.c.at <= now)
    return connection.execute(query.order_by(decision.c.at.desc()).limit(1)).scalar()


def inputs(connection: Connection, decision_id: str) -> Inputs:
    """What plan() was given for a decision.

    Raises:
        UnknownName: there is no such decision.
        ArbiterError: its inputs are no longer kept.
    """
    found = get_decision(connection, decision_id)
    packed = connection.execute(
        select(decision.c.inputs).where(decision.c.id == found.id)
    ).scalar_one()
    if not packed:
        raise ArbiterError(
            f"what decision {found.id} was made from is no longer kept, so it cannot be replayed",
            "to keep it longer, set retention.decisions_inputs_days",
        )
    return decode(zlib.decompress(packed), Inputs)


def add_event(
    connection: Connection,
    at: datetime,
    kind: str,
    sentence: str,
    *,
    service: str | None = None,
    cluster: str | None = None,
    decision_id: str | None = None,
    within_s: float | None = None,
) -> None:
    """Append an event, in the transaction that changes the state it tells of."""
    connection.execute(
        insert(event).values(
            at=at,
            kind=kind,
            service=service,
            cluster=cluster,
            decision_id=decision_id,
            sentence=sentence,
            within_s=within_s,
        )
    )


def events(
    connection: Connection, service: str | None = None, after_id: int = 0, limit: int = 100
) -> list[EventRow]:
    """Events after an id, oldest first; with after_id 0 the newest `limit` of them."""
    query = select(event)
    if service is not None:
        query = query.where(event.c.service == service)
    if after_id:
        query = query.where(event.c.id > after_id).order_by(event.c.id).limit(limit)
        rows = list(connection.execute(query).mappings())
    else:
        query = query.order_by(event.c.id.desc()).limit(limit)
        rows = list(connection.execute(query).mappings())[::-1]
    return [EventRow(**row) for row in rows]


def owner(connection: Connection) -> str:
    """The identity of this arbiter, made once per database: eight hexadecimal digits."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == "owner")).scalar()
    if found is None:
        found = secrets.token_hex(4)
        connection.execute(insert(meta).values(key="owner", value=found))
    return found


def _action(row: RowMapping) -> ActionRow:
    return ActionRow(
        decode(row["body"], Action),
        row["decision_id"],
        ActionState(row["state"]),
        row["request_id"],
        row["error"],
        row["created_at"],
        row["updated_at"],
    )


def _decision(connection: Connection, row: RowMapping) -> DecisionRow:
    actions: Sequence[RowMapping] = list(
        connection.execute(
            select(action).where(action.c.decision_id == row["id"]).order_by(action.c.ordinal)
        ).mappings()
    )
    return DecisionRow(
        row["id"],
        row["service"],
        row["at"],
        row["sentence"],
        row["policy"],
        row["version"],
        decode(row["plan"], Plan),
        tuple(_action(one) for one in actions),
    )
