"""`arbiter daemon`: everything at once, until it is told to end."""

from __future__ import annotations

from ipaddress import ip_address

import click

from arbiter.cli.context import app_of


@click.command(
    short_help="Poll, record, decide and act; serve the API and the dashboard.",
    epilog="\b\nExamples:\n"
    "  arbiter daemon\n"
    "  arbiter daemon --port 9400 --json\n"
    "  arbiter daemon --host 0.0.0.0 --allow-host arbiter.internal   # behind a proxy with a login",
)
@click.option("--host", help="Address to listen on.  [default: the settings', 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A host name under which it may be reached, beside localhost. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Log one JSON object a line.")
@click.pass_context
def daemon(
    ctx: click.Context, host: str | None, port: int | None, names: tuple[str, ...], as_json: bool
) -> None:
    """Poll, record, decide and act; serve the API, the dashboard and /metrics.

    Decisions and events are logged to stderr. SIGTERM and Ctrl-C let the decision that is being
    carried out end, and leave the machines as they are: the next daemon finds them. To end the
    machines: arbiter down SERVICE.

    There is no login: whoever reaches the port may read everything. It listens on this machine
    alone unless told otherwise; in front of anything wider belongs a proxy that asks who you are.
    """
    from arbiter.assemble import make_executor
    from arbiter.daemon import Daemon, enabled_providers, listen, serve
    from arbiter.log import Log

    app = app_of(ctx)
    settings = app.settings
    host = host or settings.daemon.host
    log = Log(app.clock, as_json=as_json)
    bound = listen(host, settings.daemon.port if port is None else port)
    store = app.open_store()
    try:
        made = Daemon(
            settings,
            store,
            make_executor(settings),
            enabled_providers(settings),
            app.clock,
            log,
        )
        made.start()
        shown = f"[{host}]" if ":" in host else host
        log("daemon", f"arbiter serves http://{shown}:{bound.getsockname()[1]}")
        if not _is_loopback(host):
            log("daemon", f"listening on {host} without a login: put a proxy in front of it")
        if settings.simulated:
            log("daemon", "SIMULATED: prices and servers are not real")
        serve(made, bound, (*names, *_own_name(host)))
    finally:
        bound.close()
        store.close()
    log("daemon", "ended; the machines run on, and the next daemon finds them")
    if made.lost_lease:
        ctx.exit(1)


def _own_name(host: str) -> tuple[str, ...]:
    """The host itself, where it is a name."""
    try:
        ip_address(host)
    except ValueError:
        return (host,)
    return ()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
