"""What every service's servers do now, and what the tokens of the last hour have cost."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select

from arbiter.domain import ReplicaState
from arbiter.money import Price
from arbiter.served import BACK, Made, Served, Stood, served
from arbiter.store.served import SPAN_S, counted_since, readings
from arbiter.store.tables import replica, replica_run
from arbiter.store.tables import served as spans

_ALIVE = [state.value for state in ReplicaState if state.alive]


def served_now(connection: Connection, now: datetime) -> dict[str, Served]:
    """Service -> its figures; a service of which nothing was ever counted is left out."""
    began = counted_since(connection)
    if began is None:
        return {}
    since = max(now - BACK, began)
    told = defaultdict(list)
    for reading in readings(connection).values():
        told[reading.service].append((reading.counters, reading.tokens_per_s))
    made, stood = _made(connection, since, now), _stood(connection, since, now)
    return {
        name: served(now, since, told[name], made.get(name, ()), stood.get(name, ()))
        for name in sorted(told)
    }


def _made(connection: Connection, since: datetime, now: datetime) -> dict[str, list[Made]]:
    first = int((since - timedelta(seconds=SPAN_S)).timestamp())
    columns = (
        spans.c.service, spans.c.since, spans.c.seconds, spans.c.tokens, spans.c.prompt_tokens
    )  # fmt: skip
    found: dict[str, list[Made]] = defaultdict(list)
    for name, begins, seconds, tokens, prompt_tokens in connection.execute(
        select(*columns).where(spans.c.since >= first)
    ):
        ends = min(datetime.fromtimestamp(begins + SPAN_S, UTC), now)
        found[name].append(Made(ends, seconds, tokens, prompt_tokens))
    return found


def _stood(connection: Connection, since: datetime, now: datetime) -> dict[str, list[Stood]]:
    """The machines that stood: from when they were up, since a launch alone costs nothing yet."""
    one = replica.c
    rows = connection.execute(
        select(
            one.service, one.state, one.up_at, one.healthy_at, one.launched_at, one.changed_at,
            one.price_micros, one.paid_micros, one.currency,
        ).where(
            one.state != ReplicaState.PARKED.value,  # its run is over, and counted below
            or_(one.state.in_(_ALIVE), one.changed_at >= since),
        )
    )  # fmt: skip
    found = _ran_before(connection, since)
    for row in rows:
        begins = row.up_at or (None if row.healthy_at is None else row.launched_at)
        if begins is not None:
            ends = now if row.state in _ALIVE else row.changed_at
            found[row.service].append(Stood(begins, ends, _price(row)))
    return found


def _ran_before(connection: Connection, since: datetime) -> dict[str, list[Stood]]:
    """Of machines that were parked: when they stood until then. What a disk costs is not known."""
    run = replica_run.c
    rows = connection.execute(
        select(
            replica.c.service, run.up_at, run.ended_at, run.price_micros, run.paid_micros,
            replica.c.currency,
        )
        .join_from(replica_run, replica, replica.c.cluster == run.cluster)
        .where(run.up_at.is_not(None), run.ended_at >= since)
        .order_by(run.id)
    )  # fmt: skip
    found: dict[str, list[Stood]] = defaultdict(list)
    for row in rows:
        found[row.service].append(Stood(row.up_at, row.ended_at, _price(row)))
    return found


def _price(row: Any) -> Price | None:
    """What is really paid, where that was read back; else the quoted price."""
    micros = row.price_micros if row.paid_micros is None else row.paid_micros
    return None if micros is None or row.currency is None else Price(micros, row.currency)
