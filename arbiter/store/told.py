"""What providers say of losses of spot machines, read for what is believed of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from arbiter.domain import Purchase
from arbiter.pools import pool_named
from arbiter.spot.priors import WORTH, Said, Seed, seeds
from arbiter.store.tables import signal, signal_coverage


def read_seeds(connection: Connection, now: datetime) -> dict[str, Seed]:
    """Pool -> what its provider's own figures make of it now, from the signals that stand."""
    at = now.timestamp()
    measured = func.coalesce(
        signal.c.observed_at, signal_coverage.c.seen_at, signal.c.valid_from
    ).label("at")
    rows = connection.execute(
        select(
            signal.c.provider,
            signal.c.region,
            signal.c.zone,
            signal.c.instance_type,
            signal.c.kind,
            signal.c.low,
            signal.c.high,
            signal.c.text,
            measured,
        )
        .outerjoin(
            signal_coverage,
            and_(
                signal_coverage.c.provider == signal.c.provider,
                signal_coverage.c.kind == signal.c.kind,
            ),
        )
        .where(signal.c.valid_to.is_(None), signal.c.kind.in_(sorted(WORTH)))
        .where(signal.c.purchase.in_(("", Purchase.SPOT.value)))
    )
    said = [
        Said(row[0], pool_named(row[0], row[1], row[2], row[3]), *row[4:8], float(row[8]))
        for row in rows
    ]
    return seeds(said, at)
