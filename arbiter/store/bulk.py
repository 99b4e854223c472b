"""Writing many past prices at once, beside what is recorded already.

What arbiter watched itself is never touched: from the first to the last instant of a series' own
observations nothing is added, for a gap in them says that it was not on sale. Around that, what an
earlier import wrote stays as it is. So the same rows may be written any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select

from arbiter.store import rollups
from arbiter.store.instants import EPOCH_2000, LAST_2000
from arbiter.store.prices import alone
from arbiter.store.retention import kept_since
from arbiter.store.spool import LAST_SECOND, TIME_BITS, Ints, Origin, PastPrices, SeriesFacts
from arbiter.store.stretches import Stretches, fitted, stretches, tidied
from arbiter.store.tables import price_change, price_import, series

_AT_ONCE = 10_000  # values in one IN list


@dataclass(frozen=True, slots=True)
class Written:
    """What an import came to.

    Attributes:
        brought: rows that it had.
        rows: stretches that were written.
        new_series: series that were not known before.
        since, until: epoch seconds that the written stretches span, or None without any.
        series_ids: the series in which something was written.
        too_old: stretches that were left out, for all of them ended before `kept_since`.
        kept_since: epoch seconds; changes of prices from before are not kept. 0 is for ever.
    """

    brought: int
    rows: int = 0
    new_series: int = 0
    since: int | None = None
    until: int | None = None
    series_ids: frozenset[int] = field(default=frozenset(), repr=False)
    too_old: int = 0
    kept_since: int = 0


Told = Callable[[int], None]
"""Called with the number of rows that were looked at since the last call."""


def write(
    connection: Connection,
    past: PastPrices,
    at: datetime,
    *,
    open_until: int | None = None,
    told: Told | None = None,
) -> Written:
    """Write past prices in the caller's transaction; all of it is seen at once, or nothing.

    No price that stands now is written or changed. Other writers of prices wait until the
    transaction ends.

    Args:
        past: what was collected.
        at: the present instant; nothing is written beyond it.
        open_until: epoch seconds at which the last row of a series ends that has no end; None is
            the second after the latest instant in `past`.
    """
    if past.latest is None:
        return Written(0)
    alone(connection)
    if open_until is None:
        open_until = past.latest + 1
    writer = _Writer(connection, past)
    for chunk in tidied(past.chunks(), open_until, int(at.timestamp())):
        writer.write(chunk)
        if told is not None:
            told(chunk.rows)
    return writer.end(at)


class _Writer:
    """One import in its transaction."""

    def __init__(self, connection: Connection, past: PastPrices) -> None:
        self._connection, self._past = connection, past
        self._first_id = _following(connection, series.c.id)
        self._next_id = self._first_id
        known = _series_ids(connection, past.series)
        self._ids = np.array([known.get(facts[:7], 0) for facts in past.series], np.int64)
        self._first_import = _following(connection, price_import.c.id)
        self._origins = _stored_origins(connection, past.origins)
        self._lost_before = kept_since(connection)
        self._too_old = 0
        self._watched: dict[int, tuple[int, int]] = {}  # by series id; places on the axis
        self._asked: set[int] = set()
        self._rows = np.zeros(len(past.origins), np.int64)
        self._touched: dict[int, int] = {}  # series id -> the earliest instant written
        self._since, self._until = LAST_SECOND, 0

    def write(self, chunk: Stretches) -> None:
        """Write stretches; their series are numbers of what was collected."""
        whole = chunk.rows
        chunk = _from(self._lost_before, chunk)
        self._too_old += whole - chunk.rows
        if not chunk.rows:
            return
        self._name(np.unique(chunk.series))
        placed = _moved(chunk, self._ids[chunk.series])
        old = placed.series < self._first_id
        self._insert(placed.where(~old))
        if old.any():
            self._insert_beside(stretches(*placed.where(old)))

    def end(self, at: datetime) -> Written:
        """Leave the account of what was written."""
        accounts = [
            {
                "id": self._first_import + number,
                "at": at,
                "source": origin.source,
                "is_backfill": origin.is_backfill,
                "rows": int(self._rows[number]),
            }
            for number, origin in enumerate(self._past.origins)
            if self._rows[number]
        ]
        if not accounts:
            return Written(self._past.rows, too_old=self._too_old, kept_since=self._lost_before)
        self._connection.execute(insert(price_import), accounts)
        old = {one: since for one, since in self._touched.items() if one < self._first_id}
        rollups.forget(self._connection, old)
        return Written(
            self._past.rows,
            int(self._rows.sum()),
            self._next_id - self._first_id,
            self._since,
            self._until,
            frozenset(self._touched),
            self._too_old,
            self._lost_before,
        )

    def _touch(self, ids: Ints, since: Ints) -> None:
        # Each series' rows stand together, in the order of time.
        first = np.flatnonzero(np.diff(ids, prepend=-1))
        for series_id, instant in zip(ids[first].tolist(), since[first].tolist(), strict=True):
            self._touched[series_id] = min(instant, self._touched.get(series_id, instant))

    def _insert(self, rows: Stretches) -> None:
        if not rows.rows:
            return
        columns = (
            rows.series,
            rows.since - EPOCH_2000,
            rows.until - EPOCH_2000,
            rows.micros,
            rows.origin + self._first_import,
        )
        if self._connection.dialect.name == "postgresql":
            _copy(self._connection, columns)
        else:
            _insert_many(self._connection, columns)
        self._rows += np.bincount(rows.origin, minlength=len(self._rows))
        self._touch(rows.series, rows.since)
        self._since = min(self._since, int(rows.since.min()))
        self._until = max(self._until, int(rows.until.max()))

    def _insert_beside(self, new: Stretches) -> None:
        """Insert what has a place beside that which is stored; all are series of before."""
        ids = np.unique(new.series).tolist()
        self._watch(ids)
        stored = self._stored(ids, int(new.since.min()), int(new.until.max()))
        watched = [span for one in ids if (span := self._watched.get(one))]
        spans = np.array(watched, np.int64).reshape(-1, 2)
        left = fitted(new, stored, (spans[:, 0], spans[:, 1]))
        if len(left.absorbed):
            places = zip(
                (left.absorbed >> TIME_BITS).tolist(),
                (left.absorbed & LAST_SECOND).tolist(),
                strict=True,
            )
            self._connection.execute(
                delete(price_change).where(
                    price_change.c.series_id == bindparam("b_id"),
                    price_change.c.valid_from == bindparam("b_from"),
                ),
                [{"b_id": series_id, "b_from": since} for series_id, since in places],
            )
        self._insert(left.added)

    def _name(self, numbers: Ints) -> None:
        """Give an id to every series that has none yet."""
        new = numbers[self._ids[numbers] == 0].tolist()
        if not new:
            return
        rows = []
        for number in new:
            self._ids[number] = self._next_id
            rows.append({"id": self._next_id, **self._past.series[number]._asdict()})
            self._next_id += 1
        self._connection.execute(insert(series), rows)

    def _watch(self, ids: Sequence[int]) -> None:
        """Read from when to when arbiter itself watched these series."""
        new = [one for one in ids if one not in self._asked]
        self._asked.update(new)
        change = price_change.c
        for part in _parts(new):
            rows = self._connection.execute(
                select(
                    change.series_id,
                    func.min(change.valid_from),
                    func.max(func.coalesce(change.valid_to, LAST_2000)),
                )
                .where(change.series_id.in_(part), change.import_id.is_(None))
                .group_by(change.series_id)
            )
            for series_id, since, until in rows:
                place = series_id << TIME_BITS
                self._watched[series_id] = (place | since, place | until)

    def _stored(self, ids: Sequence[int], since: int, until: int) -> Stretches:
        """What imports wrote for these series, where it overlaps or touches a span."""
        change = price_change.c
        found: list[Any] = []
        for part in _parts(ids):
            found += self._connection.execute(
                select(
                    change.series_id,
                    change.valid_from,
                    change.valid_to,
                    change.price_micros,
                    change.import_id,
                ).where(
                    change.series_id.in_(part),
                    change.import_id.is_not(None),
                    and_(change.valid_from <= until, change.valid_to >= since),
                )
            ).all()
        columns = np.array([tuple(row) for row in found], np.int64).reshape(-1, 5).T
        series_id, begin, end, micros, import_id = columns
        place = series_id << TIME_BITS
        return stretches(place | begin, place | end, micros, self._origins_of(import_id))

    def _origins_of(self, import_ids: Ints) -> Ints:
        """Numbers of our origins; below 0 where an import's is none of them."""
        known, which = np.unique(import_ids, return_inverse=True)
        ours = [self._origin_of(one) for one in known.tolist()]
        return np.array(ours, np.int64)[which] if ours else np.empty(0, np.int64)

    def _origin_of(self, import_id: int) -> int:
        if import_id >= self._first_import:
            return import_id - self._first_import
        return self._origins.get(import_id, -import_id)


