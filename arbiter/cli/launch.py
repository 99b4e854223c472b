"""`arbiter launch`: a model becomes a service, and stays one."""

from __future__ import annotations

import re

import click

from arbiter.cli.context import app_of, settings_of
from arbiter.cli.scaling import (
    Asked,
    first_number,
    refuse_what_needs_the_gateway,
    scaling_options,
)
from arbiter.service_hours import MOST_REPLICAS

NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


@click.command(
    short_help="Keep a model running.",
    epilog="\b\nExamples:\n"
    "  arbiter launch llama70b-awq\n"
    "  arbiter launch llama8b --name chat --replicas 2 --tag team=search\n"
    "  arbiter launch llama8b --min 0 --max 4 --hold 5m\n"
    "  arbiter launch llama70b-awq --sovereignty eu-operator --dry-run",
)
@click.argument("model")
@click.option("--name", help="Name of the service.  [default: the model's]")
@click.option(
    "--replicas",
    type=click.IntRange(1, MOST_REPLICAS),
    help="So many; with --max, to begin with.  [default: 1, or --min]",
)
@scaling_options
@click.option("--sovereignty", metavar="LEVEL", help="any, transfer, eea, eu, eu-operator, ...")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
@click.option("--no-wait", is_flag=True, help="Return once the launch is on its way.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def launch(
    ctx: click.Context,
    model: str,
    name: str | None,
    replicas: int | None,
    least: int | None,
    most: int | None,
    requests: int | None,
    schedule: tuple[str, ...],
    idle: str | None,
    hold: str | None,
    sovereignty: str | None,
    tags: tuple[str, ...],
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Keep MODEL running on the cheapest GPU that the rules allow.

    With --max the number of replicas follows the load, with --schedule the hours: arbiter scale.

    Exits 0 when all replicas answer (or, with --no-wait, when their launch is on its way), and 1
    when nothing eligible was found.
    """
    from arbiter.cli import working
    from arbiter.domain import Service
    from arbiter.profiles import load_profile
    from arbiter.scaling import Scaling
    from arbiter.sovereignty import parse_level

    settings = settings_of(ctx)
    profile = load_profile(model, settings.profiles_path)
    level = parse_level(sovereignty).value if sovereignty else None
    scaling, number = None, replicas or 1
    asked = Asked(least, most, requests, schedule, idle, hold)
    if asked:
        scaling = asked.over(Scaling(min=number))
        refuse_what_needs_the_gateway(settings, scaling)
        number = first_number(scaling, number, app_of(ctx).now())
    wanted = Service(
        _name(name or _default_name(model)),
        profile.name,
        number,
        _tags(tags),
        level,
        scaling=scaling,
    )
    with working.session(settings) as session:
        # Before anything is written: what cannot be launched must not stay behind as an order.
        rehearsed = session.rehearse(wanted)
        if dry_run or working.finds_nothing(rehearsed):
            ctx.exit(working.show_rehearsed(session, wanted, rehearsed, as_json=as_json))
        session.add(wanted)
        ctx.exit(working.wait_until_up(session, wanted.name, wait=not no_wait, as_json=as_json))


def _default_name(model: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", model)[:30].strip("-")


def _name(name: str) -> str:
    """A service's name goes into cluster names, labels and URLs."""
    if not NAME.fullmatch(name):
        raise click.BadParameter(
            "use lower-case letters, digits and dashes, at most 30, a letter first",
            param_hint="--name",
        )
    return name


def _tags(pairs: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--tag")
        if not pair.isprintable():
            raise click.BadParameter(f"an unprintable character is in {pair!a}", param_hint="--tag")
        tags[key.strip()] = value
    return tags
