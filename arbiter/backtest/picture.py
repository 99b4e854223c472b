"""A backtest as a picture: cost against availability, and where the replicas stood."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arbiter.backtest.accounts import by_place
from arbiter.backtest.markets import Market
from arbiter.backtest.policies import OMNISCIENT
from arbiter.backtest.score import Result
from arbiter.errors import ArbiterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".svg", ".png", ".html")
MOST_ZONES = 12
"""More zones than this are drawn as regions."""
WIDEST = 1000
"""Points on the axis of time; within one the largest number of replicas is drawn."""
INK, GRID, DEMAND_COLOUR = "#222222", "#dddddd", "#888888"


def check_picture(file: Path) -> None:
    """Whether a picture of that name can be drawn, before anything is run for it.

    Raises:
        ArbiterError: the ending is not known, or matplotlib is not installed.
    """
    from importlib.util import find_spec

    if file.suffix.lower() not in ENDINGS:
        raise ArbiterError(
            f"{file} is no picture that can be drawn", f"let it end in {', '.join(ENDINGS)}"
        )
    if find_spec("matplotlib") is None:
        raise ArbiterError("a picture needs matplotlib", "pip install 'arbiter[pictures]'")


def draw(results: Sequence[Result], market: Market, file: Path) -> None:
    """Draw results on one market into a file.

    Raises:
        ArbiterError: the ending is not known, matplotlib is missing, or the file cannot be written.
    """
    check_picture(file)
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context({"svg.hashsalt": "arbiter", "font.size": 9, "text.color": INK}):
        content = _drawn(results, market, file.suffix.lower())
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ArbiterError(f"cannot write {file}: {error.strerror}") from error


def _drawn(results: Sequence[Result], market: Market, ending: str) -> bytes:
    from matplotlib.figure import Figure

    lived = [one for one in results if one.lives]
    heights = [3.6, *([1.8] * len(lived))]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    rows = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
    _costs(rows[0][0], results, market)
    for axes, result in zip((row[0] for row in rows[1:]), lived, strict=True):
        _timeline(axes, result, market)
    if lived:
        rows[-1][0].set_xlabel("days")
    if ending == ".png":
        binary = BytesIO()
        figure.savefig(binary, format="png", dpi=120, metadata={"Software": "arbiter"})
        return binary.getvalue()
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "arbiter"})
    svg = text.getvalue()
    return (_page(svg, results, market) if ending == ".html" else svg).encode()


def _costs(axes: Axes, results: Sequence[Result], market: Market) -> None:
    """Cost against missing replica-time; up and to the left is worse, down is cheaper."""
    for number, one in enumerate(results):
        if one.policy == OMNISCIENT:
            continue
        label = f"{one.policy}, N={one.replicas}: J={one.j:.3f}"
        x, y = 100 * one.availability, one.cost
        axes.scatter(x, y, color=_colour(number), label=label, zorder=3)
    bounds = sorted({(one.replicas, one.bound) for one in results if one.bound is not None})
    for replicas, bound in bounds:
        axes.axhline(bound, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            f"least possible J, N={replicas}: {bound:.3f}",
            (0.99, bound),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="top",
        )
    axes.axhline(1, color=DEMAND_COLOUR, linewidth=1)
    axes.set_xlabel("% of time with all replicas ready")
    axes.set_ylabel("cost (all on-demand = 1)")
    simulated = " (simulated)" if any("simulated" in note for note in market.notes) else ""
    axes.set_title(f"{market.name}{simulated}: {market.days:.1f} days, {len(market.zones)} zones")
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID)
    if len(results) > 0:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _timeline(axes: Axes, result: Result, market: Market) -> None:
    """Ready replicas by place, one on the other, and how many were asked for."""
    names, stacks = _stacks(result, market)
    step = max(1, -(-market.ticks // WIDEST))
    cuts = np.arange(0, market.ticks, step)
    thinned = np.maximum.reduceat(stacks, cuts, axis=1)
    kept = np.append(0, 1 + np.flatnonzero((np.diff(thinned, axis=1) != 0).any(axis=0)))
    days = np.append(cuts[kept], market.ticks) * market.tick_s / 86_400
    shown = np.column_stack([thinned[:, kept], thinned[:, -1]])
    colours = [*(_colour(n) for n in range(len(names) - 1)), DEMAND_COLOUR]
    axes.stackplot(days, shown, labels=names, colors=colours, step="post", linewidth=0)
    axes.axhline(result.replicas, color=INK, linewidth=0.8)
    axes.set_title(f"{result.policy}, N={result.replicas}: replicas ready", loc="left")
    axes.set_xlim(0, market.days)
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7)


def _stacks(result: Result, market: Market) -> tuple[list[str], Any]:
    ready = by_place(result.lives, len(market.zones), market.ticks, ready=True)
    if len(market.zones) <= MOST_ZONES:
        return [*(zone.name for zone in market.zones), "on demand"], ready
    regions = list(dict.fromkeys(zone.region for zone in market.zones))
    rows = [
        ready[[n for n, zone in enumerate(market.zones) if zone.region == region]].sum(axis=0)
        for region in regions
    ]
    return [*regions, "on demand"], np.vstack([*rows, ready[-1]])


def _colour(number: int) -> str:
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return to_hex(mpl.colormaps["tab20"](number % 20))


def _page(svg: str, results: Sequence[Result], market: Market) -> str:
    """A page that stands alone: the picture, and what the figures do not know."""
    notes = dict.fromkeys(note for one in results for note in one.notes)
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    title = escape(f"arbiter backtest: {market.name}")
    drawing = svg[svg.index("<svg") :]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{drawing}<ul>{listed}</ul></html>\n"
    )
