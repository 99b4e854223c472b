"""`arbiter poll`: one poll now, a row per provider."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from arbiter.cli.context import app_of, complete_provider, print_json, why
from arbiter.cli.table import echo_table

if TYPE_CHECKING:
    from arbiter.cli.app import App
    from arbiter.provider import Progress
    from arbiter.store.prices import PollRow

HEADINGS = (
    "PROVIDER", "STATE", ">OFFERS", ">CHANGES", ">WITHDRAWN", ">SKIPPED", ">MALFORMED",
    ">SECONDS", "NOTES",
)  # fmt: skip


@click.command(
    short_help="Ask the providers for their prices now.",
    epilog="\b\nExamples:\n"
    "  arbiter poll\n"
    "  arbiter poll aws azure\n"
    "  arbiter poll --json | jq '.[] | select(.state != \"ok\")'",
)
@click.argument("providers", nargs=-1, metavar="[PROVIDER]...", shell_complete=complete_provider)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def poll(ctx: click.Context, providers: tuple[str, ...], as_json: bool) -> None:
    """Ask the providers for their prices now, and store what changed.

    Without names, all that are enabled. One that fails harms no other; its reason is in its row.
    The exit code is 0 when at least one of them answered.
    """
    app = app_of(ctx)
    names = list(dict.fromkeys(providers)) or _enabled(app)
    rows = sorted(_poll(app, names), key=lambda row: row.provider)
    if as_json:
        from arbiter.explain import poll_dict

        print_json([poll_dict(row) for row in rows])
    else:
        echo_table(HEADINGS, [_cells(row) for row in rows])
        for row in rows:
            _tell_malformed(row)
    if all(row.state == "failed" for row in rows):
        ctx.exit(1)


def _enabled(app: App) -> list[str]:
    from arbiter import registry
    from arbiter.errors import ArbiterError

    names = [name for name in registry.names() if app.settings.provider(name).enabled]
    if not names:
        raise ArbiterError("no provider is enabled", "name one: arbiter poll azure")
    return names


def _poll(app: App, names: Sequence[str]) -> list[PollRow]:
    from arbiter import registry
    from arbiter.ingest import poll_providers

    for name in names:  # a slip is told before the database is made
        registry.load(name, app.settings.provider(name))
    store = app.open_store()
    try:
        with _progress(names) as progress:
            return list(poll_providers(names, app.settings, store, app.clock, progress))
    finally:
        store.close()


@contextmanager
def _progress(names: Sequence[str]) -> Iterator[Mapping[str, Progress]]:
    """A line per provider while they are asked, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield {}
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}"),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task("", total=None, name=name, note="") for name in names}

        def teller(name: str) -> Progress:
            return lambda note: bars.update(tasks[name], note=note[:60])

        yield {name: teller(name) for name in names}


def _cells(row: PollRow) -> tuple[str, ...]:
    return (
        row.provider,
        row.state,
        str(row.offers),
        str(row.changes),
        str(row.withdrawn),
        str(sum(row.skips.values())),
        str(row.malformed),
        f"{(row.finished_at - row.started_at).total_seconds():.1f}",
        why(row),
    )


def _tell_malformed(row: PollRow) -> None:
    """Rows that should not look as they do, and new kinds of them, must not go unnoticed."""
    if row.malformed and row.skips:
        counted = sorted(row.skips.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{count} x {reason}" for reason, count in counted[:6])
        click.echo(f"{row.provider} left out: {shown}", err=True)
