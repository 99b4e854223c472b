"""Bars and notes while something takes its time: on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[int], None]
"""Called with how much more has been done."""


@contextmanager
def bar(what: str, total: int) -> Iterator[Told]:
    """A bar with the time that is left."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total or None)
        yield lambda more: bars.advance(task, more)


@contextmanager
def notes(what: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is being done now."""
    if not sys.stderr.isatty():
        yield lambda _note: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda note: status.update(f"{what}  {note[:60]}")
