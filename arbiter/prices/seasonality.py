"""The profile of a week: which hours are cheaper than others. Never of less than eight weeks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from arbiter.errors import ArbiterError
from arbiter.prices import cells
from arbiter.prices.chosen import About, Chosen, Market, choose
from arbiter.prices.history import Column, column
from arbiter.prices.question import Question
from arbiter.prices.steps import Ints, split, weighted

HOURS = 168
WEEK_S = 7 * 86_400
MIN_WEEKS = 8


class TooShort(ArbiterError):
    """There is too little to claim a rhythm from."""


@dataclass(frozen=True, slots=True)
class SeasonalityAnswer:
    """The answer of `arbiter prices seasonality`: columns of 168 hours, Monday 00:00 first.

    Attributes:
        weeks: from the first covered instant to the last.
        mean: time-weighted mean price in the hour, over all series and weeks.
        relative: each series' price in the hour over the same series' mean in the window, then
            averaged by time: 1 is the usual price. Dear and cheap series weigh the same in it, so
            that one that comes or goes does not look like a rhythm.
        hours: hours covered, summed over the series.
    """

    about: About
    weeks: float
    weekday: list[int]
    hour: list[int]
    mean: Column
    relative: list[float | None]
    hours: list[float]


def seasonality(market: Market, question: Question) -> SeasonalityAnswer:
    """The hour-of-week profile of the chosen series in the question's zone.

    Raises:
        TooShort: the covered part of the window spans less than `MIN_WEEKS` weeks.
        ArbiterError: nothing is recorded of it, or prices cannot be said in one currency.
    """
    chosen = choose(market, question)
    first, last = int(chosen.steps.begin.min()), int(chosen.steps.end.max())
    weeks = (last - first) / WEEK_S
    if weeks < MIN_WEEKS:
        raise TooShort(
            f"a weekly rhythm needs {MIN_WEEKS} weeks of prices, and there are {weeks:.1f} "
            f"({_day(first)} to {_day(last)})",
            "take a longer window with --since, or import older prices",
        )
    return _profile(chosen, round(weeks, 2))


def _profile(chosen: Chosen, weeks: float) -> SeasonalityAnswer:
    question, steps = chosen.question, chosen.steps
    bounds = cells.bounds(question.window, "1h", question.zone)
    cut, cell = split(steps, np.asarray(bounds, np.int64))
    local = [datetime.fromtimestamp(begin, question.zone) for begin in bounds[:-1]]
    of_cell = np.asarray([one.weekday() * 24 + one.hour for one in local], np.int64)
    hour = of_cell[cell]
    found = weighted(cut, hour, HOURS)
    return SeasonalityAnswer(
        chosen.about,
        weeks,
        [number // 24 for number in range(HOURS)],
        [number % 24 for number in range(HOURS)],
        column(found.mean()),
        _relative(chosen, cut.line, cut.micros, cut.seconds, hour),
        np.round(found.seconds / 3600, 2).tolist(),
    )


def _relative(
    chosen: Chosen,
    line: Ints,
    micros: Ints,
    seconds: Ints,
    hour: Ints,
) -> list[float | None]:
    size = len(chosen.lines)
    time = np.bincount(line, weights=seconds, minlength=size)
    usual = np.bincount(line, weights=micros * seconds, minlength=size) / np.maximum(time, 1)
    total = np.bincount(hour, weights=micros / usual[line] * seconds, minlength=HOURS)
    covered = np.bincount(hour, weights=seconds, minlength=HOURS)
    return [
        round(part / whole, 6) if whole else None
        for part, whole in zip(total.tolist(), covered.tolist(), strict=True)
    ]


def _day(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d}"
