"""`arbiter prices below`: for what share of the time a price was below an amount."""

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
    share,
    split_by,
    windowed,
)

if TYPE_CHECKING:
    from arbiter.prices.stats import BelowAnswer


@click.command(
    short_help="For what share of the time a price was below X.",
    epilog="\b\nExamples:\n"
    "  arbiter prices below 2.50 --gpu H100 --spot --since 90d\n"
    "  arbiter prices below 2.50 --gpu H100 --by region --currency EUR\n"
    "  arbiter prices below --percent 99 --gpu L4 --spot",
)
@click.argument("price", required=False)
@click.option(
    "--percent", default="95", show_default=True, metavar="P",
    help="Also: under which price it was for P % of the time.",
)  # fmt: skip
@choosing
@windowed
@split_by
@click.pass_context
def below(
    ctx: click.Context,
    /,
    price: str | None,
    percent: str,
    as_json: bool,
    by: str | None,
    **typed: Any,
) -> None:
    """For what share of the time a price was strictly below PRICE (per GPU-hour).

    A price says nothing of capacity: that it was low is no promise that a machine could be had.
    """
    from arbiter.prices.question import parse_amount, parse_share
    from arbiter.prices.stats import below as answer_of

    micros = None if price is None else parse_amount(price)
    basis = parse_share(percent)
    with question_of(ctx, **typed) as (market, question):
        answer = answer_of(market, question, micros, basis, by)
    answer_json(answer) if as_json else _print(answer)


def _print(answer: BelowAnswer) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    asked = answer.price is not None
    wanted = (f">BELOW {answer.price}", ">HOURS BELOW") if asked else ()
    headings = ("GROUP", ">SERIES", *wanted, f">{answer.percent:f} % AT", ">HOURS", ">MISSING")
    rows = [
        (
            row.group,
            str(row.series),
            *((share(row.share_below), f"{row.hours_below or 0:,.1f}") if asked else ()),
            money(row.price_at),
            f"{row.hours_covered:,.1f}",
            f"{row.hours_missing:,.1f}",
        )
        for row in answer.rows
    ]
    echo_table(headings, rows)
    echo_about(answer.about)
