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


_WORDS = 14
"""Characters that the last column keeps on a narrow terminal."""


def _rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Names and figures stay on one line; the last column, for words, takes what is left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    last = len(headings) - 1
    for number, heading in enumerate(headings):
        figures = heading.startswith(">")
        longest = max(len(row[number]) for row in rows)
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if figures else "left",
            no_wrap=number != last,
            # On a narrow terminal names are cut, never figures.
            min_width=longest if figures else min(longest, _WORDS) if number == last else None,
        )
    for row in rows:
        # As Text: names from a provider must not be read as markup or links.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
