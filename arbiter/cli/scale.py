"""`arbiter scale`: how many replicas of a service, and what changes that number."""

from __future__ import annotations

import dataclasses

import click

from arbiter.cli.context import complete_service, settings_of
from arbiter.cli.scaling import (
    Asked,
    first_number,
    refuse_what_needs_the_gateway,
    scaling_options,
)
from arbiter.service_hours import MOST_REPLICAS


@click.command(
    short_help="Change how many replicas of a service run, or what that follows.",
    epilog="\b\nExamples:\n"
    "  arbiter scale chat --replicas 3\n"
    "  arbiter scale chat --min 1 --max 6\n"
    "  arbiter scale chat --min 0 --max 4 --idle 20m --hold 5m\n"
    '  arbiter scale chat --schedule "mon-fri 08:00-20:00 Europe/Berlin = 4"\n'
    "  arbiter scale chat --schedule none",
)
@click.argument("service", shell_complete=complete_service)
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_REPLICAS),
    help="So many, whatever the load and the hour: ends --min, --max and --schedule.",
)
@scaling_options
@click.option("--no-wait", is_flag=True, help="Return once the order is given.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def scale(
    ctx: click.Context,
    service: str,
    replicas: int | None,
    least: int | None,
    most: int | None,
    requests: int | None,
    schedule: tuple[str, ...],
    idle: str | None,
    hold: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Order another number of replicas of SERVICE, or that it follows its load or the hours.

    What is not named stays as it was ordered. With --hold, requests that come while no replica can
    answer wait for the first that can. By load there are as many replicas as the requests of
    the last minute need; one is drained when none of the last five minutes needed it. Exits 0 when
    as many answer as should now.
    """
    from arbiter.cli import working
    from arbiter.errors import ArbiterError
    from arbiter.scaling import Scaling

    asked = Asked(least, most, requests, schedule, idle, hold)
    follows = bool(dataclasses.replace(asked, hold=None))
    if (replicas is not None and follows) or (replicas is None and not asked):
        raise ArbiterError(
            "say either --replicas N, or what the number follows",
            "see: arbiter scale --help",
        )
    settings = settings_of(ctx)
    with working.session(settings) as session:
        known = session.ordered(service)
        if known.down:
            raise ArbiterError(f"{service} is ordered down", f"arbiter launch {known.profile}")
        before = known.scaling or Scaling(min=known.replicas)
        if replicas is not None:
            before = Scaling(min=replicas, hold_s=before.hold_s)
        scaling = asked.over(before)
        refuse_what_needs_the_gateway(settings, scaling)
        number = first_number(scaling, known.replicas, session.clock.now())
        plain = scaling == Scaling(min=number)
        session.scale(service, number, None if plain else scaling)
        ctx.exit(working.wait_until_up(session, service, wait=not no_wait, as_json=as_json))
