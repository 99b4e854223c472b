"""`arbiter doctor`: what works, what is missing, and what to type next."""

from __future__ import annotations

import click

from arbiter.cli.context import app_of, print_json


@click.command(
    short_help="What works, what is missing, and what to type next.",
    epilog="\b\nExamples:\n"
    "  arbiter doctor\n"
    "  arbiter doctor --json | jq '.checks[] | select(.state == \"fail\")'",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check everything that arbiter needs. Nothing is changed.

    The exit code is 0 when arbiter is usable, whatever else could be better.
    """
    from arbiter.doctor import State, examine

    app = app_of(ctx)
    checks = examine(lambda: app.settings, app.now())
    usable = all(check.state is not State.FAIL for check in checks)
    if as_json:
        print_json({"usable": usable, "checks": checks})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = click.style(f"{check.state:<4}", fg=_COLOURS[check.state])
            click.echo(f"{mark}  {check.name:<{width}}  {check.found}")
            if check.next:
                click.echo(f"{'':<{width + 8}}next: {check.next}")
        click.echo("arbiter is usable" if usable else "arbiter is not usable yet")
    if not usable:
        ctx.exit(1)


_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
