"""Parked machines: what is written when one is stopped, started, or refuses to start."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, literal, select, update

from arbiter.domain import Action, ReplicaState
from arbiter.store.tables import replica, replica_run


def begin_park(connection: Connection, cluster: str, now: datetime) -> None:
    """Note that a drained machine is being stopped."""
    connection.execute(
        update(replica)
        .where(replica.c.cluster == cluster)
        .values(state=ReplicaState.PARKING.value, changed_at=now)
    )


def park(connection: Connection, cluster: str, now: datetime, note: str) -> None:
    """Note that a machine is stopped, and keep what it did until then: its next start is another
    run, with figures of its own."""
    one = replica.c
    connection.execute(
        insert(replica_run).from_select(
            [
                "cluster", "started", "launched_at", "up_at", "healthy_at", "ended_at",
                "price_micros", "paid_micros",
            ],
            select(
                one.cluster, one.parked_at.is_not(None), one.launched_at, one.up_at,
                one.healthy_at, literal(now, replica_run.c.ended_at.type), one.price_micros,
                one.paid_micros,
            ).where(one.cluster == cluster),
        )
    )  # fmt: skip
    connection.execute(
        update(replica)
        .where(one.cluster == cluster)
        .values(
            state=ReplicaState.PARKED.value,
            parked_at=now,
            changed_at=now,
            endpoint=None,
            replaces=None,
            hedged_by=None,
            note=note,
        )
    )


def begin_start(connection: Connection, step: Action, now: datetime) -> None:
    """Note that a parked machine is about to be started: like a launch, under its old name."""
    assert step.offer is not None  # every start has one
    price = step.price
    connection.execute(
        update(replica)
        .where(replica.c.cluster == step.cluster)
        .values(
            state=ReplicaState.LAUNCHING.value,
            variant=step.variant,
            price_micros=price.micros if price else None,
            currency=price.currency if price else None,
            paid_micros=None,
            launched_at=now,
            changed_at=now,
            up_at=None,
            healthy_at=None,
            endpoint=None,
            request_id=None,
            leaving_at=None,
            replaces=step.replaces,
            note="",
        )
    )
