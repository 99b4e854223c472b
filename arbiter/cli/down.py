"""`arbiter down`: end a service and every machine of it."""

from __future__ import annotations

import click

from arbiter.cli.context import settings_of


@click.command(
    short_help="End a service and its machines.",
    epilog="\b\nExamples:\n  arbiter down llama70b-awq\n  arbiter down chat --no-wait",
)
@click.argument("service")
@click.option("--no-wait", is_flag=True, help="Return once the order is given.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def down(ctx: click.Context, service: str, no_wait: bool, as_json: bool) -> None:
    """End SERVICE: every replica is terminated, and the command returns when all are gone."""
    from arbiter.cli import working

    with working.session(settings_of(ctx)) as session:
        session.order(service, down=True)
        ctx.exit(working.wait_until_gone(session, service, wait=not no_wait, as_json=as_json))
