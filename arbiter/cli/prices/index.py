"""`arbiter prices index`: a cross-cloud median per GPU-hour, day by day."""

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
    windowed,
)

if TYPE_CHECKING:
    from arbiter.prices.index import IndexAnswer


@click.command(
    short_help="A cross-cloud median per GPU-hour, day by day.",
    epilog="\b\nExamples:\n"
    "  arbiter prices index --gpu H100 --on-demand\n"
    "  arbiter prices index --gpu H100 --spot --sovereignty eu --since 30d --plot\n"
    "  arbiter prices index --gpu L4 --spot --json | jq .constituents",
)
@choosing
@windowed
@click.option(
    "--min-votes", type=click.IntRange(min=1), default=3, show_default=True,
    help="Places that must have a price for a day to have an index.",
)  # fmt: skip
@click.option("--plot", is_flag=True, help="Draw it.")
@click.pass_context
def index(ctx: click.Context, /, as_json: bool, min_votes: int, plot: bool, **typed: Any) -> None:
    """A cross-cloud median per GPU-hour, for each UTC day that is over.

    Each provider and region has one vote, the median of the daily means of its series; the index
    is the median of the votes. A day with too few of them has none.
    """
    from arbiter.prices.index import index as answer_of

    with question_of(ctx, **typed) as (market, question):
        answer = answer_of(market, question, min_votes)
    if as_json:
        answer_json(answer)
    else:
        _print(answer, plot=plot)


def _print(answer: IndexAnswer, *, plot: bool) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    if plot:
        _plot(answer)
    else:
        rows = zip(answer.day, answer.value, answer.low, answer.high, answer.votes, strict=True)
        echo_table(
            ("DAY", ">INDEX", ">LOWEST", ">HIGHEST", ">VOTES"),
            [
                (str(day), money(value), money(low), money(high), str(votes))
                for day, value, low, high, votes in rows
            ],
        )
    click.echo()
    echo_table(
        ("PROVIDER", "REGION", "COUNTRY", ">SERIES", ">DAYS"),
        [
            (one.provider, one.region, one.country or "?", str(one.series), str(one.days))
            for one in answer.constituents
        ],
    )
    echo_about(answer.about)
    click.echo(f"method {answer.method}, at least {answer.min_votes} votes a day")


def _plot(answer: IndexAnswer) -> None:
    from arbiter.cli.prices.plot import Curve, echo_plot

    begin = int(answer.about.begin.timestamp())
    t = [begin + number * 86_400 for number in range(len(answer.day))]
    end = int(answer.about.end.timestamp())
    echo_plot([Curve("index", t, answer.value)], begin, end)
