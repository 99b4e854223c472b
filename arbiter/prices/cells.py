"""Fixed grids of time in a zone: hours, days, weeks, months. A cell never crosses midnight there.

On the day on which clocks go forward a day has 23 hours, on the other one 25.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from arbiter.prices.question import BadQuestion, Window

MOST = 200_000
"""Cells in one answer."""

_HOURS = (1, 2, 3, 4, 6, 8, 12)
_GRIDS = "use 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d, 7d (or 1w) or 1mo"


def bounds(window: Window, grid: str, zone: tzinfo) -> list[int]:
    """The bounds of the cells that enclose a window: cell i is from bounds[i] to bounds[i + 1].

    The first and the last cell may reach beyond the window. Weeks begin on Mondays.

    Args:
        grid: "1h" to "12h", "1d", "7d" or "1w", "1mo".

    Raises:
        BadQuestion: there is no such grid, or it has too many cells.
    """
    found = re.fullmatch(r"(\d{1,3})(h|d|w|mo)", grid.strip().lower())
    step = found[0] if found else ""
    if found and found[2] == "h" and int(found[1]) in _HOURS:
        hours = int(found[1])
        if window.seconds > MOST * hours * 3600:
            raise BadQuestion(f"a grid of {grid} has too many cells", "take a coarser one")
        return _enclosing(window, _hours(window, hours, zone))
    steps: dict[str, tuple[Callable[[date], date], Callable[[date], date]]] = {
        "1d": (lambda day: day, lambda day: day + timedelta(days=1)),
        "7d": (_monday, lambda day: day + timedelta(days=7)),
        "1w": (_monday, lambda day: day + timedelta(days=7)),
        "1mo": (lambda day: day.replace(day=1), _next_month),
    }
    if step not in steps:
        raise BadQuestion(f"there is no grid {grid!r}", _GRIDS)
    return _enclosing(window, _midnights(window, *steps[step], zone))


def _enclosing(window: Window, instants: Iterator[int]) -> list[int]:
    found: list[int] = []
    for instant in instants:
        if instant <= window.begin:
            found.clear()
        found.append(instant)
        if instant >= window.end:
            break
    return found


def _midnights(
    window: Window, first: Callable[[date], date], following: Callable[[date], date], zone: tzinfo
) -> Iterator[int]:
    day = first(datetime.fromtimestamp(window.begin, zone).date() - timedelta(days=1))
    while True:
        yield _midnight(day, zone)
        day = following(day)


def _hours(window: Window, hours: int, zone: tzinfo) -> Iterator[int]:
    days = _midnights(window, lambda day: day, lambda day: day + timedelta(days=1), zone)
    begin = next(days)
    for end in days:
        yield from range(begin, end, hours * 3600)
        begin = end


def _midnight(day: date, zone: tzinfo) -> int:
    return int(datetime.combine(day, time(), zone).astimezone(UTC).timestamp())


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