def _from(instant: int, chunk: Stretches) -> Stretches:
    """What of the stretches lies at or after an instant."""
    if not instant:
        return chunk
    begin = np.maximum(chunk.begin, chunk.series << TIME_BITS | instant)
    return chunk._replace(begin=begin).where(begin < chunk.end)


def _moved(chunk: Stretches, ids: Ints) -> Stretches:
    """The stretches under other numbers of their series."""
    place = ids << TIME_BITS
    return chunk._replace(begin=place | chunk.since, end=place | chunk.until)


# --- each database's quickest way -----------------------------------------------------------------

_COLUMNS = "(series_id, from_2000, to_2000, price_micros, import_id)"
_ROW = "(?, ?, ?, ?, ?)"
_IN_ONE = 100  # rows that one statement inserts: to run it costs as much as to insert two of them
_COPY = f"COPY price_change {_COLUMNS} FROM STDIN (FORMAT BINARY)"


def _insert_many(connection: Connection, columns: Sequence[Ints]) -> None:
    rows = np.column_stack(columns)
    whole = len(rows) // _IN_ONE * _IN_ONE
    for part, in_one in ((rows[:whole], _IN_ONE), (rows[whole:], 1)):
        if len(part):
            values = part.reshape(-1, in_one * len(columns)).tolist()
            several = ", ".join([_ROW] * in_one)
            statement = f"INSERT INTO price_change {_COLUMNS} VALUES {several}"  # noqa: S608
            connection.exec_driver_sql(statement, list(map(tuple, values)))


