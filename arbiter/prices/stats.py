"""Percentiles over time, and for how long a price was below an amount."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from arbiter.money import MICROS
from arbiter.prices import cells
from arbiter.prices.chosen import About, Chosen, Market, choose, grouped, hours
from arbiter.prices.question import Question
from arbiter.prices.steps import BASIS, Ints, Steps, Weighted, changed, split, weighted


@dataclass(frozen=True, slots=True)
class StatsRow:
    """How a group of series was priced. Prices are per hour, in the answer's currency.

    Every hour of every series weighs the same. A percentile is a price that stood: the lowest one
    at or under which the series were for that share of their covered time.

    Attributes:
        volatility: standard deviation of the daily logarithmic returns of each series' daily
            mean, over all series and all pairs of neighbouring days of the group, not annualised;
            None with fewer than two returns.
        changes: how often a price gave way to another one, without gaps between them.
    """

    group: str
    series: int
    hours_covered: float
    hours_missing: float
    min: Decimal | None
    p5: Decimal | None
    p25: Decimal | None
    p50: Decimal | None
    p75: Decimal | None
    p95: Decimal | None
    max: Decimal | None
    mean: Decimal | None
    volatility: float | None
    changes: int


@dataclass(frozen=True, slots=True)
class StatsAnswer:
    """The answer of `arbiter prices stats`."""

    about: About
    by: str | None
    rows: list[StatsRow]


@dataclass(frozen=True, slots=True)
class BelowRow:
    """For what share of its covered time a group was below a price.

    Attributes:
        share_below: from 0 to 1, of the time with a price strictly below; None without any.
        hours_below: the same in hours, summed over the series.
        price_at: the lowest price at or under which the group was for `percent` of the time.
    """

    group: str
    series: int
    hours_covered: float
    hours_missing: float
    share_below: float | None
    hours_below: float | None
    price_at: Decimal | None


@dataclass(frozen=True, slots=True)
class BelowAnswer:
    """The answer of `arbiter prices below`.

    Attributes:
        price: the amount that was asked for, or None.
        percent: the share of time that was asked for.
    """

    about: About
    by: str | None
    price: Decimal | None
    percent: Decimal
    rows: list[BelowRow]


def stats(market: Market, question: Question, by: str | None = None) -> StatsAnswer:
    """Time-weighted percentiles of the chosen series, as one group or split.

    Args:
        by: a key of `chosen.GROUPS`, or None.

    Raises:
        ArbiterError: nothing is recorded of it, or prices cannot be said in one currency.
    """
    chosen = choose(market, question)
    names, group = grouped(market, chosen, by)
    found = weighted(chosen.steps, group[chosen.steps.line], len(names))
    low, p5, p25, p50, p75, p95, high = (
        [amount(one) for one in found.quantile(share)]
        for share in (0, 500, 2500, 5000, 7500, 9500, BASIS)
    )
    mean = [amount(one) for one in found.mean()]
    counts, possible = _sizes(chosen, group, len(names))
    moves = np.bincount(group[_moved(chosen)], minlength=len(names)).tolist()
    spreads = _volatility(chosen, group, len(names))
    rows = [
        StatsRow(
            name, counts[n], hours(int(found.seconds[n])),
            hours(possible[n] - int(found.seconds[n])),
            low[n], p5[n], p25[n], p50[n], p75[n], p95[n], high[n], mean[n], spreads[n], moves[n],
        )
        for n, name in enumerate(names)
    ]  # fmt: skip
    return StatsAnswer(chosen.about, by, rows)


def below(
    market: Market,
    question: Question,
    price: int | None,
    percent: int = 9500,
    by: str | None = None,
) -> BelowAnswer:
    """For what share of the time the price was below an amount, and under which it was mostly.

    Args:
        price: in millionths of the answer's currency, or None.
        percent: in hundredths of a per cent.

    Raises:
        ArbiterError: as of `stats`.
    """
    chosen = choose(market, question)
    names, group = grouped(market, chosen, by)
    found = weighted(chosen.steps, group[chosen.steps.line], len(names))
    at = found.quantile(percent)
    under = None if price is None else found.seconds_below(price)
    counts, possible = _sizes(chosen, group, len(names))
    rows = [
        BelowRow(
            name,
            counts[number],
            hours(int(found.seconds[number])),
            hours(possible[number] - int(found.seconds[number])),
            _share(under, found, number),
            None if under is None else hours(int(under[number])),
            amount(at[number]),
        )
        for number, name in enumerate(names)
    ]
    return BelowAnswer(chosen.about, by, amount(price), Decimal(percent) / 100, rows)


def amount(micros: int | None) -> Decimal | None:
    """Millionths as a decimal amount of money."""
    return None if micros is None else Decimal(micros) / MICROS


def _share(under: Ints | None, found: Weighted, number: int) -> float | None:
    total = int(found.seconds[number])
    return None if under is None or not total else round(int(under[number]) / total, 6)


def _sizes(chosen: Chosen, group: Ints, groups: int) -> tuple[list[int], list[int]]:
    """By group: how many series, and how many seconds they could have been on sale."""
    counts: list[int] = np.bincount(group, minlength=groups).tolist()
    return counts, [count * chosen.question.window.seconds for count in counts]


def _moved(chosen: Chosen) -> Ints:
    """The line of every change of a listed price within the window."""
    listed, window = chosen.listed, chosen.question.window
    inside = (listed.begin >= window.begin) & (listed.begin < window.end)
    return listed.line[changed(listed) & inside]


def _volatility(chosen: Chosen, group: Ints, groups: int) -> list[float | None]:
    """By group; the days are those of the question's zone."""
    question = chosen.question
    bounds = np.asarray(cells.bounds(question.window, "1d", question.zone), np.int64)
    means = daily_means(chosen.steps, bounds, len(chosen.lines))
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.diff(np.log(means), axis=1)
    found: list[float | None] = []
    for number in range(groups):
        some = returns[group == number]
        some = some[np.isfinite(some)]
        found.append(round(float(some.std(ddof=1)), 6) if len(some) > 1 else None)
    return found


def daily_means(steps: Steps, bounds: Ints, lines: int) -> npt.NDArray[np.float64]:
    """The mean of each line (row) in each cell (column); NaN where no price stood."""
    cut, cell = split(steps, bounds)
    columns = len(bounds) - 1
    place = cut.line * columns + cell
    size = lines * columns
    seconds = np.bincount(place, weights=cut.seconds, minlength=size)
    totals = np.bincount(place, weights=cut.micros * cut.seconds, minlength=size)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = totals / seconds
    return means.reshape(lines, columns)
