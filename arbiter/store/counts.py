"""How much is in the database: of the journal, and of the prices that stand."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from arbiter.store.tables import decision, event, price_now, series


def detection_times(connection: Connection) -> dict[str, list[float]]:
    """Kind of a loss -> for each that is kept, within how many seconds it was noticed."""
    query = select(event.c.kind, event.c.within_s).where(event.c.within_s.is_not(None))
    found: dict[str, list[float]] = {}
    for kind, within_s in connection.execute(query):
        found.setdefault(kind, []).append(within_s)
    return found


def count_decisions(connection: Connection) -> dict[str, int]:
    """Service -> how many decisions were journaled for it, ever."""
    query = select(decision.c.service, func.count()).group_by(decision.c.service)
    return {row[0]: row[1] for row in connection.execute(query)}


def standing_prices(connection: Connection) -> Counter[str]:
    """Provider -> how many of its prices stand, whatever its newest poll brought."""
    query = (
        select(series.c.provider, func.count())
        .join(price_now, price_now.c.series_id == series.c.id)
        .group_by(series.c.provider)
    )
    return Counter({row[0]: row[1] for row in connection.execute(query)})
