"""`arbiter prices seasonality`: the profile of a week, hour by hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.prices.asking import (
    answer_json,
    choosing,
    echo_about,
    echo_head,
    question_of,
    windowed,
)

if TYPE_CHECKING:
    from arbiter.prices.seasonality import SeasonalityAnswer

DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


@click.command(
    short_help="The profile of a week, hour by hour.",
    epilog="\b\nExamples:\n"
    "  arbiter prices seasonality --gpu H100 --spot --since 26w --timezone Europe/Berlin\n"
    "  arbiter prices seasonality --gpu L4 --spot --sovereignty eu --json",
)
@choosing
@windowed
@click.pass_context
def seasonality(ctx: click.Context, /, as_json: bool, **typed: Any) -> None:
    """The profile of a week, hour by hour: 1.00 is a series' usual price.

    Fewer than eight weeks of prices are refused: a rhythm cannot be told from chance in them.
    """
    from arbiter.prices.seasonality import seasonality as answer_of

    with question_of(ctx, **typed) as (market, question):
        answer = answer_of(market, question)
    answer_json(answer) if as_json else _print(answer)


def _print(answer: SeasonalityAnswer) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    rows = [
        (
            f"{hour:02}:00",
            *(
                "-" if (value := answer.relative[day * 24 + hour]) is None else f"{value:.3f}"
                for day in range(7)
            ),
        )
        for hour in range(24)
    ]
    echo_table(("HOUR", *(f">{day}" for day in DAYS)), rows)
    echo_about(answer.about)
    click.echo(f"price over the same series' mean, {answer.weeks:.1f} weeks")
