"""`arbiter prices as-of`: what stood at an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.prices.asking import (
    answer_json,
    choosing,
    echo_about,
    echo_head,
    market_of,
    money,
    zoned,
)

if TYPE_CHECKING:
    from arbiter.prices.as_of import AsOfAnswer

HEADINGS = (
    "PROVIDER", "REGION/ZONE", "COUNTRY", "INSTANCE TYPE", "GPU", "PURCHASE", ">PRICE", ">LISTED",
    "SINCE (UTC)",
)  # fmt: skip


@click.command(
    short_help="What stood at an instant.",
    epilog="\b\nExamples:\n"
    "  arbiter prices as-of 2026-09-01 --gpu H100 --spot\n"
    "  arbiter prices as-of 2026-09-01T08:00 --timezone Europe/Berlin --sovereignty eu --json",
)
@click.argument("time", required=False)
@choosing
@zoned
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Rows; 0 is all."
)
@click.pass_context
def as_of(
    ctx: click.Context,
    /,
    time: str | None,
    as_json: bool,
    limit: int,
    zone: str | None,
    **typed: Any,
) -> None:
    """What stood at TIME (ISO 8601; now if it is left out), cheapest first."""
    from arbiter.cli.context import app_of
    from arbiter.prices.as_of import as_of as answer_of
    from arbiter.prices.question import asked_at

    question = asked_at(app_of(ctx).now(), time, zone=zone, **typed)
    with market_of(ctx) as market:
        answer = answer_of(market, question, None if as_json or not limit else limit)
    answer_json(answer) if as_json else _print(answer)


def _print(answer: AsOfAnswer) -> None:
    from arbiter.cli.table import echo_table

    echo_head(answer.about)
    rows = [
        (
            one.provider,
            "/".join(filter(None, (one.region, one.zone))),
            one.country or "?",
            one.instance_type,
            f"{one.gpu_count}x {one.gpu}",
            one.purchase,
            money(one.price),
            f"{one.listed} {one.currency}",
            f"{one.since:%Y-%m-%d %H:%M:%S}",
        )
        for one in answer.prices
    ]
    echo_table(HEADINGS, rows)
    if len(rows) < answer.total:
        click.echo(f"the cheapest {len(rows)} of {answer.total}; all of them: --limit 0")
    echo_about(answer.about)
