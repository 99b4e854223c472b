"""What the questions share: the options that choose series, window and unit, and the last lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arbiter.cli.context import (
    SIMULATED,
    app_of,
    complete_gpu,
    complete_level,
    complete_provider,
    print_json,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from arbiter.prices.chosen import About, Market
    from arbiter.prices.question import Question

Command = TypeVar("Command", bound=Callable[..., Any])

INSTANT = timedelta(seconds=1)
"""The window of an answer about an instant."""

GROUPS = (
    "gpu", "provider", "region", "country", "tier", "purchase", "instance-type", "series",
)  # fmt: skip


def filtering(command: Command) -> Command:
    """The options that choose series."""
    options = (
        click.option("--gpu", metavar="NAME", shell_complete=complete_gpu, help="Only this GPU."),
        click.option(
            "--provider", "providers", multiple=True, metavar="NAME",
            shell_complete=complete_provider, help="Only this provider; may be repeated.",
        ),
        click.option(
            "--region", "regions", multiple=True, metavar="ID",
            help="Only this region of any provider; may be repeated.",
        ),
        click.option(
            "--zone", "zones", multiple=True, metavar="ID",
            help="Only this zone of a region; may be repeated.",
        ),
        click.option(
            "--country", "countries", multiple=True, metavar="CODE",
            help="Only this country (DE); may be repeated.",
        ),
        click.option(
            "--tier", "tiers", multiple=True, metavar="NAME",
            help="Only this tier (secure); may be repeated.",
        ),
        click.option(
            "--instance-type", "instance_types", multiple=True, metavar="NAME",
            help="Only this machine; may be repeated.",
        ),
        click.option("--spot", "purchase", flag_value="spot", help="Only spot."),
        click.option("--on-demand", "purchase", flag_value="on_demand", help="Only on-demand."),
        click.option("--reserved", "purchase", flag_value="reserved", help="Only reserved."),
        click.option(
            "--sovereignty", metavar="LEVEL", shell_complete=complete_level,
            help="Only what passes any, transfer, eea, eu, eu-operator or eu-certified.",
        ),
    )  # fmt: skip
    return _with(command, options)


def choosing(command: Command) -> Command:
    """The options that choose series and unit."""
    options = (
        filtering,
        click.option(
            "--currency", metavar="CODE",
            help="USD, EUR, ... by the reference rate of the day.  [default: the prices' own]",
        ),
        click.option(
            "--per", type=click.Choice(["gpu", "instance"]), default="gpu", show_default=True,
            help="What an hour's price is for.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON: always complete."),
    )  # fmt: skip
    return _with(command, options)


def windowed(command: Command) -> Command:
    """The options that choose the window."""
    options = (
        click.option("--since", metavar="SPAN", help="The last 12h, 90d or 8w.  [default: 90d]"),
        click.option("--from", "begin", metavar="TIME", help="ISO 8601, instead of --since."),
        click.option("--to", "end", metavar="TIME", help="ISO 8601, not included.  [default: now]"),
        zoned,
    )
    return _with(command, options)


zoned = click.option(
    "--timezone", "zone", metavar="NAME",
    help="Whose days and hours count, such as Europe/Berlin.  [default: UTC]",
)  # fmt: skip

split_by = click.option(
    "--by", type=click.Choice(GROUPS), help="One answer for each, instead of one for all."
)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def question_of(ctx: click.Context, **typed: Any) -> Iterator[tuple[Market, Question]]:
    """The market to ask, and the question of what was typed.

    Raises:
        ArbiterError: the question is malformed, or there is no database.
    """
    from arbiter.prices.question import asked

    question = asked(app_of(ctx).now(), **typed)
    with market_of(ctx) as market:
        yield market, question


@contextmanager
def market_of(ctx: click.Context) -> Iterator[Market]:
    """The recorded market, in one reading transaction.

    Raises:
        StoreError: there is no database, or it cannot be read.
    """
    from arbiter.prices.chosen import Market

    app = app_of(ctx)
    settings = app.settings
    store = app.open_store()
    try:
        with store.read() as connection:
            yield Market(
                connection, app.atlas, settings.policy.sovereignty, app.now(), settings.simulated
            )
    finally:
        store.close()


def answer_json(answer: object) -> None:
    """An answer as JSON."""
    print_json(answer)


def echo_head(about: About) -> None:
    """What must be read before the figures."""
    if about.simulated:
        click.echo(SIMULATED)


def echo_about(about: About) -> None:
    """What every answer says of itself, in two lines."""
    window = f"{about.begin:%Y-%m-%d %H:%M} to {about.end:%Y-%m-%d %H:%M} UTC"
    if about.end - about.begin <= INSTANT:
        window = f"at {about.begin:%Y-%m-%d %H:%M:%S} UTC"
    per = "GPU-hour" if about.per == "gpu" else "instance-hour"
    zone = "" if about.time_zone == "UTC" else f", days of {about.time_zone}"
    click.echo()
    click.echo(
        f"{about.currency} per {per}, {window}{zone}; as of {about.as_of:%Y-%m-%d %H:%M} UTC"
    )
    click.echo(
        f"{about.series} series, {about.hours_covered:,.1f} hours covered, "
        f"{about.hours_missing:,.1f} missing (not on sale, or not seen)"
    )
    if about.rate is not None:
        rate = about.rate
        days = (
            f"{rate.first_day}"
            if rate.first_day == rate.last_day
            else (f"{rate.first_day} to {rate.last_day}")
        )
        click.echo(
            f"{', '.join(rate.currencies)} converted at {rate.source or 'unknown'} "
            f"reference rates of {days}"
        )


def money(value: Decimal | float | None) -> str:
    """An amount for a column of figures; "-" where there is none."""
    return "-" if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "-" if value is None else f"{value:.1%}"
