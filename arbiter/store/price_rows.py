"""The statements with which a poll writes prices, each for all of its rows at once.

SQLite repeats a prepared statement, which costs it microseconds a row. PostgreSQL is sent whole
columns as arrays: one statement, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from arbiter.store.instants import EPOCH_2000

CLOCK_STEP_S = 3600
"""Seconds by which a clock may be set back and still be the same clock. Beyond that, one of the
two was wrong, and the present one is believed for the age of quotes."""


class Closed(NamedTuple):
    """The price of a series that began at `since` ended at `until` (epoch seconds)."""

    until: int
    series_id: int
    since: int


class Opened(NamedTuple):
    """From `since` on the price of a series is another one."""

    series_id: int
    since: int
    micros: int
    priced_at: int | None


def close(connection: Connection, rows: Sequence[Closed]) -> None:
    """Write when standing prices ended."""
    _run(
        connection,
        rows,
        f"UPDATE price_change SET to_2000 = ? - {EPOCH_2000}"  # noqa: S608
        f" WHERE series_id = ? AND from_2000 = ? - {EPOCH_2000}",
        f"UPDATE price_change c SET to_2000 = n.until - {EPOCH_2000}"  # noqa: S608
        " FROM unnest(%s::bigint[], %s::integer[], %s::bigint[]) n(until, id, since)"
        f" WHERE c.series_id = n.id AND c.from_2000 = n.since - {EPOCH_2000}",
    )


def append(connection: Connection, rows: Sequence[Opened]) -> None:
    """Append new prices to the history."""
    _run(
        connection,
        [row[:3] for row in rows],
        "INSERT INTO price_change (series_id, from_2000, price_micros)"  # noqa: S608
        f" VALUES (?, ? - {EPOCH_2000}, ?)",
        "INSERT INTO price_change (series_id, from_2000, price_micros)"  # noqa: S608
        f" SELECT id, since - {EPOCH_2000}, micros"
        " FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) n(id, since, micros)",
    )


def stand(connection: Connection, rows: Sequence[Opened]) -> None:
    """Put new prices in the place of those that stood."""
    update = (
        " ON CONFLICT (series_id) DO UPDATE SET valid_from = excluded.valid_from,"
        " price_micros = excluded.price_micros, priced_at = excluded.priced_at"
    )
    insert = "INSERT INTO price_now (series_id, valid_from, price_micros, priced_at)"
    _run(
        connection,
        rows,
        f"{insert} VALUES (?, ?, ?, ?){update}",
        f"{insert} SELECT * FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])"  # noqa: S608
        f"{update}",
    )


def fall(connection: Connection, series_ids: Sequence[int]) -> None:
    """Note that series are no longer on sale."""
    _run(
        connection,
        [(one,) for one in series_ids],
        "DELETE FROM price_now WHERE series_id = ?",
        "DELETE FROM price_now WHERE series_id = ANY(%s::integer[])",
    )


def see(connection: Connection, rows: Sequence[tuple[str, str, str, int]]) -> None:
    """Note when parts of a provider were seen whole: (provider, region, purchase, epoch seconds).

    A clock that was set back a little does not make them older; an instant far ahead of the clock
    was never seen, and gives way.
    """
    insert = "INSERT INTO coverage (provider, region, purchase, seen_at)"
    update = (
        " ON CONFLICT (provider, region, purchase) DO UPDATE SET seen_at = CASE"
        f" WHEN coverage.seen_at BETWEEN excluded.seen_at AND excluded.seen_at + {CLOCK_STEP_S}"
        " THEN coverage.seen_at ELSE excluded.seen_at END"
    )
    _run(
        connection,
        rows,
        f"{insert} VALUES (?, ?, ?, ?){update}",
        f"{insert} SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]){update}",  # noqa: S608
    )


def _run(
    connection: Connection,
    rows: Sequence[tuple[int | str | None, ...]],
    sqlite: str,
    postgresql: str,
) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(sqlite, list(map(tuple, rows)))
    else:
        connection.exec_driver_sql(postgresql, tuple(map(list, zip(*rows, strict=True))))
