"""Reading prices for questions about them: how the prices of series went.

A window of many series has tens of thousands of rows. To fetch them one by one costs more than all
that is computed from them, so the database hands over whole columns: SQLite as one text each,
PostgreSQL as one string of bytes each. The rest of the SQL is the same on both, or nearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from arbiter.store import driver
from arbiter.store.instants import EPOCH_2000
from arbiter.store.lines import Ids, Lines, Part
from arbiter.store.tables import price_day, series

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.prices.steps import Ints, Steps

OPEN = 1 << 62
"""`valid_to` of a price that still stands, in columns of integers."""

SEEN_S = 3600
"""For how long a price is believed after its region was last polled: the default age of a quote."""

_FEW = 5_000  # series that are named one by one; more are read by scanning what lies between
_NEAR_S = 3 * 86_400  # where PostgreSQL looks first: it reads all that a search leaves of a page
_STANDS = ("c.series_id", "c.valid_from", str(OPEN), "c.price_micros")
_EPOCH = f"CAST({EPOCH_2000} AS BIGINT)"  # as an integer of 4 bytes the sum would end in 2038
_INTERVAL = (
    "c.series_id",
    f"c.from_2000 + {_EPOCH}",
    f"COALESCE(c.to_2000 + {_EPOCH}, {OPEN})",
    "c.price_micros",
)


def known(connection: Connection, column: str) -> list[str]:
    """The values that a column of the series has, in order."""
    values = connection.execute(select(series.c[column]).distinct())
    return sorted(str(value) for value in values.scalars())


def reach(connection: Connection, ids: Ids) -> tuple[int, int] | None:
    """When the first and the newest recorded price of these series began; None without any."""
    first, last = connection.exec_driver_sql(
        "SELECT MIN(c.from_2000), MAX(c.from_2000) FROM price_change c"  # noqa: S608
        f" WHERE {_among('c.series_id', ids)}"
    ).one()
    return None if first is None else (first + EPOCH_2000, last + EPOCH_2000)


def intervals(connection: Connection, ids: Ids, begin: int, end: int) -> Ints:
    """The prices of series in a window, with the one that was carried into it.

    Args:
        ids: of the series, ascending.
        begin, end: epoch seconds, half-open.

    Returns:
        Rows of (series id, from, to, micros), by series and time; the first row of a series may
        begin, and end, before the window. `to` is OPEN where the price still stands.
    """
    carried = _newest_before(connection, ids, begin - 1)
    inside = (
        f"FROM price_change c WHERE {_among('c.series_id', ids)}"
        f" AND c.from_2000 >= {int(begin) - EPOCH_2000} AND c.from_2000 < {int(end) - EPOCH_2000}"
    )
    both = f"FROM (SELECT c.* {carried} UNION ALL SELECT c.* {inside}) c"
    return _ordered(_columns(connection, _INTERVAL, both), ids)


def standing_at(
    connection: Connection, chosen: Lines, seen: Mapping[Part, int], instant: int
) -> Ints:
    """The prices that stood at an instant, as `intervals` has them.

    There may be rows that had ended before it, never one that began after it.

    Args:
        seen: of `last_seen`, read before.
    """
    import numpy as np

    ids = chosen.named
    if any(seen.get(part, 0) > instant for part in chosen.parts[0]):
        rows = _columns(connection, _INTERVAL, _newest_before(connection, ids, instant))
        return _ordered(rows, ids)
    # Nobody has looked since, so most of what stood then stands still; of the rest, which may be
    # known from files alone, the history is asked.
    rows = _columns(connection, _STANDS, f"FROM price_now c WHERE {_among('c.series_id', ids)}")
    rows = _only(rows[rows[:, 1] <= instant], ids)
    if len(rows) < len(ids):
        others = Ids(np.setdiff1d(chosen.ids, rows[:, 0]).tolist())
        stood = _columns(connection, _INTERVAL, _newest_before(connection, others, instant))
        rows = np.concatenate((rows, _only(stood, others)))
    return _ordered(rows, ids)


def as_steps(rows: Ints, chosen: Lines, seen: Mapping[Part, int], now: datetime) -> Steps:
    """The rows of `intervals` as steps; a price that stands reaches as far as it was seen.

    Args:
        chosen: the steps' lines are places in it.
        seen: of `last_seen`; a part of which nothing is known was never polled, and is believed.
    """
    import numpy as np

    from arbiter.prices.steps import Steps

    line = np.searchsorted(chosen.ids, rows[:, 0])
    present = int(now.timestamp())
    parts, part = chosen.parts
    reach = [min(present, seen.get(one, present) + SEEN_S) for one in parts]
    end = np.where(rows[:, 2] == OPEN, np.asarray(reach, np.int64)[part[line]], rows[:, 2])
    return Steps(line.astype(np.int64), rows[:, 1], np.maximum(end, rows[:, 1]), rows[:, 3])


def newest_days(connection: Connection) -> dict[int, int]:
    """Series id -> the newest day that is built in `price_day`, for the series that have one."""
    day = "(SELECT MAX(d.day) FROM price_day d WHERE d.series_id = s.id)"
    rows = _columns(connection, ("s.id", f"COALESCE({day}, -1)"), "FROM series s")
    return {one: newest for one, newest in rows.tolist() if newest >= 0}


def built_days(connection: Connection, ids: Ids, first_day: int, until_day: int) -> Ints:
    """The rows of `price_day` of series within days, in the order of the table's columns."""
    rows = _columns(
        connection,
        [f"c.{column.name}" for column in price_day.c],
        f"FROM price_day c WHERE {_among('c.series_id', ids)}"
        f" AND c.day >= {int(first_day)} AND c.day < {int(until_day)}",
    )
    return _only(rows, ids)


