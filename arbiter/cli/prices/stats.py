"""`arbiter prices stats`: percentiles over time."""

from __future__ import annotations

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
    from arbiter.prices.stats import StatsAnswer

HEADINGS = (
    "GROUP", ">SERIES", ">MIN", ">P5", ">P25", ">P50", ">P75", ">P95", ">MAX", ">MEAN",
    ">VOLATILITY", ">CHANGES", ">HOURS", ">MISSING",
)  # fmt: skip


@click.command(
    short_help="Percentiles over time: for how long at which price.",
    epilog="\b\nExamples:\n"
    "  arbiter prices stats --gpu H100 --spot --sovereignty eu\n"
    "  arbiter prices stats --gpu L4 --by region --since 30d --currency EUR\n"
    "  arbiter prices stats --gpu H100 --from 2026-09-01 --to 2026-10-01 --json",
)
@choosing
@windowed
@split_by
@click.pass_context
def stats(ctx: click.Context, /, as_json: bool, by: str | None, **typed: Any) -> None:
    """Percentiles over time: for how long at which price.

    Every hour of every series weighs the same. A percentile is a price that stood: the lowest one
    at or under which the series were for that share of their time. Volatility is the standard
    deviation of daily logarithmic returns, not annualised.
    """
    from arbiter.prices.stats import stats as answer_of

    with question_of(ctx, **typed) as (market, question):
        answer = answer_of(market, question, by)
    answer_json(answer) if as_json else _print(answer)


def _print(answer: StatsAnswer) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    rows = [
        (
            row.group,
            str(row.series),
            *map(money, (row.min, row.p5, row.p25, row.p50, row.p75, row.p95, row.max, row.mean)),
            "-" if row.volatility is None else f"{row.volatility:.4f}",
            str(row.changes),
            f"{row.hours_covered:,.1f}",
            f"{row.hours_missing:,.1f}",
        )
        for row in answer.rows
    ]
    echo_table(HEADINGS, rows)
    echo_about(answer.about)
