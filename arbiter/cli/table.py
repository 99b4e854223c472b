"""Tables: with Rich on a terminal, as plain aligned columns anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def echo_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings. A heading that begins with ">" is of figures.

    Nothing is cut off where the output goes into a file or another program.
    """
    if sys.stdout.isatty():
        _rich(headings, rows)
    else:
        click.echo("\n".join(plain(headings, rows)))


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in aligned columns, two blanks apart."""
    titles = [heading.removeprefix(">") for heading in headings]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    right = [heading.startswith(">") for heading in headings]
    pattern = "  ".join(
        f"{{:{'>' if figures else '<'}{width}}}"
        for figures, width in zip(right, widths, strict=True)
    )
    return [pattern.format(*row).rstrip() for row in (titles, *rows)]


def _rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        figures = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if figures else "left",
            no_wrap=figures,
            overflow="fold",
        )
    for row in rows:
        # As Text: names from a provider must not be read as markup or links.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
