"""`arbiter pause` and `arbiter resume`: observing goes on, acting stops."""

from __future__ import annotations

import click

from arbiter.cli.context import settings_of


@click.command(
    short_help="Stop acting; observing goes on.",
    epilog="\b\nExamples:\n  arbiter pause\n  arbiter pause chat",
)
@click.argument("service", required=False)
@click.pass_context
def pause(ctx: click.Context, service: str | None) -> None:
    """Stop acting for SERVICE, or for all services. What runs goes on running."""
    _order(ctx, service, paused=True)


@click.command(
    short_help="Act again after a pause.",
    epilog="\b\nExamples:\n  arbiter resume\n  arbiter resume chat",
)
@click.argument("service", required=False)
@click.pass_context
def resume(ctx: click.Context, service: str | None) -> None:
    """Act again for SERVICE, or for all services."""
    _order(ctx, service, paused=False)


def _order(ctx: click.Context, service: str | None, *, paused: bool) -> None:
    from arbiter.store import fleet
    from arbiter.store.engine import Store

    store = Store(settings_of(ctx).database_url)
    try:
        with store.begin() as connection:
            names = [service] if service else [one.name for one in fleet.services(connection)]
            for name in names:
                fleet.order(connection, name, paused=paused)
    finally:
        store.close()
    verb = "paused" if paused else "resumed"
    click.echo(f"{verb} {', '.join(names)}" if names else "there are no services")
