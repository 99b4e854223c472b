"""`arbiter prices import`: past prices from a provider or from a file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.context import app_of, print_json
from arbiter.cli.progress import bar, notes

if TYPE_CHECKING:
    from arbiter.backfill import Backfilled
    from arbiter.cli.app import App
    from arbiter.price_files.contract import Reading
    from arbiter.price_files.reading import Read
    from arbiter.store.bulk import Written


@click.command(
    "import",
    short_help="Past prices from a provider's own history, or from a file.",
    epilog="\b\nExamples:\n"
    "  arbiter prices import aws\n"
    "  arbiter prices import prices.parquet\n"
    "  arbiter prices import spot.csv --map spot_price_usd=price_hour --tz UTC \\\n"
    "      --set provider=aws --set purchase=spot --set currency=USD\n"
    "\b\nThe columns of a file: docs/price-files.md",
)
@click.argument("source", metavar="PROVIDER|FILE")
@click.option(
    "--map",
    "renamed",
    multiple=True,
    metavar="THEIRS=OURS",
    help="A column of the file is one of ours; may be repeated.",
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="OURS=VALUE",
    help="Every row has this value in one of our columns; may be repeated.",
)
@click.option("--tz", "zone", metavar="NAME", help="What times without an offset are meant in.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a row that cannot be right: import nothing, or leave such rows out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def import_(
    ctx: click.Context,
    source: str,
    renamed: tuple[str, ...],
    values: tuple[str, ...],
    zone: str | None,
    on_error: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Past prices from a provider's own history, or from a file (.csv, .parquet).

    What is recorded already stays as it is: prices are added only where nothing is known yet, so
    importing twice changes nothing. All of an import is seen at once, or nothing of it.
    """
    app = app_of(ctx)
    if _is_file(source):
        from arbiter.price_files.contract import Reading, parse_renamed, parse_value
        from arbiter.prices.question import parse_zone

        reading = Reading(
            tuple(parse_renamed(one) for one in renamed),
            dict(parse_value(one) for one in values),
            None if zone is None else parse_zone(zone),
        )
        answer = _from_file(app, Path(source), reading, on_error)
    else:
        answer = _from_provider(app, source)
    if as_json:
        print_json(answer)
        return
    _print(answer)


def _is_file(source: str) -> bool:
    path = Path(source)
    return bool(path.suffix) or len(path.parts) > 1 or path.exists()


# --- a provider ----------------------------------------------------------------------------------


def _from_provider(app: App, name: str) -> dict[str, Any]:
    from arbiter import registry
    from arbiter.backfill import backfill

    provider = registry.load(name, app.settings.provider(name))
    store = app.open_store()
    try:
        with notes(name) as progress:
            done = backfill(provider, store, app.clock, progress)
    finally:
        store.close()
    return _provider_answer(done)


def _provider_answer(done: Backfilled) -> dict[str, Any]:
    return {
        "source": done.provider,
        **_written(done.written),
        "without_price": 0,
        "left_out": dict(done.skips),
        "lines": [],
        "degraded": list(done.degraded),
    }


# --- a file --------------------------------------------------------------------------------------


def _from_file(app: App, path: Path, reading: Reading, on_error: str) -> dict[str, Any]:
    from arbiter.price_files.machines import Machines
    from arbiter.price_files.reading import extent, read_file
    from arbiter.store import bulk
    from arbiter.store.known import machines
    from arbiter.store.spool import PastPrices

    total = extent(path)
    store = app.open_store()
    now = app.now()
    try:
        with store.read() as connection:
            known = Machines(machines(connection), app.settings.provider)
        with PastPrices() as past:
            with bar("reading", total) as told:
                read = read_file(
                    path, reading, past, now, app.atlas, known, on_error=on_error, told=told
                )
            until = None if read.as_of is None else int(read.as_of.timestamp())
            with bar("writing", read.rows) as told, store.begin() as connection:
                written = bulk.write(connection, past, now, open_until=until, told=told)
    finally:
        store.close()
    return _file_answer(path, read, written)


def _file_answer(path: Path, read: Read, written: Written) -> dict[str, Any]:
    return {
        "source": str(path),
        **_written(written),
        "without_price": read.gaps,
        "left_out": dict(read.left_out.reasons),
        "lines": [{"line": line, "reason": reason} for line, reason in read.left_out.listed],
        "degraded": [],
    }


# --- the answer ----------------------------------------------------------------------------------


def _written(written: Written) -> dict[str, Any]:
    from datetime import UTC, datetime

    def instant(seconds: int | None) -> str | None:
        return (
            None
            if seconds is None
            else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
        )

    dropped = {"too_old": written.too_old, "kept_since": instant(written.kept_since)}
    return {
        "rows": written.brought,
        "prices": written.rows,
        "series": len(written.series_ids),
        "new_series": written.new_series,
        "from": instant(written.since),
        "to": instant(written.until),
        **(dropped if written.too_old else {}),
    }


def _print(answer: dict[str, Any]) -> None:
    rows, prices = answer["rows"], answer["prices"]
    too_old = answer.get("too_old", 0)
    if not prices:
        known = "all of it is known already" if rows else "there is nothing in it"
        known = "it is known already, or too old" if too_old else known
        click.echo(f"{answer['source']}: {rows:,} rows, nothing was written: {known}")
    else:
        click.echo(
            f"{answer['source']}: {rows:,} rows, {prices:,} prices written "
            f"to {answer['series']:,} series ({answer['new_series']:,} of them new), "
            f"{answer['from']} to {answer['to']}"
        )
    if too_old:
        since = f"{answer['kept_since'][:10]}, since when changes are kept (retention.prices_days)"
        click.echo(f"{too_old:,} prices ended before {since}")
    if answer["without_price"]:
        click.echo(f"{answer['without_price']:,} rows have no price: there the price before ends")
    for reason in answer["degraded"]:
        click.echo(f"missing: {reason}", err=True)
    left_out = answer["left_out"]
    if left_out:
        counted = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{count:,} x {reason}" for reason, count in counted[:6])
        click.echo(f"{sum(left_out.values()):,} rows left out: {shown}", err=True)
    for one in answer["lines"]:
        click.echo(f"  line {one['line']}: {one['reason']}", err=True)
    more = sum(left_out.values()) - len(answer["lines"])
    if answer["lines"] and more:
        click.echo(f"  and {more:,} more", err=True)
