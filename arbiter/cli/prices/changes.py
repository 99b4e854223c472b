"""`arbiter prices changes`: every change of a price, newest first."""

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
    from arbiter.prices.changes import ChangesAnswer

HEADINGS = (
    "AT (UTC)", "KIND", "PROVIDER", "REGION/ZONE", "INSTANCE TYPE", "GPU", "PURCHASE", ">BEFORE",
    ">AFTER", ">CHANGE",
)  # fmt: skip


@click.command(
    short_help="Every change of a price, newest first.",
    epilog="\b\nExamples:\n"
    "  arbiter prices changes --gpu H100 --since 24h\n"
    "  arbiter prices changes --provider azure --spot --since 30d --json",
)
@choosing
@windowed
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Rows; 0 is all."
)
@click.pass_context
def changes(ctx: click.Context, /, as_json: bool, limit: int, **typed: Any) -> None:
    """Every change of a price, newest first.

    "listed" came on sale, "withdrawn" left it, "changed" went from one price to another at once.
    """
    from arbiter.prices.changes import changes as answer_of

    with question_of(ctx, **typed) as (market, question):
        answer = answer_of(market, question, None if as_json or not limit else limit)
    answer_json(answer) if as_json else _print(answer)


def _print(answer: ChangesAnswer) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    if answer.changes:
        echo_table(
            HEADINGS,
            [
                (
                    f"{one.at:%Y-%m-%d %H:%M:%S}",
                    one.kind,
                    one.provider,
                    "/".join(filter(None, (one.region, one.zone))),
                    one.instance_type,
                    f"{one.gpu_count}x {one.gpu}",
                    one.purchase,
                    money(one.before),
                    money(one.after),
                    "" if one.ratio is None else f"{one.ratio:+.1%}",
                )
                for one in answer.changes
            ],
        )
    else:
        click.echo("no price changed")
    if len(answer.changes) < answer.total:
        click.echo(f"the newest {len(answer.changes)} of {answer.total}; all of them: --limit 0")
    echo_about(answer.about)
