"""`arbiter explain`: why it was decided so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.context import SIMULATED, app_of, complete_service, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy import Connection

    from arbiter.believed import Believed, ColdStart, MeasuredRate
    from arbiter.churn import Churn
    from arbiter.spot.goal import Goal
    from arbiter.store.journal import DecisionRow, Inputs

EVERY = 1_000_000
EARLIER = 5
"""How many older decisions of a service are listed below the newest."""


@click.command(
    short_help="Why it was decided so: the record of a decision.",
    epilog="\b\nExamples:\n"
    "  arbiter explain chat\n"
    "  arbiter explain 4f0c91d2ab37 --replay\n"
    "  arbiter explain chat --replay --all\n"
    "  arbiter explain chat --json | jq .refused_by_rule",
)
@click.argument("subject", metavar="SERVICE|DECISION", shell_complete=complete_service)
@click.option("--replay", is_flag=True, help="Decide again from the stored inputs and compare.")
@click.option("--all", "every", is_flag=True, help="With --replay: every decision of the service.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(ctx: click.Context, subject: str, replay: bool, every: bool, as_json: bool) -> None:
    """Show a decision: what was chosen, the best others with their scores, what each rule refused.

    Of a SERVICE, the newest decision; a DECISION is named by its id or the beginning of one. With
    --replay the exit code is 1 when the stored inputs give another plan, byte for byte; with --all
    that holds for every decision of the SERVICE whose inputs are still kept.
    """
    app = app_of(ctx)
    if every and not replay:
        raise click.UsageError("--all needs --replay: the newest decisions are listed without", ctx)
    store = app.open_store()
    try:
        if every:
            with store.read() as connection:
                ctx.exit(_replay_all(connection, subject, as_json=as_json))
        with store.begin() as connection:
            row, earlier = _found(connection, subject)
            equal = _replayed(connection, row) if replay else None
            given = _given(connection, row)
    finally:
        store.close()
    simulated = app.settings.simulated
    if as_json:
        learnt = {
            "beliefs": _pools(row, given),
            "goal": _goal(row, given),
            "cold_starts": _cold_starts(given),
            "rates": _rates(row, given),
            "demand_tokens_per_s": _demand(given),
        }
        print_json({**_as_dict(row, earlier, equal, simulated=simulated), **learnt})
    else:
        _show(row, earlier, equal, given, simulated=simulated)
    if equal is False:
        ctx.exit(1)


def _found(connection: Connection, subject: str) -> tuple[DecisionRow, Sequence[DecisionRow]]:
    """The decision in question, and the older ones where a service was named."""
    from arbiter.errors import UnknownName
    from arbiter.store import fleet, journal

    if fleet.find_service(connection, subject) is not None:
        rows = journal.decisions(connection, subject, limit=1 + EARLIER)
        if not rows:
            raise UnknownName(
                f"nothing was decided yet for {subject!r}", "start the daemon: arbiter daemon"
            )
        return rows[0], rows[1:]
    try:
        return journal.get_decision(connection, subject), ()
    except UnknownName as error:
        raise UnknownName(
            f"no service is called {subject!r}, and {error.message}", _hint(connection, subject)
        ) from None


def _hint(connection: Connection, subject: str) -> str:
    from difflib import get_close_matches

    from arbiter.store import fleet

    near = get_close_matches(subject, [one.name for one in fleet.services(connection)], 1)
    return f"did you mean {near[0]}?" if near else "see: arbiter status"


def _replayed(connection: Connection, row: DecisionRow) -> bool:
    """Whether plan() on the stored inputs gives the stored plan."""
    from arbiter.replay import replay
    from arbiter.store import journal

    again = replay(journal.inputs(connection, row.id))
    return journal.encode(again) == journal.encode(row.plan)


def _replay_all(connection: Connection, service: str, *, as_json: bool) -> int:
    """Decide everything of a service again; the exit code: 1 where one plan differs."""
    from arbiter.errors import ArbiterError
    from arbiter.store import fleet, journal

    fleet.get_service(connection, service)
    same, gone = 0, 0
    others: list[DecisionRow] = []
    for row in journal.decisions(connection, service, limit=EVERY):
        try:
            equal = _replayed(connection, row)
        except ArbiterError:
            gone += 1
            continue
        same += equal
        if not equal:
            others.append(row)
    if as_json:
        named = [{"id": one.id, "at": one.at, "version": one.version} for one in others]
        print_json({"service": service, "equal": same, "other": named, "not_kept": gone})
        return 1 if others else 0
    lost = f"; of {gone} more what they were made from is no longer kept" if gone else ""
    click.echo(f"{same} of {same + len(others)} decisions are the same, byte for byte{lost}")
    for one in others:
        click.echo(f"  {one.id}  {one.at:%Y-%m-%d %H:%M:%S} UTC  {_outcome(one, False)}")
    return 1 if others else 0


def _as_dict(
    row: DecisionRow, earlier: Sequence[DecisionRow], equal: bool | None, *, simulated: bool
) -> dict[str, Any]:
    from arbiter.explain import decision_dict

    marked = {"simulated": True} if simulated else {}
    replayed = {} if equal is None else {"replay_equal": equal}
    older = [{"id": one.id, "at": one.at, "sentence": one.sentence} for one in earlier]
    return {**decision_dict(row), **marked, **replayed, "earlier": older}


def _given(connection: Connection, row: DecisionRow) -> Inputs | None:
    """What the decision was made from; None where that is no longer kept."""
    from arbiter.errors import ArbiterError
    from arbiter.store import journal

    try:
        return journal.inputs(connection, row.id)
    except ArbiterError:
        return None


def _pools(row: DecisionRow, given: Inputs | None) -> list[Believed]:
    from arbiter.believed import believed

    offers = [one.quote.offer for one in row.plan.candidates]
    return [] if given is None else believed(given.beliefs, row.at, offers)


def _cold_starts(given: Inputs | None) -> list[ColdStart]:
    from arbiter.believed import cold_starts

    if given is None:
        return []
    model, assumed_s = given.fleet.profile.name, given.policy.cold_start_s
    return cold_starts(given.beliefs, model, assumed_s)


def _churn(row: DecisionRow, given: Inputs | None) -> Churn | None:
    from arbiter.churn import churn

    if given is None:
        return None
    return churn(given.policy, given.fleet.losses, given.fleet.service.replicas, row.at)


def _rates(row: DecisionRow, given: Inputs | None) -> list[MeasuredRate]:
    from arbiter.believed import measured_rates

    if given is None:
        return []
    return measured_rates(given.beliefs, given.fleet.profile.name, row.at)


def _demand(given: Inputs | None) -> Decimal | None:
    """Output tokens per second that were counted on for each replica; None: full load."""
    from arbiter.planner import demand

    return None if given is None else demand(given.fleet)


def _goal(row: DecisionRow, given: Inputs | None) -> Goal | None:
    return None if given is None else given.beliefs.goals.get(row.service)


def _show(
    row: DecisionRow,
    earlier: Sequence[DecisionRow],
    equal: bool | None,
    given: Inputs | None,
    *,
    simulated: bool,
) -> None:
    from arbiter.believed import believed_lines, cold_line, goal_line, rate_line
    from arbiter.explain import decision_lines

    if simulated:
        click.echo(SIMULATED)
    for line in decision_lines(row):
        click.echo(line)
    held = _churn(row, given)
    if held is not None:
        click.echo(f"  {held}")
    goal, pools = _goal(row, given), _pools(row, given)
    if goal is not None:
        click.echo(f"  {goal_line(goal)}")
    for cold in _cold_starts(given):
        click.echo(f"  {cold_line(cold)}")
    for rate in _rates(row, given):
        click.echo(f"  {rate_line(rate)}")
    asked = _demand(given)
    if asked is not None:
        click.echo(f"  ranked at {asked} output tokens/s, which each replica is asked for at most")
    if pools:
        click.echo("  believed of spot")
    for line in believed_lines(pools):
        click.echo(f"    {line}")
    if equal is not None:
        click.echo(f"  replay: {_outcome(row, equal)}")
    if earlier:
        click.echo("  earlier")
    for one in earlier:
        click.echo(f"    {one.id}  {one.at:%Y-%m-%d %H:%M:%S} UTC  {one.sentence}")


def _outcome(row: DecisionRow, equal: bool) -> str:
    from arbiter import __version__

    if equal:
        return "the stored inputs give the same plan, byte for byte"
    other = "" if row.version == __version__ else f"; it was made by arbiter {row.version}"
    return f"the stored inputs give ANOTHER plan{other}"
