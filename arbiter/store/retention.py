"""Letting old rows go, as the settings say: a little at a time, and never what is still needed."""

from __future__ import annotations

from sqlalchemy import Connection, select

from arbiter.store.tables import meta

KEPT_SINCE = "prices_kept_since"
"""In `meta`: epoch seconds; price changes that ended before it may have been deleted."""


def kept_since(connection: Connection) -> int:
    """The first instant since which every price change is kept; 0 where none was deleted."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == KEPT_SINCE)).scalar()
    return int(found) if found else 0