# PostgreSQL's binary COPY: a signature with flags and the length of an extension; for each row the
# number of its fields, and for each field its length and its bytes, big-endian.
# https://www.postgresql.org/docs/current/sql-copy.html
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIELDS = (">i4", ">i4", ">i4", ">i8", ">i4")
_TUPLE = np.dtype(
    [("fields", ">i2")]
    + [part for at, kind in enumerate(_FIELDS) for part in ((f"l{at}", ">i4"), (f"v{at}", kind))]
)
_SENT = 20_000  # rows in one message, so that the server begins while the next are laid out


def _copy(connection: Connection, columns: Sequence[Ints]) -> None:
    driver: Any = connection.connection.driver_connection
    with (
        closing(driver.cursor()) as cursor,
        cursor.copy(_COPY) as copy,
    ):
        copy.write(_SIGNATURE)
        for start in range(0, len(columns[0]), _SENT):
            copy.write(_tuples([column[start : start + _SENT] for column in columns]))
        copy.write(_TRAILER)


def _tuples(columns: Sequence[Ints]) -> bytes:
    rows = np.empty(len(columns[0]), _TUPLE)
    rows["fields"] = len(columns)
    for at, column in enumerate(columns):
        rows[f"l{at}"] = _TUPLE[f"v{at}"].itemsize
        rows[f"v{at}"] = column
    return rows.tobytes()


def _series_ids(
    connection: Connection, wanted: Sequence[SeriesFacts]
) -> Mapping[tuple[Any, ...], int]:
    columns = (
        series.c.provider,
        series.c.tier,
        series.c.region,
        series.c.zone,
        series.c.instance_type,
        series.c.purchase,
        series.c.currency,
        series.c.id,
    )
    providers = sorted({facts.provider for facts in wanted})
    found: dict[tuple[Any, ...], int] = {}
    for part in _parts(providers):
        rows = connection.execute(select(*columns).where(series.c.provider.in_(part)))
        found.update((tuple(row[:7]), row[7]) for row in rows)
    return found


def _stored_origins(connection: Connection, ours: Sequence[Origin]) -> dict[int, int]:
    """Imports of before whose origin is one of ours: import id -> number of the origin."""
    numbers = {origin: number for number, origin in enumerate(ours)}
    rows = connection.execute(
        select(price_import.c.id, price_import.c.source, price_import.c.is_backfill)
    )
    origins = ((row[0], Origin(row[1], bool(row[2]))) for row in rows)
    return {number: numbers[origin] for number, origin in origins if origin in numbers}


def _following(connection: Connection, column: Any) -> int:
    return (connection.execute(select(func.max(column))).scalar() or 0) + 1


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
