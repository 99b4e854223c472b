"""What was ordered of a service's scaling, and the loads that it looks back at."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from arbiter.scaling import Load, Scaling
from arbiter.store.tables import service_load
from arbiter.typed import decode

SEEN = timedelta(minutes=2)
"""A load that was last seen longer ago is not shown as the present one."""


def scaling_text(scaling: Scaling | None) -> str | None:
    """The order as it is stored."""
    return None if scaling is None else msgspec.json.encode(scaling).decode()


def read_scaling(text: str | None) -> Scaling | None:
    """The order as it was stored."""
    return None if text is None else decode(text, Scaling)


def loads(connection: Connection, service: str, now: datetime) -> list[Load]:
    """The loads of a service that are kept, oldest first; none from the future.

    One from the future was written before the clock was set back.
    """
    table = service_load.c
    query = select(table.since, table.until, table.requests, table.passed).where(
        table.service == service, table.until <= now
    )
    return [Load(*row) for row in connection.execute(query.order_by(table.since))]


def newest_loads(connection: Connection, now: datetime) -> dict[str, Load]:
    """Service -> its newest load, where one was seen within the last minutes."""
    table = service_load.c
    query = select(table.service, table.since, table.until, table.requests, table.passed).where(
        table.until.between(now - SEEN, now)
    )
    rows = connection.execute(query.order_by(table.since))
    return {service: Load(*rest) for service, *rest in rows}


def keep_load(connection: Connection, service: str, newest: Load, memory: timedelta) -> None:
    """Write the newest load, and forget those that ended longer ago than `memory`."""
    table = service_load.c
    old = (table.until < newest.until - memory) | (table.until > newest.until)
    connection.execute(delete(service_load).where(table.service == service, old))
    values = {"until": newest.until, "requests": newest.requests, "passed": newest.passed}
    known = (table.service == service) & (table.since == newest.since)
    if not connection.execute(update(service_load).where(known).values(**values)).rowcount:
        connection.execute(
            insert(service_load).values(service=service, since=newest.since, **values)
        )
