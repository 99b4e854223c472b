"""The statements with which a poll writes prices, each for all of its rows at once.

SQLite repeats a prepared statement, which costs it microseconds a row. PostgreSQL is sent whole
columns as arrays: one statement, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from arbiter.store.instants import EPOCH_2000

_Values = tuple[int | str | None, ...]

CLOCK_STEP_S = 3600
"""Seconds by which a clock may be set back and still be the same clock. Beyond that, one of the
two was wrong, and the present one is believed for the age of quotes."""


class Closed(NamedTuple):
    """The price of a series that began at `since` ended at `until` (epoch seconds)."""

    until: int
    series_id: int
    since: int


class Opened(NamedTuple):
    """From `since` on the price of a series is another one.

    Attributes:
        before: since when the price stood that ends at `since`; None where none stood.
    """

    series_id: int
    since: int
    micros: int
    priced_at: int | None
    before: int | None


def change(connection: Connection, rows: Sequence[Opened]) -> None:
    """Append new prices to the history, end those that they replace, and let them stand."""
    if connection.dialect.name == "postgresql":
        _at_once(connection, rows, _CHANGE)
        return
    replaced = ((row.series_id, row.since, row.before) for row in rows)
    close(
        connection,
        [Closed(since, one, before) for one, since, before in replaced if before is not None],
    )
    _one_by_one(connection, [row[:3] for row in rows], _APPEND)
    _one_by_one(connection, [row[:4] for row in rows], _STAND)


_APPEND = f"""
INSERT INTO price_change (series_id, from_2000, price_micros) VALUES (?, ? - {EPOCH_2000}, ?)
"""  # noqa: S608
_ANEW = """
ON CONFLICT (series_id) DO UPDATE SET valid_from = excluded.valid_from,
price_micros = excluded.price_micros, priced_at = excluded.priced_at
"""
_STAND = f"""
INSERT INTO price_now (series_id, valid_from, price_micros, priced_at) VALUES (?, ?, ?, ?) {_ANEW}
"""  # noqa: S608
# What stood is updated, since to insert it and to find that it is there costs more.
_CHANGE = f"""
WITH n AS MATERIALIZED (
  SELECT id, since, (since - {EPOCH_2000})::integer AS since_2000, micros, priced_at,
         (before - {EPOCH_2000})::integer AS before_2000
  FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
       n(id, since, micros, priced_at, before)
), closed AS (
  UPDATE price_change c SET to_2000 = n.since_2000
  FROM n WHERE c.series_id = n.id AND c.from_2000 = n.before_2000
), opened AS (
  INSERT INTO price_change (series_id, from_2000, price_micros)
  SELECT id, since_2000, micros FROM n
), replaced AS (
  UPDATE price_now p
  SET valid_from = n.since, price_micros = n.micros, priced_at = n.priced_at
  FROM n WHERE p.series_id = n.id AND n.before_2000 IS NOT NULL
)
INSERT INTO price_now (series_id, valid_from, price_micros, priced_at)
SELECT id, since, micros, priced_at FROM n WHERE before_2000 IS NULL {_ANEW}
"""  # noqa: S608


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
    rows: Sequence[_Values],
    sqlite: str,
    postgresql: str,
) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        _one_by_one(connection, rows, sqlite)
    else:
        _at_once(connection, rows, postgresql)


def _one_by_one(connection: Connection, rows: Sequence[_Values], sqlite: str) -> None:
    connection.exec_driver_sql(sqlite, list(map(tuple, rows)))


def _at_once(connection: Connection, rows: Sequence[_Values], postgresql: str) -> None:
    connection.exec_driver_sql(postgresql, tuple(map(_array, zip(*rows, strict=True))))


def _array(column: Sequence[int | str | None]) -> str | list[int | str | None]:
    """A column as PostgreSQL writes an array: psycopg looks at each number, which takes longer."""
    if any(isinstance(value, str) for value in column):
        return list(column)
    values = ",".join("NULL" if value is None else str(value) for value in column)
    return f"{{{values}}}"
