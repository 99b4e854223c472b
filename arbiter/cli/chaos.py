"""`arbiter chaos`: faults upon a fleet on loopback, and what held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from arbiter.chaos.conductor import Report


@click.command(
    short_help="Bring faults upon a fleet on loopback, and count what they break.",
    epilog="\b\nExamples:\n"
    "  arbiter chaos\n"
    "  arbiter chaos --seeds 50 --seconds 10\n"
    "  arbiter chaos --seed 17 --keep        # one schedule again; its folder stays",
)
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="First seed.")
@click.option("--seed", "only", type=click.IntRange(0), help="This one alone.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=4.0,
    show_default=True,
    help="For how long faults come, for each seed.",
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Instead of --seconds.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the folder of a run that broke something.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def chaos(
    ctx: click.Context,
    seeds: int,
    first: int,
    only: int | None,
    seconds: float,
    minutes: float | None,
    jobs: int,
    keep: bool,
    as_json: bool,
) -> None:
    """Bring faults upon a fleet on loopback, and count what they break.

    The loop, the gateway, the database and the servers are real, the machines and the market are
    simulated. Each seed is a schedule: machines reclaimed with and without notice, launches refused
    and hung, the gateway and the daemon killed, the database cut off, the clock set, a provider
    silent, prices up, a region withdrawn by the rule, machines that come up in another country.
    Meanwhile clients follow streams through the gateway.

    Exits 1 if anything did not hold. Needs Linux and Envoy.
    """
    from arbiter.chaos.campaign import by_invariant, by_outcome, run_seeds
    from arbiter.gateway import binary

    binary.find()
    chosen = [only] if only is not None else list(range(first, first + seeds))
    lasts = seconds if minutes is None else minutes * 60
    reports = []
    for report in run_seeds(chosen, lasts, jobs, keep=keep):
        reports.append(report)
        if not as_json:
            _show(report)
    violations = by_invariant(reports)
    count = sum(violations.values())
    if as_json:
        from arbiter.cli.context import print_json

        print_json(
            {
                "simulated": True,
                "seeds": len(reports),
                "seconds": lasts,
                "requests": by_outcome(reports),
                "excused": sum(one.excused for one in reports),
                "violations": violations,
                "count": count,
                "broken": [_broken(one) for one in reports if one.count],
            }
        )
    else:
        asked = ", ".join(f"{number} {what}" for what, number in by_outcome(reports).items())
        click.echo(f"\n{len(reports)} seeds, requests: {asked}")
        for name, number in violations.items():
            click.echo(f"{number:6}  {name}")
        click.echo(f"{count:6}  violations in all")
    ctx.exit(1 if count else 0)


def _show(report: Report) -> None:
    asked = ", ".join(f"{number} {what}" for what, number in sorted(report.outcomes.items()))
    click.echo(
        f"seed {report.seed}: {len(report.faults)} faults in {report.took_s:.0f} s, {asked} "
        f"({report.excused} with a cause), {report.count} violations"
    )
    if not report.count:
        return
    for fault in report.faults:
        click.echo(f"    {fault}")
    for name, sentences in report.violations.items():
        for sentence in sentences:
            click.echo(f"  ! {name}: {sentence}")
    if report.folder is not None:
        click.echo(f"  its folder: {report.folder}")


def _broken(report: Report) -> dict[str, object]:
    return {
        "seed": report.seed,
        "faults": [str(fault) for fault in report.faults],
        "violations": {name: found for name, found in report.violations.items() if found},
    }
