"""Cold starts, as the journal of replicas shows them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from arbiter.cold_starts import ColdStarts, measured
from arbiter.domain import Purchase
from arbiter.store.tables import replica, service

LOOKS_BACK = timedelta(days=30)
"""How old a launch may be that still tells something of the next one."""

MOST_LAUNCHES = 2000
"""Launches that are read at most, newest first."""


def cold_starts(connection: Connection, now: datetime) -> ColdStarts:
    """What launches have taken lately, of all services; ended replicas count too."""
    columns = (
        service.c.profile,
        replica.c.provider,
        replica.c.region,
        replica.c.purchase,
        replica.c.launched_at,
        replica.c.up_at,
        replica.c.healthy_at,
    )
    rows = connection.execute(
        select(*columns)
        .join(service, service.c.name == replica.c.service)
        .where(
            replica.c.up_at.is_not(None),
            replica.c.healthy_at.is_not(None),
            replica.c.launched_at.between(now - LOOKS_BACK, now),
        )
        .order_by(replica.c.launched_at.desc(), replica.c.cluster)
        .limit(MOST_LAUNCHES)
    )
    return measured(
        (
            (profile, provider, region, Purchase(purchase)),
            max(0.0, (up_at - launched_at).total_seconds()),
            max(0.0, (healthy_at - up_at).total_seconds()),
        )
        for profile, provider, region, purchase, launched_at, up_at, healthy_at in rows
    )
