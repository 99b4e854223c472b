"""`arbiter migrate`: move a replica by order."""

from __future__ import annotations

import click

from arbiter.cli.context import complete_service, settings_of


@click.command(
    short_help="Move a replica of a service elsewhere, without a gap.",
    epilog="\b\nExamples:\n"
    "  arbiter migrate chat\n"
    "  arbiter migrate chat --to aws/eu-north-1 --dry-run\n"
    "  arbiter migrate chat --to azure --no-wait",
)
@click.argument("service", shell_complete=complete_service)
@click.option(
    "--to",
    "destination",
    metavar="PROVIDER[/REGION]",
    help="Where to.  [default: the cheapest other place]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
@click.option("--no-wait", is_flag=True, help="Return once the order is given.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def migrate(
    ctx: click.Context,
    service: str,
    destination: str | None,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Move the dearest replica of SERVICE that answers to the cheapest offer at the destination.

    The new one is launched, answers, and takes the traffic; only then is the old one drained and
    ended. The same rules hold as for any launch: a place that they refuse is refused here too, with
    the reason. Exits 0 when the old one is gone, and 1 when the new one could not be launched.
    """
    from arbiter.cli import working
    from arbiter.orders import Destination

    to = Destination.parse(destination) if destination else Destination()
    with working.session(settings_of(ctx)) as session:
        plan = session.loop.move(service, to, write=not dry_run)
        if dry_run:
            ctx.exit(working.show_plan(plan, as_json=as_json))
        newcomer = plan.actions[0]
        wait = not no_wait
        ctx.exit(working.wait_until_moved(session, newcomer, wait=wait, as_json=as_json))
