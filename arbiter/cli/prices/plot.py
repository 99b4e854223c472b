"""Step functions drawn in a terminal, two by four dots to a character."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import click

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
HEIGHT = 12  # characters
_WIDEST = 120
_BLANK = 0x2800  # the braille pattern without a dot
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, then by column


class Curve(NamedTuple):
    """From `t[i]` (epoch seconds) on it is `price[i]`; None is a gap."""

    name: str
    t: Sequence[int]
    price: Sequence[float | None]


def echo_plot(curves: Sequence[Curve], begin: int, end: int) -> None:
    """Draw curves over a stretch of time, as wide as the terminal."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    for line in drawn(curves, begin, end, width):
        click.echo(line)


def drawn(curves: Sequence[Curve], begin: int, end: int, width: int) -> list[str]:
    """The lines of a drawing: a scale of prices, the curves, a scale of time, their names."""
    known = [price for curve in curves for price in curve.price if price is not None]
    if not known:
        return ["there is nothing to draw"]
    low, high = min(known), max(known)
    if low == high:
        low, high = low * 0.95, high * 1.05
    marks = [f"{high - (high - low) * row / (HEIGHT - 1):.4g}" for row in range(HEIGHT)]
    margin = max(map(len, marks))
    canvas = _Canvas(max(20, width - margin - 2), HEIGHT)
    for number, curve in enumerate(curves):
        _draw(canvas, number, curve, (begin, end), (low, high))
    lines = [f"{mark:>{margin}} |{row}" for mark, row in zip(marks, canvas.rows(), strict=True)]
    first, last = (f"{datetime.fromtimestamp(one, UTC):%Y-%m-%d %H:%M}" for one in (begin, end))
    gap = max(1, canvas.width - len(first) - len(last))
    lines.append(f"{'':>{margin}}  {first}{'':{gap}}{last} UTC")
    if len(curves) > 1:
        lines += [
            click.style(f"{'':>{margin}}  -- {curve.name}", fg=COLOURS[number % len(COLOURS)])
            for number, curve in enumerate(curves)
        ]
    return lines


class _Canvas:
    """Dots, and for each character the curve that was drawn there last."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self._cells = [[0] * width for _ in range(height)]
        self._whose = [[0] * width for _ in range(height)]

    def dot(self, x: int, y: int, curve: int) -> None:
        """Set the dot in column x from the left and row y from the top."""
        self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self._whose[y // 4][x // 2] = curve

    def rows(self) -> list[str]:
        """The characters, coloured where there is a dot."""
        return [
            "".join(
                click.style(chr(_BLANK + dots), fg=COLOURS[whose % len(COLOURS)]) if dots else " "
                for dots, whose in zip(cells, whoses, strict=True)
            ).rstrip()
            for cells, whoses in zip(self._cells, self._whose, strict=True)
        ]


def _draw(
    canvas: _Canvas, number: int, curve: Curve, span: tuple[int, int], range_: tuple[float, float]
) -> None:
    """A horizontal stroke for each price, and a vertical one from it to the next."""
    columns, height = canvas.width * 2, HEIGHT * 4
    before: int | None = None
    ends = [*curve.t[1:], span[1]]
    for since, until, price in zip(curve.t, ends, curve.price, strict=True):
        if price is None:
            before = None
            continue
        share = (price - range_[0]) / (range_[1] - range_[0])
        y = round((1 - share) * (height - 1))
        first, last = (
            min(columns - 1, max(0, (one - span[0]) * columns // (span[1] - span[0])))
            for one in (since, max(since, until - 1))
        )
        for x in range(first, last + 1):
            canvas.dot(x, y, number)
        if before is not None:
            for between in range(min(before, y), max(before, y) + 1):
                canvas.dot(first, between, number)
        before = y
