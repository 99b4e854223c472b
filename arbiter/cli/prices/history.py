"""`arbiter prices history`: how prices went."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.prices.asking import (
    answer_json,
    choosing,
    echo_about,
    echo_head,
    money,
    question_of,
    split_by,
    windowed,
)

if TYPE_CHECKING:
    from arbiter.prices.history import GridAnswer, StepsAnswer

MOST_CURVES = 6
_POINTS = 2_000  # of a curve in a terminal, which shows a tenth of them


@click.command(
    short_help="How prices went: every step, or a fixed grid.",
    epilog="\b\nExamples:\n"
    "  arbiter prices history --gpu H100 --spot --region eu-north-1 --since 7d\n"
    "  arbiter prices history --gpu H100 --spot --sovereignty eu --grid 1d --plot\n"
    "  arbiter prices history --gpu L4 --grid 1h --timezone Europe/Berlin --json",
)
@choosing
@windowed
@click.option(
    "--grid", metavar="CELL",
    help="1h to 12h, 1d, 7d or 1mo: exact figures of each, instead of every step.",
)  # fmt: skip
@split_by
@click.option(
    "--points", type=click.IntRange(min=4),
    help="Of each series at most so many steps, with every lowest and highest price that shows.",
)  # fmt: skip
@click.option("--plot", is_flag=True, help="Draw it.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Rows; 0 is all."
)
@click.pass_context
def history(
    ctx: click.Context,
    /,
    as_json: bool,
    grid: str | None,
    by: str | None,
    points: int | None,
    plot: bool,
    limit: int,
    **typed: Any,
) -> None:
    """How prices went: every step of every series, or exact figures on a fixed grid.

    A cell's figures are weighted by time over all series in it; a cell never crosses midnight in
    the time zone.
    """
    from arbiter.prices import history as prices

    if by is not None and grid is None:
        raise click.UsageError("--by needs a --grid: without one, series are never mixed", ctx)
    if points is not None and grid is not None:
        raise click.UsageError("--points is for steps: a --grid has its cells", ctx)
    with question_of(ctx, **typed) as (market, question):
        if grid is not None:
            found = prices.on_grid(market, question, grid, by)
            answer_json(found) if as_json else _print_grid(found, question.zone, limit, plot=plot)
            return
        kept = points or (_POINTS if plot and not as_json else None)
        steps = prices.history(market, question, kept)
    answer_json(steps) if as_json else _print_steps(steps, question.zone, limit, plot=plot)


def _print_grid(answer: GridAnswer, zone: tzinfo, limit: int, *, plot: bool) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    if plot:
        _plot(answer)
    else:
        rows = [
            (
                group.group,
                _instant(begin, zone),
                *map(
                    money,
                    (group.min[n], group.mean[n], group.p50[n], group.p95[n], group.max[n]),
                ),
                f"{group.hours[n]:,.1f}",
            )
            for group in answer.groups
            for n, begin in enumerate(answer.t)
        ]
        shown = rows[-limit:] if limit else rows
        echo_table(("GROUP", "FROM", ">MIN", ">MEAN", ">P50", ">P95", ">MAX", ">HOURS"), shown)
        _tell_cut(len(shown), len(rows))
    echo_about(answer.about)


def _print_steps(answer: StepsAnswer, zone: tzinfo, limit: int, *, plot: bool) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    if plot:
        _plot(answer)
    else:
        points = sorted(
            (begin, path.series, price)
            for path in answer.series
            for begin, price in zip(path.t, path.price, strict=True)
            if price is not None or begin < answer.about.end.timestamp()
        )
        shown = points[-limit:] if limit else points
        echo_table(
            ("FROM", ">PRICE", "SERIES"),
            [(_instant(begin, zone), money(price), series) for begin, series, price in shown],
        )
        _tell_cut(len(shown), len(points))
    echo_about(answer.about)


def _plot(answer: GridAnswer | StepsAnswer) -> None:
    from arbiter.cli.prices.plot import Curve, echo_plot
    from arbiter.prices.history import GridAnswer

    if isinstance(answer, GridAnswer):
        curves = [Curve(group.group, answer.t, group.mean) for group in answer.groups]
    else:
        curves = [Curve(path.series, path.t, path.price) for path in answer.series]
    about = answer.about
    begin, end = int(about.begin.timestamp()), int(about.end.timestamp())
    echo_plot(curves[:MOST_CURVES], begin, end)
    if len(curves) > MOST_CURVES:
        click.echo(f"{MOST_CURVES} of {len(curves)} are drawn; narrow the filters, or use --grid")


def _tell_cut(shown: int, total: int) -> None:
    if shown < total:
        click.echo(f"the last {shown} of {total} rows; all of them: --limit 0")


def _instant(seconds: int, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(seconds, zone):%Y-%m-%d %H:%M:%S%z}"
