"""`arbiter plan`: what the next tick would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from arbiter.cli.context import app_of, complete_either, complete_level

if TYPE_CHECKING:
    from arbiter.cli.app import App
    from arbiter.domain import Service
    from arbiter.store.engine import Store


@click.command(
    short_help="Show what would be done now.",
    epilog="\b\nExamples:\n"
    "  arbiter plan llama70b-awq\n"
    "  arbiter plan chat --replicas 3\n"
    "  arbiter plan llama8b --sovereignty eea --json",
)
@click.argument("name", metavar="MODEL|SERVICE", shell_complete=complete_either)
@click.option(
    "--sovereignty",
    metavar="LEVEL",
    shell_complete=complete_level,
    help="As if this level had been ordered.",
)
@click.option("--replicas", type=click.IntRange(1, 64), help="As if so many had been ordered.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(
    ctx: click.Context, name: str, sovereignty: str | None, replicas: int | None, as_json: bool
) -> None:
    """Show what would be done now for a service, or for a model as a new service.

    Nothing is written or started. The exit code is 0 when there is nothing to do, 2 when there
    are changes, and 1 on an error or where no eligible offer is found.
    """
    from arbiter.cli import working

    app = app_of(ctx)
    store = app.open_store()
    try:
        service = _asked_service(app, store, name, sovereignty, replicas)
        missing = _missing(store)
    finally:
        store.close()
    for line in missing:
        click.echo(line, err=True)
    with working.session(app.settings, app.clock) as session:
        made = session.loop.preview(service)
        ctx.exit(working.show_rehearsed(session, service, made, as_json=as_json))


def _asked_service(
    app: App, store: Store, name: str, sovereignty: str | None, replicas: int | None
) -> Service:
    """The service of that name as it would be, or else a new one for the profile of that name."""
    from dataclasses import replace

    from arbiter.domain import Service
    from arbiter.profiles import load_profile
    from arbiter.sovereignty import parse_level
    from arbiter.store import fleet

    with store.begin() as connection:
        service = fleet.find_service(connection, name)
    if service is None:
        service = Service(name, load_profile(name, app.settings.profiles_path).name)
    elif service.down and name == service.profile:
        service = replace(service, down=False)  # asked by the model's name: as if launched again
    if sovereignty is not None:
        service = replace(service, sovereignty=parse_level(sovereignty).value)
    if replicas is not None:
        service = replace(service, replicas=replicas)
    return service


def _missing(store: Store) -> list[str]:
    """What the plan cannot know of, because a provider is not well."""
    from arbiter.cli.context import degraded
    from arbiter.store.prices import last_polls

    with store.begin() as connection:
        missing = degraded(last_polls(connection))
    return [f"degraded: {one['provider']}: {one['reason']}" for one in missing]
