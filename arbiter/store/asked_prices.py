"""Reading prices for questions about them: which series there are, and how their prices went.

Rows come as columns of integers, since a window of many series has tens of thousands of them.
SQL here is the same on both databases, but for how integers are fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, and_, select

from arbiter.domain import Purchase
from arbiter.store.tables import coverage, price_day, price_now, series

if TYPE_CHECKING:
    from datetime import datetime

    from arbiter.prices.steps import Ints, Steps

OPEN = 1 << 62
"""`valid_to` of a price that still stands, in columns of integers."""

SEEN_S = 3600
"""For how long a price is believed after its region was last polled: the default age of a quote."""

_FEW = 5_000  # series that are named one by one; more are read by scanning what lies between


class Line(NamedTuple):
    """A series: one thing on sale, whose price is a step function.

    Attributes:
        zone: "" where the price holds for the whole region.
        seen_at: when the region was last polled whole, epoch seconds; None where the price does
            not stand, or no poll of ours ever saw it.
    """

    id: int
    provider: str
    tier: str
    region: str
    zone: str
    instance_type: str
    purchase: Purchase
    currency: str
    gpu: str
    gpu_count: int
    source: str
    seen_at: int | None


def lines(
    connection: Connection,
    *,
    gpu: str | None = None,
    purchase: Purchase | None = None,
    providers: Sequence[str] = (),
    regions: Sequence[str] = (),
    tiers: Sequence[str] = (),
    instance_types: Sequence[str] = (),
) -> list[Line]:
    """The series that pass the filters, by id; an empty filter lets everything pass."""
    seen = and_(
        price_now.c.series_id.is_not(None),
        coverage.c.provider == series.c.provider,
        coverage.c.region == series.c.region,
        coverage.c.purchase == series.c.purchase,
    )
    statement = (
        select(*(column for column in series.c), coverage.c.seen_at)
        .outerjoin(price_now, price_now.c.series_id == series.c.id)
        .outerjoin(coverage, seen)
        .order_by(series.c.id)
    )
    if gpu is not None:
        statement = statement.where(series.c.gpu == gpu)
    if purchase is not None:
        statement = statement.where(series.c.purchase == purchase.value)
    for column, wanted in (
        (series.c.provider, providers),
        (series.c.region, regions),
        (series.c.tier, tiers),
        (series.c.instance_type, instance_types),
    ):
        if wanted:
            statement = statement.where(column.in_(wanted))
    purchases = {one.value: one for one in Purchase}
    return [
        Line._make((*row[:6], purchases[row[6]], *row[7:])) for row in connection.execute(statement)
    ]


def known(connection: Connection, column: str) -> list[str]:
    """The values that a column of the series has, in order."""
    values = connection.execute(select(series.c[column]).distinct())
    return sorted(str(value) for value in values.scalars())


def newest_days(connection: Connection) -> dict[int, int]:
    """Series id -> the newest day that is built in `price_day`, for the series that have one."""
    rows = _integers(
        connection,
        "SELECT s.id, COALESCE((SELECT MAX(d.day) FROM price_day d WHERE d.series_id = s.id), -1)"
        " FROM series s",
        2,
    )
    return {one: day for one, day in rows.tolist() if day >= 0}


def built_days(connection: Connection, ids: Sequence[int], first_day: int, until_day: int) -> Ints:
    """The rows of `price_day` of series within days, in the order of the table's columns."""
    _without_jit(connection)
    columns = ", ".join(column.name for column in price_day.c)
    rows = _integers(
        connection,
        f"SELECT {columns} FROM price_day WHERE {_among('series_id', ids)}"  # noqa: S608
        f" AND day >= {int(first_day)} AND day < {int(until_day)}",
        len(price_day.c),
    )
    return _only(rows, ids)


def as_steps(rows: Ints, chosen: Sequence[Line], now: datetime) -> Steps:
    """The rows of `intervals` as steps; a price that stands reaches as far as it was seen.

    Args:
        chosen: ascending by id; the steps' lines are places in it.
    """
    import numpy as np

    from arbiter.prices.steps import Steps

    line = np.searchsorted(np.asarray([one.id for one in chosen], np.int64), rows[:, 0])
    present = int(now.timestamp())
    believed = np.asarray(
        [present if one.seen_at is None else min(present, one.seen_at + SEEN_S) for one in chosen],
        np.int64,
    )
    end = np.where(rows[:, 2] == OPEN, believed[line], rows[:, 2])
    return Steps(line.astype(np.int64), rows[:, 1], np.maximum(end, rows[:, 1]), rows[:, 3])


def reach(connection: Connection, ids: Sequence[int]) -> tuple[int, int] | None:
    """When the first and the newest recorded price of these series began; None without any."""
    first, last = connection.exec_driver_sql(
        "SELECT MIN(c.valid_from), MAX(c.valid_from) FROM price_change c"  # noqa: S608
        f" WHERE {_among('c.series_id', ids)}"
    ).one()
    return None if first is None else (first, last)


