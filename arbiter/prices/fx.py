"""Reference rates: what a price in one currency is in another, by the rate of its day.

Rates are quoted as the European Central Bank does: units of a currency for one euro. A rate holds
for the whole UTC day of its date and for the days after it on which none was published, up to
`CARRIED_DAYS`. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from arbiter.errors import ArbiterError
from arbiter.money import MICROS

if TYPE_CHECKING:
    from arbiter.prices.steps import Ints, Steps

BASE = "EUR"

CARRIED_DAYS = 7
"""Days for which a rate is carried on: over Easter and the turn of the year it is five."""

DAY_S = 86_400
EPOCH = date(1970, 1, 1)

LOAD = "arbiter prices rates --fetch"


class NoRate(ArbiterError):
    """A price cannot be said in the currency that was asked for."""


@dataclass(frozen=True, slots=True)
class Used:
    """Which rates went into an answer.

    Attributes:
        currencies: those converted from.
        first_day, last_day: dates of the oldest and the newest rate used.
    """

    source: str
    currencies: tuple[str, ...]
    to: str
    first_day: date
    last_day: date


class Rates:
    """The rates of some currencies.

    Args:
        rates: currency -> (day, millionths of it for one unit of the base), ascending by day.
        source: whose rates they are.
    """

    def __init__(self, rates: Mapping[str, Sequence[tuple[date, int]]], source: str = "") -> None:
        self.source = source
        self._days = {name: [day for day, _ in rows] for name, rows in rates.items()}
        self._micros = {name: [micros for _, micros in rows] for name, rows in rates.items()}

    def on(self, currency: str, day: date) -> tuple[date, int]:
        """The date and the millionths of the rate that holds on a day.

        Raises:
            NoRate: none is known, or the newest before the day is too old.
        """
        if currency == BASE:
            return day, MICROS
        days = self._days.get(currency)
        if not days:
            raise NoRate(f"no reference rate of {currency} is stored", f"run: {LOAD}")
        place = bisect_right(days, day) - 1
        if place < 0:
            raise NoRate(
                f"no reference rate of {currency} is stored for {day}, the first is of {days[0]}",
                f"run: {LOAD}",
            )
        if day - days[place] > timedelta(days=CARRIED_DAYS):
            raise NoRate(
                f"no reference rate of {currency} is stored for {day}, "
                f"the newest before it is of {days[place]}",
                f"run: {LOAD}",
            )
        return days[place], self._micros[currency][place]


def converted(
    steps: Steps, currencies: Sequence[str], counts: Sequence[int], to: str, rates: Rates
) -> tuple[Steps, Used | None]:
    """The prices divided by a count each, in one currency.

    Rounding happens once, half-even, to a millionth of the currency asked for.

    Args:
        currencies: of each line.
        counts: of each line, what its price is divided by (GPUs, or 1).
        to: the currency asked for.

    Returns:
        The steps, cut at the midnights (UTC) at which a rate changed; and the rates, if any.

    Raises:
        NoRate: a rate is missing.
    """
    import numpy as np

    from arbiter.prices.steps import divided_all, split

    count = np.asarray(counts, np.int64)
    foreign = np.asarray([currency != to for currency in currencies], np.bool_)
    if not len(steps) or not foreign[steps.line].any():
        return shared(steps, count), None
    table = _Table(steps, sorted(set(currencies) - {to}), to, rates)
    cut, cell = split(steps, table.bounds)
    row = np.asarray([table.row_of(currency) for currency in currencies], np.int64)[cut.line]
    numerator = cut.micros * table.into[row, cell]
    denominator = count[cut.line] * table.out_of[row, cell]
    return cut.priced(divided_all(numerator, denominator)), table.used


def shared(steps: Steps, counts: Ints) -> Steps:
    """The prices divided by the count of each line, rounded half-even."""
    from arbiter.prices.steps import divided_all

    of_each = counts[steps.line]
    return steps if (of_each == 1).all() else steps.priced(divided_all(steps.micros, of_each))


class _Table:
    """Numerator and denominator of the conversion, by currency and stretch of equal rates."""

    into: Ints
    out_of: Ints
    bounds: Ints

    def __init__(self, steps: Steps, names: Sequence[str], to: str, rates: Rates) -> None:
        import numpy as np

        first, last = int(steps.begin.min()) // DAY_S, (int(steps.end.max()) - 1) // DAY_S
        days = [EPOCH + timedelta(days=number) for number in range(first, last + 1)]
        held = {name: [rates.on(name, day) for day in days] for name in (to, *names)}
        used = [day for name, row in held.items() if name != BASE for day, _ in row]
        self.used = Used(rates.source, tuple(names), to, min(used), max(used))
        same = [1] * len(days)
        units = {name: [micros for _, micros in row] for name, row in held.items()}
        self._rows = {name: number for number, name in enumerate((to, *names))}
        self.into = np.asarray([same, *[units[to]] * len(names)], np.int64)
        self.out_of = np.asarray([same, *[units[name] for name in names]], np.int64)
        self.bounds = np.arange(first, last + 2, dtype=np.int64) * DAY_S

    def row_of(self, currency: str) -> int:
        return self._rows[currency]
