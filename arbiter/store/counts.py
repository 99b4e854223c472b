"""How much is in the journal, for /metrics."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from arbiter.store.tables import decision


def count_decisions(connection: Connection) -> dict[str, int]:
    """Service -> how many decisions were journaled for it, ever."""
    query = select(decision.c.service, func.count()).group_by(decision.c.service)
    return {row[0]: row[1] for row in connection.execute(query)}
