"""How prices went: every step of every series, or a fixed grid over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from arbiter.money import MICROS
from arbiter.prices import cells
from arbiter.prices.chosen import About, Chosen, Market, choose, grouped, label
from arbiter.prices.question import BadQuestion, Question
from arbiter.prices.steps import BASIS, Ints, Steps, drawn, joined, split, weighted

Column = list[float | None]
"""Prices as JSON numbers, exact to a millionth; None where no price stood."""


@dataclass(frozen=True, slots=True)
class Path:
    """The steps of one series: from `t[i]` (epoch seconds) on, the price is `price[i]`.

    A None begins a stretch without a price. The last entry is the end of what is known.
    """

    series: str
    provider: str
    region: str
    zone: str
    instance_type: str
    purchase: str
    gpu: str
    gpu_count: int
    t: list[int]
    price: Column


@dataclass(frozen=True, slots=True)
class StepsAnswer:
    """The answer of `arbiter prices history`.

    Attributes:
        points: how many points there are in all series before any were left out for drawing.
    """

    about: About
    points: int
    series: list[Path]


@dataclass(frozen=True, slots=True)
class Cells:
    """A group on a grid: all columns have one entry for each cell.

    Attributes:
        hours: for how long prices stood in the cell, summed over the series.
    """

    group: str
    min: Column
    mean: Column
    p50: Column
    p95: Column
    max: Column
    hours: list[float]


@dataclass(frozen=True, slots=True)
class GridAnswer:
    """The answer of `arbiter prices history --grid`.

    Attributes:
        t: where each cell begins, epoch seconds; the first begins no earlier than the window.
    """

    about: About
    by: str | None
    grid: str
    t: list[int]
    groups: list[Cells]


def history(market: Market, question: Question, points: int | None = None) -> StepsAnswer:
    """Every step of the chosen series.

    Args:
        points: at most so many of each series, chosen so that a drawing of them shows every
            lowest and highest price; at least 4. None is all.

    Raises:
        ArbiterError: nothing is recorded of it, or prices cannot be said in one currency.
    """
    if points is not None and points < 4:
        raise BadQuestion(f"{points} points draw nothing", "ask for 4 or more")
    chosen = choose(market, question)
    steps = joined(chosen.steps)
    bounds = np.searchsorted(steps.line, np.arange(len(chosen.lines) + 1))
    paths, total = [], 0
    for number, (first, last) in enumerate(pairwise(bounds.tolist())):
        if first == last:
            continue
        rows = steps.picked(np.arange(first, last))
        t, price = _path(rows)
        total += len(t)
        if points is not None and len(t) > points:
            t, price = _thinned(rows, points)
        line = chosen.lines[number]
        paths.append(
            Path(
                label(line), line.provider, line.region, line.zone, line.instance_type,
                line.purchase, line.gpu, line.gpu_count, t, price,
            )
        )  # fmt: skip
    return StepsAnswer(chosen.about, total, paths)


def on_grid(market: Market, question: Question, grid: str, by: str | None = None) -> GridAnswer:
    """Exact figures of each cell of a grid in the question's zone, weighted by time.

    Args:
        grid: see `cells.bounds`.
        by: a key of `chosen.GROUPS`, or None for all series together.

    Raises:
        ArbiterError: as of `history`; or there is no such grid.
    """
    bounds = cells.bounds(question.window, grid, question.zone)
    chosen = choose(market, question)
    names, group = grouped(market, chosen, by)
    edges = np.asarray(bounds, np.int64)
    return GridAnswer(
        chosen.about,
        by,
        grid,
        [max(begin, question.window.begin) for begin in bounds[:-1]],
        _columns(chosen, names, group, edges),
    )


def _columns(chosen: Chosen, names: list[str], group: Ints, edges: Ints) -> list[Cells]:
    width = len(edges) - 1
    cut, cell = split(chosen.steps, edges)
    found = weighted(cut, group[cut.line] * width + cell, len(names) * width)
    lowest, median, high, highest = (
        column(found.quantile(share)) for share in (0, 5000, 9500, BASIS)
    )
    mean = column(found.mean())
    covered = np.round(found.seconds / 3600, 2).tolist()
    spans = [slice(number * width, (number + 1) * width) for number in range(len(names))]
    return [
        Cells(name, lowest[one], mean[one], median[one], high[one], highest[one], covered[one])
        for name, one in zip(names, spans, strict=True)
    ]


def column(micros: list[int | None]) -> Column:
    """Millionths as numbers: the shortest decimal of each is exact."""
    return [None if one is None else one / MICROS for one in micros]


def _path(rows: Steps) -> tuple[list[int], Column]:
    """Steps of one line as points; a gap begins with a None, and so does what comes after."""
    gap = np.append(rows.begin[1:] != rows.end[:-1], True)
    t = np.sort(np.concatenate((rows.begin, rows.end[gap])))
    price = np.full(len(t), np.nan)
    price[np.searchsorted(t, rows.begin)] = rows.micros / MICROS
    return t.tolist(), [None if value != value else value for value in price.tolist()]


def _thinned(rows: Steps, points: int) -> tuple[list[int], Column]:
    """Fewer of the points; a gap between two that are kept stays visible as one."""
    kept = rows.picked(drawn(rows.begin, rows.micros, max(4, points // 2)))
    behind = np.append(rows.begin[1:] != rows.end[:-1], True)
    ends = rows.end[behind]
    # Each kept row stands until the next kept one, or until the first gap after it.
    following = np.append(kept.begin[1:], rows.end[-1])
    first_gap = ends[np.minimum(np.searchsorted(ends, kept.begin, "right"), len(ends) - 1)]
    shown = Steps(kept.line, kept.begin, np.minimum(following, first_gap), kept.micros)
    return _path(shown)
