"""Recorded prices on their way into a file: the rows, and what the file says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, or_, select

from arbiter import __version__
from arbiter.money import MICROS
from arbiter.prices.chosen import Market, find_lines
from arbiter.prices.question import Question, Window
from arbiter.store.lines import Line
from arbiter.store.tables import price_change, price_import

_AT_ONCE = 500  # series in one query
_MILLIONTH = Decimal(1).scaleb(-6)


class ExportedRow(NamedTuple):
    """One price and when it stood: the columns of every export, in their order."""

    provider: str
    tier: str
    region: str
    zone: str
    country: str
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    currency: str
    price_hour: Decimal
    price_gpu_hour: Decimal
    valid_from: datetime
    valid_to: datetime | None
    source: str
    is_backfill: bool


HEADER = ExportedRow._fields


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported.

    Attributes:
        rows: how many there are.
        about: what the file says of itself: key -> text.
    """

    market: Market
    lines: Sequence[Line]
    window: Window
    rows: int
    about: Mapping[str, str]

    def __iter__(self) -> Iterator[ExportedRow]:
        """The rows by series and time, read a few series at a time."""
        for part in _parts(self.lines):
            yield from _rows(self.market, part, self.window)


def exported(market: Market, question: Question, query: str) -> Export:
    """What a question chooses, for a file.

    Args:
        query: how it was asked, for the file's own account.

    Raises:
        NothingFound, UnknownName: nothing of it is recorded.
    """
    lines = find_lines(market, question)
    window = question.window
    rows = sum(
        market.connection.execute(
            select(func.count()).select_from(price_change).where(*_inside(part, window))
        ).scalar_one()
        for part in _parts(lines)
    )
    about = {
        "arbiter": __version__,
        "as_of": _iso(int(market.now.timestamp())),
        "query": query,
        "from": _iso(window.begin),
        "to": _iso(window.end),
        "rows": str(rows),
        "series": str(len(lines)),
        "units": (
            "price_hour is per hour for the whole instance and price_gpu_hour per GPU of it, both "
            "in the currency of the row; times are UTC; valid_to is empty while the price stands"
        ),
    }
    if market.simulated:
        about["simulated"] = "prices and servers are not real"
    return Export(market, lines, window, rows, about)


def _rows(market: Market, lines: Sequence[Line], window: Window) -> Iterator[ExportedRow]:
    change, brought = price_change.c, price_import.c
    by_id = {line.id: line for line in lines}
    countries = {
        line.id: market.atlas.place(line.provider, line.region).country or "" for line in lines
    }
    found = market.connection.execute(
        select(
            change.series_id,
            change.valid_from,
            change.valid_to,
            change.price_micros,
            brought.source,
            brought.is_backfill,
        )
        .outerjoin(price_import, brought.id == change.import_id)
        .where(*_inside(lines, window))
        .order_by(change.series_id, change.valid_from)
    )
    for series_id, since, until, micros, source, is_backfill in found.yield_per(10_000):
        line = by_id[series_id]
        price = Decimal(micros) / MICROS
        per_gpu = (price / line.gpu_count).quantize(_MILLIONTH, ROUND_HALF_EVEN)
        yield ExportedRow(
            line.provider,
            line.tier,
            line.region,
            line.zone,
            countries[series_id],
            line.instance_type,
            line.gpu,
            line.gpu_count,
            str(line.purchase),
            line.currency,
            price,
            per_gpu,
            datetime.fromtimestamp(since, UTC),
            None if until is None else datetime.fromtimestamp(until, UTC),
            line.source if source is None else source,
            bool(is_backfill),
        )


def _inside(lines: Sequence[Line], window: Window) -> tuple[ColumnElement[bool], ...]:
    """The prices that stood at some instant of the window."""
    change = price_change.c
    return (
        change.series_id.in_([line.id for line in lines]),
        change.valid_from < window.end,
        or_(change.valid_to.is_(None), change.valid_to > window.begin),
    )


def _parts(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    for start in range(0, len(lines), _AT_ONCE):
        yield lines[start : start + _AT_ONCE]


def _iso(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%dT%H:%M:%SZ}"
