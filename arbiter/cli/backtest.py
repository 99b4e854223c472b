"""`arbiter backtest`: policies on a recorded market, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.context import SIMULATED, app_of, complete_gpu, print_json
from arbiter.cli.durations import seconds

if TYPE_CHECKING:
    from arbiter.backtest.conditions import Conditions
    from arbiter.backtest.markets import Market
    from arbiter.backtest.panel import Job, Progress
    from arbiter.backtest.recorded import Recorded
    from arbiter.backtest.score import Result
    from arbiter.backtest.view import Factory
    from arbiter.cli.app import App
    from arbiter.policy import Policy

HEADINGS = (
    "MARKET", "POLICY", ">N", ">COLD", ">J", ">J 90 %", ">COST", ">BOUND", ">AVAILABLE", ">MISSING",
    ">LAUNCHES/D", ">LOST/D", ">ON DEMAND",
)  # fmt: skip


@click.command(
    short_help="Run policies on a recorded market, side by side.",
    epilog="\b\nExamples:\n"
    "  arbiter backtest --market markets/aws-v100-9zones-2023a --policy spothedge:1 --bound\n"
    "  arbiter backtest --since 90d --gpu L4 --replicas 4 --policy careful.toml\n"
    "  arbiter backtest --market DIR --policy in-force --policy spothedge:0 --picture both.svg\n"
    "  arbiter backtest --market DIR --policy spothedge:0 --json | jq .j",
)
@click.option(
    "--market",
    "folders",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A market's folder; may be repeated.",
)
@click.option("--since", metavar="SPAN", help="Instead: our own recorded prices of 12h, 90d or 8w.")
@click.option("--gpu", metavar="NAME", shell_complete=complete_gpu, help="With --since: this GPU.")
@click.option(
    "--policy",
    "names",
    multiple=True,
    metavar="NAME|FILE",
    help="arbiter, on-demand, single-zone, even-spread, round-robin, spothedge:X[:CAP], "
    "skypilot:X, omniscient, in-force, or a file.toml to compare with the one in force; may be "
    "repeated.  [default: arbiter; with --since in-force]",
)
@click.option(
    "--replicas",
    "counts",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(1,),
    show_default="1",
    help="How many are to be ready; may be repeated.",
)
@click.option(
    "--cold-start", "cold_starts", multiple=True, metavar="[PLACE=]SPAN", default=("6m",),
    show_default="6m", help="From launch to ready: 6m, or us-east-1=10m for a zone or region, or "
    "on-demand=3m; may be repeated.",
)  # fmt: skip
@click.option(
    "--missing-cost",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="On-demand hours that an hour of one missing replica costs.",
)
@click.option(
    "--notice", metavar="SPAN", help="Warning before a machine is taken.  [default: none]"
)
@click.option(
    "--refusal",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of launches refused although there is room.",
)
@click.option("--launch-cost", metavar="USD", default="0", help="What every launch costs besides.")
@click.option("--shake", type=int, metavar="SEED", help="Disturb the market, to see what holds.")
@click.option("--bound", is_flag=True, help="Also compute the least that anyone could reach.")
@click.option("--parquet", metavar="FILE", type=click.Path(path_type=Path), help="Also a table.")
@click.option(
    "--picture", metavar="FILE", type=click.Path(path_type=Path), help="Also .svg, .png or .html."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def backtest(
    ctx: click.Context,
    /,
    folders: tuple[Path, ...],
    since: str | None,
    gpu: str | None,
    names: tuple[str, ...],
    counts: tuple[int, ...],
    as_json: bool,
    bound: bool,
    parquet: Path | None,
    picture: Path | None,
    shake: int | None,
    **how: Any,
) -> None:
    """Run policies on a recorded market, side by side.

    A policy sees its own machines, what was taken from it, the prices and the outcome of each
    launch: never the capacity of a zone, never what comes later. Cost and J are shares of all
    replicas on demand all the time; J is cost + missing cost x missing.

    JSON is an object for one run and a list for several.
    """
    if bool(folders) == bool(since):
        raise click.UsageError("name either --market DIR or --since SPAN", ctx)
    if gpu is not None and since is None:
        raise click.UsageError("--gpu needs --since: a market's machines are all alike", ctx)
    if picture is not None:
        from arbiter.backtest.picture import check_picture

        check_picture(picture)
    from arbiter.backtest.policies import ARBITER

    app = app_of(ctx)
    conditions = _conditions(**how)
    policies = _policies(app, names or ((ARBITER,) if folders else ()))
    recorded = _recorded(app, since, gpu, policies) if since else None
    markets = _markets(folders, shake) if recorded is None else [_shaken(recorded.market, shake)]
    jobs = [
        job
        for market in markets
        for count in counts
        for job in _jobs(market, count, policies, conditions, recorded)
    ]
    results = _run(jobs, bound=bound)
    if parquet is not None:
        from arbiter.backtest.table import write_parquet

        write_parquet(results, parquet)
    if picture is not None:
        _draw(ctx, results, markets, picture)
    _answer(app, results, recorded, as_json=as_json)


# --- what was asked for -----------------------------------------------------------------------


def _conditions(
    cold_starts: tuple[str, ...], missing_cost: float, notice: str | None, refusal: float,
    launch_cost: str,
) -> Conditions:  # fmt: skip
    from arbiter.backtest.conditions import Conditions
    from arbiter.errors import ArbiterError
    from arbiter.money import Price

    plain = [seconds(text) for text in cold_starts if "=" not in text]
    if len(plain) > 1:
        raise ArbiterError(
            "--cold-start is given twice for every place", "name the places: us-east-1=10m"
        )
    pairs = (text.split("=", 1) for text in cold_starts if "=" in text)
    places = {place.strip(): seconds(span) for place, span in pairs}
    try:
        fee = Price.of(Decimal(launch_cost)).micros
    except (InvalidOperation, ValueError):
        raise ArbiterError(
            f"--launch-cost {launch_cost!r} is no amount", "write it in USD: 0.25"
        ) from None
    return Conditions(
        cold_start_s=plain[0] if plain else 360.0,
        cold_starts_s=places,
        missing_cost=missing_cost,
        notice_s=seconds(notice) if notice else 0.0,
        refusal=refusal,
        launch_micros=fee,
    )


def _policies(app: App, names: Sequence[str]) -> list[tuple[str, str | Policy]]:
    """Names to show, each with the name of a policy or with a policy to replay.

    A file is compared with the policy in force, so that one joins it.
    """
    from arbiter.backtest.policies import IN_FORCE, OMNISCIENT, named

    found: dict[str, str | Policy] = {}
    for name in names or (IN_FORCE,):
        is_file = name.endswith(".toml")
        if is_file or name == IN_FORCE:
            found.setdefault(IN_FORCE, app.settings.policy)
        if is_file:
            found[name] = _read_policy(Path(name))
        elif name not in (IN_FORCE, OMNISCIENT):
            named(name)  # a slip is told before anything runs
            found[name] = name
        elif name == OMNISCIENT:
            found[name] = name
    return list(found.items())


def _read_policy(file: Path) -> Policy:
    """The [policy] table of a file, checked as the settings are."""
    from arbiter.errors import SettingsError
    from arbiter.settings import load_settings

    if not file.is_file():
        raise SettingsError(f"there is no policy file {file}", "check the path")
    return load_settings(file, {}).policy


def _markets(folders: Sequence[Path], shake: int | None) -> list[Market]:
    from arbiter.backtest.markets import load_market

    return [_shaken(load_market(folder), shake) for folder in folders]


def _shaken(market: Market, shake: int | None) -> Market:
    if shake is None:
        return market
    from arbiter.backtest.shake import Shaking, shaken

    return shaken(market, shake, Shaking())


def _recorded(
    app: App, since: str, gpu: str | None, policies: Sequence[tuple[str, str | Policy]]
) -> Recorded:
    """The market of the database, of all series that a policy in question may use."""
    from arbiter.backtest.recorded import recorded
    from arbiter.launchable import not_launchable
    from arbiter.policy import Policy
    from arbiter.prices.chosen import Market as Asked
    from arbiter.prices.question import asked

    question = asked(app.now(), since=since, gpu=gpu)
    settings = app.settings
    replayed = [policy for _, policy in policies if isinstance(policy, Policy)]
    store = app.open_store()
    try:
        with store.read() as connection:
            source = Asked(
                connection, app.atlas, settings.policy.sovereignty, app.now(), settings.simulated
            )
            blocked = not_launchable(settings.executor)
            return recorded(source, question, replayed or [settings.policy], blocked)
    finally:
        store.close()


def _jobs(
    market: Market,
    count: int,
    policies: Sequence[tuple[str, str | Policy]],
    conditions: Conditions,
    recorded: Recorded | None,
) -> Iterator[Job]:
    from arbiter.backtest.panel import Job
    from arbiter.backtest.planned import Planned

    for label, policy in policies:
        made: str | Factory
        if isinstance(policy, str):
            made = policy
        elif recorded is None:
            made = Planned(policy)
        else:
            made = Planned(policy, recorded.places, recorded.tiers)
        yield Job(market, made, count, conditions, label)


# --- running and answering --------------------------------------------------------------------


def _run(jobs: Sequence[Job], *, bound: bool) -> list[Result]:
    from arbiter.backtest.panel import run_all

    with _progress() as progress:
        return run_all(jobs, with_bound=bound, progress=progress)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("backtest"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, all_: bar.update(task, completed=done, total=all_)


def _draw(
    ctx: click.Context, results: Sequence[Result], markets: Sequence[Market], file: Path
) -> None:
    from arbiter.backtest.picture import draw

    if len(markets) > 1:
        raise click.UsageError("--picture draws one market at a time", ctx)
    draw(results, markets[0], file)


def _answer(
    app: App, results: Sequence[Result], recorded: Recorded | None, *, as_json: bool
) -> None:
    simulated = app.settings.simulated and recorded is not None
    for note in dict.fromkeys(note for result in results for note in result.notes):
        click.echo(f"note: {note}", err=True)
    if as_json:
        extra: dict[str, Any] = {} if recorded is None else {"assumed": recorded.assumed}
        marked = {"simulated": True} if simulated else {}
        rows = [{**result.as_dict(), **extra, **marked} for result in results]
        print_json(rows[0] if len(rows) == 1 else rows)
        return
    from arbiter.cli.table import echo_table

    if simulated:
        click.echo(SIMULATED)
    echo_table(HEADINGS, [_cells(result) for result in results])
    for line in _beside(results):
        click.echo(line)


def _beside(results: Sequence[Result]) -> Iterator[str]:
    """What each policy would have changed beside the one in force, where that is among them."""
    from arbiter.backtest.policies import IN_FORCE
    from arbiter.backtest.score import beside

    standing = {(one.market, one.replicas): one for one in results if one.policy == IN_FORCE}
    for result in results:
        before = standing.get((result.market, result.replicas))
        if before is not None and result is not before and result.days:
            yield beside(result, before)


def _cells(result: Result) -> tuple[str, ...]:
    from arbiter.backtest.score import bootstrap

    interval = bootstrap(result.days, result.missing_cost)
    return (
        result.market,
        result.policy,
        str(result.replicas),
        f"{result.cold_start_s / 60:g}m",
        f"{result.j:.3f}",
        f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "-",
        f"{result.cost:.3f}",
        "-" if result.bound is None else f"{result.bound:.3f}",
        f"{result.availability:.2%}",
        f"{result.missing:.3%}",
        f"{result.launches:.1f}",
        "-" if result.preemptions is None else f"{result.preemptions:.1f}",
        f"{result.on_demand_share:.1%}",
    )
