"""`arbiter prices rates`: the reference rates by which prices are converted."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arbiter.cli.context import app_of, print_json

if TYPE_CHECKING:
    from arbiter.store.rates import Held, Published


@click.command(
    short_help="Reference rates of currencies: list, load, fetch.",
    epilog="\b\nExamples:\n"
    "  arbiter prices rates\n"
    "  arbiter prices rates --fetch\n"
    "  arbiter prices rates --fetch --span all\n"
    "  arbiter prices rates --load eurofxref-hist.csv",
)
@click.option("--fetch", is_flag=True, help="Fetch the European Central Bank's rates, and store.")
@click.option(
    "--span", type=click.Choice(["day", "90d", "all"]), default="90d", show_default=True,
    help="How far back to fetch.",
)  # fmt: skip
@click.option(
    "--endpoint", metavar="URL",
    help="Where to fetch from, instead of the bank.  [default: the setting rates.endpoint]",
)  # fmt: skip
@click.option(
    "--load", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Store the rates of a file: the bank's XML, CSV or ZIP.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def rates(
    ctx: click.Context,
    fetch: bool,
    span: str,
    endpoint: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """The reference rates that are stored; with --fetch or --load, store more of them first.

    They are the European Central Bank's: units of a currency for one euro, of each working day,
    published for information. A day without one takes the last before it.
    """
    from arbiter.prices import ecb
    from arbiter.store.rates import held, write_rates

    app = app_of(ctx)
    brought: list[Published] = []
    if fetch:
        base = endpoint or app.settings.rates.endpoint
        brought += ecb.parse(ecb.fetch(span, base), "the ECB's answer")
    if file is not None:
        brought += ecb.parse(_read(file), str(file))
    store = app.open_store()
    try:
        if brought:
            with store.begin() as connection:
                write_rates(connection, brought, ecb.SOURCE, app.now())
        with store.read() as connection:
            found = held(connection)
    finally:
        store.close()
    if as_json:
        rows = [
            {
                "currency": one.currency,
                "rate": Decimal(one.micros) / 1_000_000,
                "day": one.last,
                "days": one.days,
                "first_day": one.first,
                "source": one.source,
            }
            for one in found
        ]
        print_json({"base": "EUR", "stored": len(brought), "rates": rows})
    else:
        _print(found, len(brought))


def _read(file: Path) -> bytes:
    from arbiter.errors import ArbiterError

    try:
        return file.read_bytes()
    except OSError as error:
        raise ArbiterError(f"{file} cannot be read: {error.strerror}") from error


def _print(found: list[Held], stored: int) -> None:
    from arbiter.cli.table import echo_table

    if stored:
        click.echo(f"{stored} rates stored")
    if not found:
        click.echo("no reference rates are stored; run: arbiter prices rates --fetch")
        return
    echo_table(
        ("CURRENCY", ">FOR 1 EUR", "OF", ">DAYS", "SINCE", "SOURCE"),
        [
            (
                one.currency,
                f"{one.micros / 1_000_000:.4f}",
                str(one.last),
                str(one.days),
                str(one.first),
                one.source,
            )
            for one in found
        ],
    )