def _newest_before(connection: Connection, ids: Ids, instant: int) -> str:
    """One search in the index for each series, however long its history is."""
    until = int(instant) - EPOCH_2000
    before = f"p.series_id = s.id AND p.from_2000 <= {until}"
    if connection.dialect.name == "postgresql":
        near = f"p.series_id = s.id AND p.from_2000 BETWEEN {until - _NEAR_S} AND {until}"
        # The second part of the union is asked only where the first one is empty.
        newest = "(SELECT * FROM price_change p WHERE {} ORDER BY p.from_2000 DESC LIMIT 1)"
        return (
            f"FROM {_numbers(ids)} s(id) CROSS JOIN LATERAL"
            f" ({newest.format(near)} UNION ALL {newest.format(before)} LIMIT 1) c"
        )
    # CROSS JOIN: SQLite would else go through the whole history to find its series.
    return (
        f"FROM series s CROSS JOIN price_change c"  # noqa: S608
        f" WHERE {_among('s.id', ids)} AND c.series_id = s.id"
        f" AND c.from_2000 = (SELECT MAX(p.from_2000) FROM price_change p WHERE {before})"
    )


def _numbers(ids: Ids) -> str:
    """Series as rows, in PostgreSQL's SQL."""
    if ids and len(ids) == ids[-1] - ids[0] + 1:
        return f"generate_series({int(ids[0])}, {int(ids[-1])})"
    return f"unnest('{{{ids.listed}}}'::integer[])"


def _among(column: str, ids: Ids) -> str:
    """Series as a condition of SQL: integers of ours, never a user's text."""
    if not ids:
        return "1 = 0"
    if len(ids) > _FEW:
        return f"{column} BETWEEN {int(ids[0])} AND {int(ids[-1])}"
    return f"{column} IN ({ids.listed})"


def _ordered(rows: Ints, ids: Ids) -> Ints:
    """By series and time, which they nearly are already: a stable sort is quick on that."""
    import numpy as np

    rows = _only(rows, ids)
    return rows[np.argsort((rows[:, 0] << 40) | rows[:, 1], kind="stable")]


def _only(rows: Ints, ids: Ids) -> Ints:
    """Where series were not named one by one, those between them are left out here."""
    import numpy as np

    if len(ids) <= _FEW or len(ids) == ids[-1] - ids[0] + 1:
        return rows
    return rows[np.isin(rows[:, 0], np.asarray(ids, np.int64))]


def _columns(connection: Connection, expressions: Sequence[str], rest: str) -> Ints:
    """The rows of a query whose expressions are all integers and never NULL."""
    import numpy as np

    if connection.dialect.name == "postgresql":
        # Big-endian integers of 8 bytes, one after the other.
        sent = ", ".join(f"string_agg(int8send(({one})::bigint), ''::bytea)" for one in expressions)
        found = driver.row(connection, f"SELECT {sent} {rest}")
        columns = [np.frombuffer(one or b"", ">i8") for one in found]
    else:
        texts = ", ".join(f"group_concat({one})" for one in expressions)
        found = driver.row(connection, f"SELECT {texts} {rest}")
        columns = [np.fromstring(one or "", np.int64, sep=",") for one in found]
    return np.column_stack(columns).astype(np.int64, copy=False)
