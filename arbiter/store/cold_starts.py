"""Cold starts, as the journal of replicas shows them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, union_all

from arbiter.cold_starts import ColdStarts, measured
from arbiter.domain import Purchase, ReplicaState
from arbiter.store.tables import replica, replica_run, service

LOOKS_BACK = timedelta(days=30)
"""How old a launch may be that still tells something of the next one."""

PARKED = ReplicaState.PARKED.value

MOST_LAUNCHES = 2000
"""Launches that are read at most, newest first."""


def cold_starts(connection: Connection, now: datetime, *, started: bool = False) -> ColdStarts:
    """What launches have taken lately, of all services; ended replicas count too.

    Args:
        started: of parked machines that were started instead, and of them alone.
    """
    own = (service.c.profile, replica.c.provider, replica.c.region, replica.c.purchase)
    runs = []
    for table in (replica, replica_run):
        run = table.c
        query = select(
            *own, run.launched_at.label("launched_at"), run.up_at, run.healthy_at, run.cluster
        ).join_from(replica, service, service.c.name == replica.c.service)
        if table is replica_run:
            query = query.join(replica_run, replica_run.c.cluster == replica.c.cluster)
            query = query.where(replica_run.c.started.is_(started))
        else:  # while it is parked, its last run is in the other table
            parked = run.parked_at.is_not(None)
            query = query.where(parked & (run.state != PARKED) if started else ~parked)
        runs.append(
            query.where(
                run.up_at.is_not(None),
                run.healthy_at.is_not(None),
                run.launched_at.between(now - LOOKS_BACK, now),
            )
        )
    found = union_all(*runs).subquery()
    columns = [column for column in found.c if column.key != "cluster"]
    rows = connection.execute(
        select(*columns).order_by(found.c.launched_at.desc(), found.c.cluster).limit(MOST_LAUNCHES)
    )
    return measured(
        (
            (profile, provider, region, Purchase(purchase)),
            max(0.0, (up_at - launched_at).total_seconds()),
            max(0.0, (healthy_at - up_at).total_seconds()),
        )
        for profile, provider, region, purchase, launched_at, up_at, healthy_at in rows
    )
