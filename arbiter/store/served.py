"""What servers say of their load, and how many tokens they have made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, case, func, insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from arbiter.counters import Counters, Window
from arbiter.domain import ReplicaState
from arbiter.store.tables import meta, replica, replica_counters, served

SPAN_S = 300
"""Seconds of one row of what was served."""

COUNTED_SINCE = "counted_since"
"""In `meta`: the instant of the very first reading."""

_SUMS = ("seconds", "tokens", "prompt_tokens", "saturated_seconds", "saturated_tokens")


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest reading of one server.

    Attributes:
        tokens_per_s: output tokens per second since the reading before; None where it is the first.
    """

    cluster: str
    service: str
    counters: Counters
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Peak:
    """How busy a service was at its busiest.

    Attributes:
        tokens_per_s: output tokens per second over all replicas, in its busiest span.
        counted_s: seconds of the spans in which anything was counted.
        saturated_s: seconds for which a replica had all the work that it can do, summed over them.
    """

    tokens_per_s: float
    counted_s: float
    saturated_s: float


def readings(connection: Connection, service: str | None = None) -> dict[str, Reading]:
    """The newest reading of every server that was ever read, by cluster: look at its age.

    Args:
        service: of one service; None is all.
    """
    query = select(replica_counters).order_by(replica_counters.c.cluster)
    if service is not None:
        query = query.where(replica_counters.c.service == service)
    return {row["cluster"]: _reading(row) for row in connection.execute(query).mappings()}


def write_reading(connection: Connection, reading: Reading, seen: Window | None) -> None:
    """Put a reading in the place of the one before, and add up what happened in between."""
    now, one = reading.counters, reading
    values = {
        "service": one.service,
        "at": now.at,
        "running": now.running,
        "waiting": now.waiting,
        "generation_tokens": now.generation_tokens,
        "prompt_tokens": now.prompt_tokens,
        "kv_usage": now.kv_usage,
        "tokens_per_s": one.tokens_per_s,
    }
    statement = _insert(connection, replica_counters).values(cluster=one.cluster, **values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["cluster"], set_={name: statement.excluded[name] for name in values}
        )
    )
    if seen is not None:
        _add(connection, reading, seen)
    elif counted_since(connection) is None:
        connection.execute(insert(meta).values(key=COUNTED_SINCE, value=now.at.isoformat()))


def _add(connection: Connection, reading: Reading, seen: Window) -> None:
    end = int(reading.counters.at.timestamp())
    statement = _insert(connection, served).values(
        cluster=reading.cluster,
        since=end - end % SPAN_S,
        service=reading.service,
        seconds=seen.seconds,
        tokens=seen.tokens,
        prompt_tokens=seen.prompt_tokens,
        saturated_seconds=seen.seconds if seen.saturated else 0.0,
        saturated_tokens=seen.tokens if seen.saturated else 0,
    )
    sums = {name: served.c[name] + statement.excluded[name] for name in _SUMS}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["cluster", "since"], set_=sums)
    )


def peak(connection: Connection, service: str, since: datetime, until: datetime) -> Peak | None:
    """The busiest span of a service; None where nothing was counted.

    A replica that was counted for a part of a span only counts for that part of it, and what came
    after a long silence for all of that.

    Args:
        since, until: of the beginnings of the spans.
    """
    lasts = case((served.c.seconds > SPAN_S, served.c.seconds), else_=float(SPAN_S))
    spans = (
        select(
            func.sum(served.c.tokens / lasts).label("rate"),
            func.sum(served.c.saturated_seconds).label("saturated"),
        )
        .where(served.c.service == service)
        .where(served.c.since >= int(since.timestamp()), served.c.since < int(until.timestamp()))
        .group_by(served.c.since)
        .subquery()
    )
    query = select(func.max(spans.c.rate), func.count(), func.sum(spans.c.saturated))
    rate, count, saturated = connection.execute(query).one()
    return Peak(float(rate), count * SPAN_S, float(saturated)) if count else None


def counted_since(connection: Connection) -> datetime | None:
    """When the counting began in this database; None where it has not."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == COUNTED_SINCE)).scalar()
    return None if found is None else datetime.fromisoformat(found)


@dataclass(frozen=True, slots=True)
class Machine:
    """What serves a replica's model.

    Attributes:
        variant: how its weights are stored; None where that was not noted.
    """

    variant: str | None
    gpu: str
    gpu_count: int


def machines(connection: Connection, service: str) -> dict[str, Machine]:
    """The machines of a service that are not ended, by cluster."""
    query = select(replica.c.cluster, replica.c.variant, replica.c.gpu, replica.c.gpu_count).where(
        replica.c.service == service, replica.c.state != ReplicaState.TERMINATED.value
    )
    return {row[0]: Machine(*row[1:]) for row in connection.execute(query)}


def _insert(connection: Connection, table: Table) -> Any:
    insert_of = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    return insert_of(table)


def _reading(row: RowMapping) -> Reading:
    counters = Counters(
        row["at"],
        row["running"],
        row["waiting"],
        row["generation_tokens"],
        row["prompt_tokens"],
        row["kv_usage"],
    )
    return Reading(row["cluster"], row["service"], counters, row["tokens_per_s"])