def intervals(connection: Connection, ids: Sequence[int], begin: int, end: int) -> Ints:
    """The prices of series in a window, with the one that was carried into it.

    Args:
        ids: of the series, ascending.
        begin, end: epoch seconds, half-open.

    Returns:
        Rows of (series id, from, to, micros), by series and time; the first row of a series may
        begin, and end, before the window. `to` is OPEN where the price still stands.
    """
    import numpy as np

    _without_jit(connection)
    columns = f"c.series_id, c.valid_from, COALESCE(c.valid_to, {OPEN}), c.price_micros"
    carried = _integers(connection, _carried(columns, ids, begin - 1), 4)
    inside = _integers(
        connection,
        f"SELECT {columns} FROM price_change c WHERE {_among('c.series_id', ids)}"  # noqa: S608
        f" AND c.valid_from >= {int(begin)} AND c.valid_from < {int(end)}",
        4,
    )
    return _ordered(np.concatenate((carried, inside)), ids)


def standing_at(connection: Connection, ids: Sequence[int], instant: int) -> Ints:
    """The newest price of each series that began at or before an instant, as `intervals` has it.

    It may have ended before the instant.
    """
    _without_jit(connection)
    columns = f"c.series_id, c.valid_from, COALESCE(c.valid_to, {OPEN}), c.price_micros"
    rows = _integers(connection, _carried(columns, ids, instant), 4)
    return _ordered(rows, ids)


def _carried(columns: str, ids: Sequence[int], instant: int) -> str:
    """One search in the index for each series, however long its history is."""
    newest = (
        "SELECT MAX(p.valid_from) FROM price_change p"  # noqa: S608
        f" WHERE p.series_id = s.id AND p.valid_from <= {int(instant)}"
    )
    return (
        f"SELECT {columns} FROM series s JOIN price_change c"  # noqa: S608
        f" ON c.series_id = s.id AND c.valid_from = ({newest}) WHERE {_among('s.id', ids)}"
    )


def _among(column: str, ids: Sequence[int]) -> str:
    """Series as a condition of SQL: integers of ours, never a user's text."""
    if not ids:
        return "1 = 0"
    if len(ids) > _FEW:
        return f"{column} BETWEEN {int(ids[0])} AND {int(ids[-1])}"
    return f"{column} IN ({','.join(str(int(one)) for one in ids)})"


def _ordered(rows: Ints, ids: Sequence[int]) -> Ints:
    import numpy as np

    rows = _only(rows, ids)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _only(rows: Ints, ids: Sequence[int]) -> Ints:
    """Where series were not named one by one, those between them are left out here."""
    import numpy as np

    if len(ids) <= _FEW or len(ids) == ids[-1] - ids[0] + 1:
        return rows
    return rows[np.isin(rows[:, 0], np.asarray(ids, np.int64))]


def _without_jit(connection: Connection) -> None:
    """PostgreSQL would compile these queries for longer than they run."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL jit = off")


def _integers(connection: Connection, sql: str, width: int) -> Ints:
    """The rows of a query whose columns are all integers and never NULL."""
    if connection.dialect.name == "postgresql":
        return _copied(connection, sql, width)
    import numpy as np

    cursor: Any = connection.exec_driver_sql(sql).cursor
    values: Iterable[int] = chain.from_iterable(cursor.fetchall())
    return np.fromiter(values, np.int64).reshape(-1, width)


_HEADER = 19  # bytes before the first row of PostgreSQL's binary COPY
_TRAILER = 2  # and after the last one


def _copied(connection: Connection, sql: str, width: int) -> Ints:
    """As bytes of PostgreSQL's binary COPY, which numpy reads without making an object a value.

    The format: each row has its number of fields (16 bits), and each field its length (32 bits)
    and its value, here always a bigint, all of it in network byte order.
    """
    import numpy as np

    fields = [
        kind for number in range(width) for kind in ((f"n{number}", ">i4"), (f"v{number}", ">i8"))
    ]
    names = ", ".join(f"r.v{number}::bigint" for number in range(width))
    labels = ", ".join(f"v{number}" for number in range(width))
    driver: Any = connection.connection.driver_connection
    with (
        driver.cursor() as cursor,
        cursor.copy(
            f"COPY (SELECT {names} FROM ({sql}) r({labels})) TO STDOUT (FORMAT BINARY)"  # noqa: S608
        ) as copy,
    ):
        body = b"".join(copy)
    rows = np.frombuffer(
        body, np.dtype([("fields", ">i2"), *fields]), offset=_HEADER,
        count=(len(body) - _HEADER - _TRAILER) // (2 + 12 * width),
    )  # fmt: skip
    return np.column_stack([rows[f"v{number}"].astype(np.int64) for number in range(width)])
