"""The answers of benchmarks/prices.py, straight from the made-up year."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from _price_history import DAY_S, END, Ints, Year

DAYS = 90
FIRST = END - DAYS * DAY_S
INSTANT = END - 165 * DAY_S + 12_345

Days = list[tuple[float, float, float, float]]
"""Minimum, mean, median and 95th percentile of each day, in currency."""


class Truth:
    """The answers, straight from the made-up year: second by second where that is possible."""

    def __init__(self, year: Year) -> None:
        self._bounds = np.searchsorted(year.changes[:, 0], np.arange(1, len(year.series) + 2))
        self._changes, self._year = year.changes, year
        self.eu = [
            one for one in year.series
            if one.gpu == "H100" and one.purchase == "spot" and one.in_eu
        ]  # fmt: skip
        self.one = self.eu[len(self.eu) // 2]
        self._days = self._daily()
        self._steps = steps_of([tuple(r) for r in self.of(self.one.id)[:, 1:].tolist()])
        then = [(self.at(one.id, INSTANT), one.gpu_count) for one in year.series]
        stood = sorted(round_even(micros, gpus) / 1e6 for micros, gpus in then if micros)
        self._stood = len(stood), stood[:20]
        now = [(self.at(one.id, END - 1) or 0) / 1e6 / one.gpu_count for one in self.eu]
        self._cheapest = sorted(one for one in now if one)[:20]

    def of(self, number: int) -> Ints:
        """The rows of a series."""
        return self._changes[self._bounds[number - 1] : self._bounds[number]]

    def at(self, number: int, instant: int) -> int | None:
        """The price at an instant, in micros."""
        rows = self.of(number)
        place = int(np.searchsorted(rows[:, 1], instant, "right")) - 1
        if place < 0 or -1 < rows[place, 2] <= instant:
            return None
        return int(rows[place, 3])

    def _daily(self) -> Days:
        found: Days = []
        for first in range(FIRST, END, DAY_S):
            prices, seconds = [], []
            for one in self.eu:
                rows = self.of(one.id)
                end = np.where(rows[:, 2] < 0, END, rows[:, 2])
                lasting = np.minimum(end, first + DAY_S) - np.maximum(rows[:, 1], first)
                stood = lasting > 0
                seconds += lasting[stood].tolist()
                prices += [round_even(micros, one.gpu_count) for micros in rows[stood, 3].tolist()]
            order = np.argsort(prices)
            p, s = np.asarray(prices)[order], np.asarray(seconds)[order]
            upto = np.cumsum(s)
            found.append(
                (
                    p[0] / 1e6,
                    float((p * s).sum() / s.sum()) / 1e6,
                    p[np.searchsorted(upto * 100, upto[-1] * 50)] / 1e6,
                    p[np.searchsorted(upto * 100, upto[-1] * 95)] / 1e6,
                )
            )
        return found

    def check_days(self, answer: Days) -> None:
        """To a millionth, to which means are rounded."""
        if not np.allclose(answer, self._days, rtol=0, atol=1.01e-6):
            raise AssertionError("the daily figures are wrong")

    def check_hourly(self, answer: Mapping[str, tuple[float, float]]) -> None:
        """Observations once an hour are not exact: within a few per cent."""
        means = [mean for _, (_, mean) in sorted(answer.items())]
        if not np.allclose(means, [day[1] for day in self._days], rtol=0.05):
            raise AssertionError("the naive table is wrong")

    def check_one(self, answer: list[tuple[int, float | None]]) -> None:
        """Every step."""
        if answer != self._steps:
            raise AssertionError("the steps of a series are wrong")

    def check_as_of(self, answer: tuple[int, list[float]]) -> None:
        """Both exactly."""
        if answer != self._stood:
            raise AssertionError(f"as of: {answer}, not {self._stood}")

    def check_cheapest(self, answer: list[float]) -> None:
        """To a millionth."""
        if not np.allclose(answer, self._cheapest, rtol=0, atol=1.01e-6):
            raise AssertionError("the cheapest are wrong")


def round_even(numerator: int, denominator: int) -> int:
    """A quotient, rounded half-even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))


def steps_of(rows: list[tuple[int, int | None, int]]) -> list[tuple[int, float | None]]:
    """Points of a step function; rows that touch at one price are one step."""
    points: list[tuple[int, float | None]] = []
    open_until: int | None = None
    for begin, end, micros in rows:
        if open_until is not None and open_until < begin:
            points.append((open_until, None))
        elif points and points[-1][1] == micros / 1e6:
            open_until = END if end is None or end < 0 else end
            continue
        points.append((begin, micros / 1e6))
        open_until = END if end is None or end < 0 else end
    return [*points, (open_until or END, None)]
