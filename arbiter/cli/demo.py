"""`arbiter demo`: the whole job without an account."""

from __future__ import annotations

import sys

import click

from arbiter.cli.context import app_of


@click.command(
    short_help="The daemon on a recorded market, with servers on loopback.",
    epilog="\b\nExamples:\n"
    "  arbiter demo\n"
    "  arbiter demo --speed 300 --port 9400\n"
    "  arbiter demo --duration 60 --no-live",
)
@click.option(
    "--speed",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds of the market in one of yours.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8400, show_default=True)
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), metavar="S", help="End after S seconds."
)
@click.option("--model", default="llama70b-awq", show_default=True, metavar="MODEL")
@click.option("--replicas", type=click.IntRange(1, 8), default=2, show_default=True)
@click.option("--live/--no-live", default=None, help="Live view.  [default: on a terminal]")
@click.pass_context
def demo(
    ctx: click.Context,
    speed: float,
    port: int,
    duration: float | None,
    model: str,
    replicas: int,
    live: bool | None,
) -> None:
    """The daemon on a written market, with servers that really run on this machine.

    No account, no GPU and no network are needed. Prices, servers and money are simulated and
    marked as such; everything between them is arbiter itself. Within the first minute a spot
    machine is taken away. At the end all servers are ended and nothing is kept.
    """
    import threading

    from arbiter.daemon import listen
    from arbiter.demo import folder, screen
    from arbiter.demo.run import Demo

    live = sys.stdout.isatty() if live is None else live
    with listen("127.0.0.1", port) as bound:
        for left in folder.clean_up():
            servers = "1 server" if left.servers == 1 else f"{left.servers} servers"
            screen.say(f"an earlier demo was killed: ended the {servers} it left")
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        journal = screen.Journal(live=live)
        with folder.own_folder() as own:
            running = Demo(
                own, app_of(ctx).clock, journal, speed=speed, model=model, replicas=replicas
            )
            if live:
                from rich.live import Live

                view = screen.LiveView(running, journal, address)
                with Live(view, refresh_per_second=2, screen=False, transient=True):
                    running.run(bound, duration)
            else:
                screen.say(screen.TITLE)
                screen.say(f"page and API: {address}   (Ctrl-C ends it and every server)")
                arguments = (running, running.daemon.ending)
                threading.Thread(target=screen.plain, args=arguments, daemon=True).start()
                running.run(bound, duration)
    tally = running.tally
    screen.say(
        f"ended: {tally.answered} questions were answered, {tally.failed} were not; "
        "no server is left (simulated)"
    )
