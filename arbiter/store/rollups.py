"""`price_day`: a row per series and UTC day, built from the change rows and never the other way.

A day is built once it is over and its region was seen after it. Whoever writes into the past calls
`forget`; what was forgotten is built again. Readers ask `daily`, which takes what is built and
computes the rest, so that an answer never depends on how far the rollup has come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, insert

from arbiter.store import asked_prices
from arbiter.store.lines import Ids, Line, Lines, Part, lines
from arbiter.store.remembered import last_seen
from arbiter.store.tables import price_day

if TYPE_CHECKING:
    from arbiter.prices.steps import Ints
    from arbiter.store.engine import Store

DAY_S = 86_400

COLUMNS = (
    "series_id", "day", "seconds", "min_micros", "max_micros", "last_micros", "micros_seconds",
    "changes",
)  # fmt: skip
"""Of the rows of `daily`, as in the table."""

_AT_ONCE = 500  # series whose rows are held in memory together


def roll_up(store: Store, now: datetime, within_s: float = math.inf) -> int:
    """Build what is missing, some series to a transaction, so that no poll waits for all of it.

    Args:
        within_s: seconds after which no further series are begun; the next call goes on.

    Returns:
        How many rows were written.
    """
    began, written = time.monotonic(), 0
    with store.read() as connection:
        seen = last_seen(connection)
        parts = [[one.id for one in some] for _, some in _unbuilt(connection, seen, now)]
    for ids in parts:
        if time.monotonic() - began >= within_s:
            break
        with store.begin() as connection:
            written += build(connection, now, frozenset(ids))
    return written


def build(connection: Connection, now: datetime, among: frozenset[int] | None = None) -> int:
    """Write the days that are over and not there yet; returns how many rows were written.

    Building twice writes nothing the second time. Nobody else writes prices until the end of the
    transaction.

    Args:
        among: ids of the series to build; None is all.
    """
    from arbiter.store.prices import alone  # which forgets days, and so imports this module

    alone(connection)
    written = 0
    seen = last_seen(connection)
    for first_day, some in _unbuilt(connection, seen, now, among):
        untils = {one.id: _until(one, seen, now) for one in some}
        rows = _computed(connection, some, first_day, max(untils.values()), seen, now)
        rows = _whole(rows, untils)
        if len(rows):
            connection.execute(
                insert(price_day), [dict(zip(COLUMNS, row, strict=True)) for row in rows.tolist()]
            )
        written += len(rows)
    return written


def forget(connection: Connection, since: Mapping[int, int]) -> None:
    """Drop the days of series from an instant on: their change rows are not what they were.

    Args:
        since: series id -> epoch seconds of the earliest instant that has changed.
    """
    if since:
        connection.execute(
            delete(price_day).where(
                price_day.c.series_id == bindparam("b_id"), price_day.c.day >= bindparam("b_day")
            ),
            [{"b_id": one, "b_day": instant // DAY_S} for one, instant in since.items()],
        )


def daily(
    connection: Connection, chosen: Sequence[Line], first_day: int, until_day: int, now: datetime
) -> Ints:
    """The days of series, built or not.

    Args:
        chosen: ascending by id.
        first_day, until_day: days since 1970-01-01 UTC, half-open.

    Returns:
        Rows of COLUMNS by series and day. A day on which no price stood has none; of a day that is
        not over, `seconds` counts what has passed and was seen.
    """
    import numpy as np

    ids = Ids(one.id for one in chosen)
    built = asked_prices.built_days(connection, ids, first_day, until_day)
    newest = asked_prices.newest_days(connection)
    seen = last_seen(connection)
    parts = [built]
    unbuilt = [one for one in chosen if newest.get(one.id, -1) + 1 < until_day]
    starts = {one.id: max(first_day, newest.get(one.id, -1) + 1) for one in unbuilt}
    for start, some in _alike(unbuilt, starts):
        parts.append(_computed(connection, some, start, until_day, seen, now))
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _unbuilt(
    connection: Connection,
    seen: Mapping[Part, int],
    now: datetime,
    among: frozenset[int] | None = None,
) -> Iterator[tuple[int, list[Line]]]:
    """Series with days to build, some at a time, and the first day of them."""
    newest = asked_prices.newest_days(connection)
    missing = [
        one
        for one in lines(connection)
        if (among is None or one.id in among)
        and newest.get(one.id, -1) + 1 < _until(one, seen, now)
    ]
    return _alike(missing, {one.id: newest.get(one.id, -1) + 1 for one in missing})


def _alike(missing: Sequence[Line], starts: Mapping[int, int]) -> Iterator[tuple[int, list[Line]]]:
    """Series of the same first day together, since what is read begins there for all of them."""
    ordered = sorted(missing, key=lambda one: (starts[one.id], one.id))
    for start, same in groupby(ordered, key=lambda one: starts[one.id]):
        some = list(same)
        for first in range(0, len(some), _AT_ONCE):
            yield start, some[first : first + _AT_ONCE]


def _until(line: Line, seen: Mapping[Part, int], now: datetime) -> int:
    """The first day that cannot be built yet: what still stands is known until it was seen."""
    present = int(now.timestamp())
    return min(present, seen.get(line.part, present)) // DAY_S


def _whole(rows: Ints, untils: Mapping[int, int]) -> Ints:
    """Only the days of each series that can be built already."""
    import numpy as np

    ids, inverse = np.unique(rows[:, 0], return_inverse=True)
    until = np.asarray([untils[one] for one in ids.tolist()], np.int64)
    return rows[rows[:, 1] < until[inverse]]


def _computed(
    connection: Connection,
    some: Sequence[Line],
    first_day: int,
    until_day: int,
    seen: Mapping[Part, int],
    now: datetime,
) -> Ints:
    """The days of series from their change rows, as COLUMNS."""
    import numpy as np

    from arbiter.prices.steps import changed, split, within
    from arbiter.store.asked_prices import as_steps

    begin, end = first_day * DAY_S, until_day * DAY_S
    ids = Ids(one.id for one in some)
    listed = as_steps(asked_prices.intervals(connection, ids, begin, end), Lines(some), seen, now)
    # One second more at the beginning: a change at midnight is one against the day before.
    steps = within(listed, begin - 1, end)
    if not len(steps):
        return np.empty((0, len(COLUMNS)), np.int64)
    days = np.arange(int(steps.begin.min()) // DAY_S, until_day + 1, dtype=np.int64)
    cut, cell = split(steps, days * DAY_S)
    start = np.flatnonzero(np.diff(cut.line * len(days) + cell, prepend=-1))
    last = np.append(start[1:], len(cut)) - 1
    found = np.column_stack(
        (
            np.asarray(ids, np.int64)[cut.line[start]],
            days[cell[start]],
            np.add.reduceat(cut.seconds, start),
            np.minimum.reduceat(cut.micros, start),
            np.maximum.reduceat(cut.micros, start),
            cut.micros[last],
            np.add.reduceat(cut.micros * cut.seconds, start),
            np.add.reduceat(changed(cut).astype(np.int64), start),
        )
    )
    return found[found[:, 1] >= first_day]
