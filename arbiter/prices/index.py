"""The index: what a GPU-hour cost over all clouds, one figure a day.

Method 1, for each UTC day that is over:

1. Every chosen series gives its time-weighted mean of the day, per GPU (or instance), in the
   answer's currency by the rate of the day.
2. Staleness cut: a series that was on sale, and seen, at no instant of the day gives nothing.
3. The series of one provider and region have one vote: their median. Many machine types or zones
   in one place weigh no more than one.
4. The index is the median of the votes; with fewer than `MIN_VOTES` there is none for the day.

A median of an even number is the mean of the two in the middle. Another method is another number:
figures of two methods are never compared in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta

import numpy as np

from arbiter.prices.chosen import (
    About,
    Market,
    NothingFound,
    find_lines,
    in_unit,
)
from arbiter.prices.fx import DAY_S, EPOCH
from arbiter.prices.history import Column, column
from arbiter.prices.question import BadQuestion, Question, Window
from arbiter.prices.steps import Ints, Steps, divided, divided_all
from arbiter.store import rollups
from arbiter.store.lines import Line, Lines

METHOD = "arbiter-index/1"
MIN_VOTES = 3


@dataclass(frozen=True, slots=True)
class Constituent:
    """A provider and region that votes.

    Attributes:
        series: how many series its vote is the median of, on the day with most of them.
        days: on how many days of the window it had a vote.
    """

    provider: str
    region: str
    country: str | None
    series: int
    days: int


@dataclass(frozen=True, slots=True)
class IndexAnswer:
    """The answer of `arbiter prices index`: columns with one entry for each day.

    Attributes:
        value: the index; None on a day with fewer votes than `min_votes`.
        low, high: the lowest and the highest vote.
    """

    about: About
    method: str
    min_votes: int
    day: list[date]
    value: Column
    low: Column
    high: Column
    votes: list[int]
    constituents: list[Constituent]


def index(market: Market, question: Question, min_votes: int = MIN_VOTES) -> IndexAnswer:
    """The index of the chosen series.

    Args:
        question: of one purchase: spot and on-demand are never mixed. Its zone is not used.

    Raises:
        BadQuestion: no purchase is named, or no day of the window is over.
        ArbiterError: nothing is recorded of it, or prices cannot be said in one currency.
    """
    if question.purchase is None:
        raise BadQuestion("an index is of one purchase", "add --spot, --on-demand or --reserved")
    first, until = _days(question.window, int(market.now.timestamp()))
    lines = find_lines(market, question)
    rows = rollups.daily(market.connection, lines, first, until, market.now)
    if not len(rows):
        raise NothingFound(f"no price is recorded from {_date(first)} to {_date(until - 1)}")
    means, about = _means(market, question, lines, rows, Window(first * DAY_S, until * DAY_S))
    votes = _votes(lines, means)
    days = list(range(first, until))
    values: list[int | None] = []
    for day in days:
        cast = [vote for vote, _ in votes.get(day, {}).values()]
        values.append(median(cast) if len(cast) >= max(1, min_votes) else None)
    extremes = [[vote for vote, _ in votes.get(day, {}).values()] for day in days]
    return IndexAnswer(
        about,
        METHOD,
        min_votes,
        [_date(day) for day in days],
        column(values),
        column([min(cast, default=None) for cast in extremes]),
        column([max(cast, default=None) for cast in extremes]),
        [len(cast) for cast in extremes],
        _constituents(market, votes),
    )


def median(values: Sequence[int]) -> int:
    """The middle value, or the mean of the two in the middle, rounded half-even."""
    ordered, half = sorted(values), len(values) // 2
    if len(ordered) % 2:
        return ordered[half]
    return divided(ordered[half - 1] + ordered[half], 2)


Place = tuple[str, str]
Votes = dict[int, dict[Place, tuple[int, int]]]
"""Day -> (provider, region) -> its vote, and of how many series it is the median."""


def _days(window: Window, now: int) -> tuple[int, int]:
    """The whole UTC days of a window that are over; the first may begin before the window."""
    first, until = window.begin // DAY_S, min(-(-window.end // DAY_S), now // DAY_S)
    if first >= until:
        raise BadQuestion("no UTC day of the window is over yet", "take a longer one: --since 7d")
    return first, until


def _means(
    market: Market, question: Question, lines: Lines, rows: Ints, window: Window
) -> tuple[Steps, About]:
    """Each series' mean of each day in the question's unit, as steps of a day."""
    at = {name: place for place, name in enumerate(rollups.COLUMNS)}
    begin = rows[:, at["day"]] * DAY_S
    seconds = rows[:, at["seconds"]]
    daily = Steps(
        np.searchsorted(lines.ids, rows[:, at["series_id"]]).astype(np.int64),
        begin,
        begin + seconds,  # where in the day it stood does not matter: it has one rate
        divided_all(rows[:, at["micros_seconds"]], seconds),
    )
    return in_unit(market, replace(question, window=window, zone=UTC), lines, daily)


def _votes(lines: Sequence[Line], means: Steps) -> Votes:
    cast: dict[tuple[int, Place], list[int]] = defaultdict(list)
    days = (means.begin // DAY_S).tolist()
    for number, day, micros in zip(means.line.tolist(), days, means.micros.tolist(), strict=True):
        line = lines[number]
        cast[day, (line.provider, line.region)].append(micros)
    votes: Votes = defaultdict(dict)
    for (day, place), found in cast.items():
        votes[day][place] = median(found), len(found)
    return votes


def _constituents(market: Market, votes: Votes) -> list[Constituent]:
    most: dict[Place, int] = defaultdict(int)
    days: dict[Place, int] = defaultdict(int)
    for cast in votes.values():
        for place, (_, series) in cast.items():
            most[place] = max(most[place], series)
            days[place] += 1
    return [
        Constituent(*place, market.atlas.place(*place).country, most[place], days[place])
        for place in sorted(most)
    ]


def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)
