"""`arbiter prices`: questions about recorded prices, each command imported only when called."""

from __future__ import annotations

import click

from arbiter.cli import LazyGroup
from arbiter.cli.commands import PRICES


@click.group(
    cls=LazyGroup,
    table=PRICES,
    package="arbiter.cli.prices",
    short_help="What prices were: history, percentiles, index, changes.",
    epilog="\b\nExamples:\n"
    "  arbiter prices stats --gpu H100 --spot --sovereignty eu --since 90d\n"
    "  arbiter prices history --gpu H100 --spot --since 30d --grid 1d --plot\n"
    "  arbiter prices below 2.50 --gpu H100 --since 90d --currency EUR\n"
    "\b\nMore of each: arbiter prices COMMAND --help",
)
def prices() -> None:
    """What prices were, from what is recorded.

    A price stands until it changes, so every figure is weighted by time, never by rows. A window
    begins with the price that was carried into it. Where an offer was not on sale, or was not
    seen, hours are missing: they are counted and told, never filled.
    """
