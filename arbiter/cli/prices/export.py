"""`arbiter prices export`: recorded prices into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from arbiter.cli.context import print_json
from arbiter.cli.prices.asking import filtering, question_of, windowed


@click.command(
    short_help="Recorded prices into a file: CSV, Parquet or XLSX.",
    epilog="\b\nExamples:\n"
    "  arbiter prices export --gpu H100 --since 90d -o h100.csv\n"
    "  arbiter prices export --spot --sovereignty eu --from 2026-01-01 -o spot.parquet\n"
    "  arbiter prices export --provider aws --format xlsx -o aws.xlsx --force\n"
    "\b\nThe columns: docs/price-files.md",
)
@filtering
@windowed
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "parquet", "xlsx"]),
    help="[default: as the file's name ends]",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_context
def export(
    ctx: click.Context,
    /,
    kind: str | None,
    output: Path,
    force: bool,
    as_json: bool,
    **typed: Any,
) -> None:  # fmt: skip
    """Every recorded price that stood at some instant of the window, with when it stood.

    A row is one price of one machine, whole instance and per GPU, in the currency it was listed
    in. The file says itself what was asked, when, and in which units. It appears whole or not at
    all.
    """
    from arbiter.cli.progress import bar
    from arbiter.price_files.exported import exported
    from arbiter.price_files.writing import check_target, format_of, write_file

    written_as = format_of(output, kind)
    check_target(output, force=force)
    with question_of(ctx, **typed) as (market, question):
        found = exported(market, question, _query(typed))
        with bar("writing", found.rows) as told:
            write_file(output, written_as, found, told)
    if as_json:
        about = dict(found.about)
        print_json(
            {
                "file": str(output),
                "format": written_as,
                "rows": found.rows,
                "series": len(found.lines),
                "as_of": about["as_of"],
                "from": about["from"],
                "to": about["to"],
            }
        )
        return
    click.echo(f"{output}: {found.rows:,} prices of {len(found.lines):,} series")


_NAMES = {"begin": "from", "end": "to", "zone": "timezone", "countries": "country"}


def _query(typed: dict[str, Any]) -> str:
    """The question as one would type it again."""
    words = []
    for name, value in typed.items():
        option = "--" + _NAMES.get(name, name).removesuffix("s").replace("_", "-")
        if name == "purchase" and value:
            words.append("--" + value.replace("_", "-"))
        elif isinstance(value, tuple):
            words += [f"{option} {one}" for one in value]
        elif value is not None:
            words.append(f"{option} {value}")
    return " ".join(words) or "everything"
