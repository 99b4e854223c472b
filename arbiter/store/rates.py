"""Reference rates in the database: what was published, by whom, and when it was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from arbiter.prices.fx import BASE, CARRIED_DAYS, Rates
from arbiter.store.tables import fx_rate, price_now, series

_AT_ONCE = 5_000


class Published(NamedTuple):
    """A rate: millionths of the currency for one unit of the base, on a day."""

    currency: str
    day: date
    micros: int


class Held(NamedTuple):
    """What is stored of a currency."""

    currency: str
    days: int
    first: date
    last: date
    micros: int
    source: str


def write_rates(
    connection: Connection, rates: Iterable[Published], source: str, now: datetime
) -> int:
    """Store rates against the euro; one of the same currency and day takes the place of the old.

    Returns how many there were. Writing the same again changes nothing but `imported_at`.
    """
    rows = [
        {
            "base": BASE,
            "currency": one.currency,
            "day": one.day,
            "rate_micros": one.micros,
            "source": source,
            "imported_at": now,
        }
        for one in rates
    ]
    sqlite = connection.dialect.name == "sqlite"
    statement: Any = (sqlite_insert if sqlite else postgresql_insert)(fx_rate)
    newer = {name: statement.excluded[name] for name in ("rate_micros", "source", "imported_at")}
    statement = statement.on_conflict_do_update(
        index_elements=["base", "currency", "day"], set_=newer
    )
    for start in range(0, len(rows), _AT_ONCE):
        connection.execute(statement, rows[start : start + _AT_ONCE])
    return len(rows)


def read_rates(connection: Connection, currencies: Sequence[str], first: date, last: date) -> Rates:
    """The rates that a window of days may need, with those carried into it."""
    rows = connection.execute(
        select(fx_rate.c.currency, fx_rate.c.day, fx_rate.c.rate_micros, fx_rate.c.source)
        .where(fx_rate.c.base == BASE, fx_rate.c.currency.in_(currencies))
        .where(fx_rate.c.day <= last)
        .where(fx_rate.c.day >= date.fromordinal(first.toordinal() - CARRIED_DAYS))
        .order_by(fx_rate.c.currency, fx_rate.c.day)
    ).all()
    found = {
        currency: [(row[1], row[2]) for row in group]
        for currency, group in groupby(rows, key=lambda row: str(row[0]))
    }
    return Rates(found, ", ".join(sorted({row[3] for row in rows})))


def held(connection: Connection) -> list[Held]:
    """What is stored, by currency, with each one's newest rate."""
    newest = (
        select(
            fx_rate.c.currency,
            func.count().label("days"),
            func.min(fx_rate.c.day).label("first"),
            func.max(fx_rate.c.day).label("last"),
        )
        .where(fx_rate.c.base == BASE)
        .group_by(fx_rate.c.currency)
        .subquery()
    )
    rows = connection.execute(
        select(newest, fx_rate.c.rate_micros, fx_rate.c.source)
        .join(
            fx_rate,
            (fx_rate.c.base == BASE)
            & (fx_rate.c.currency == newest.c.currency)
            & (fx_rate.c.day == newest.c.last),
        )
        .order_by(newest.c.currency)
    )
    return [Held(*row) for row in rows]


def currencies_standing(connection: Connection) -> set[str]:
    """The currencies of the prices that stand now."""
    found = select(series.c.currency).join(price_now, price_now.c.series_id == series.c.id)
    return set(connection.scalars(found.distinct()))
