"""`arbiter offers`: what may be rented now, cheapest first. The quick path of the command line."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.context import (
    SIMULATED,
    app_of,
    complete_gpu,
    complete_level,
    complete_model,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arbiter.cli.asked import Asked, Row
    from arbiter.domain import OfferKey, Quote, RefusedOffer

    Signals = Mapping[OfferKey, list[dict[str, Any]]]

HEADINGS = (
    "PROVIDER", "REGION/ZONE", "COUNTRY", "INSTANCE TYPE", "GPU", "PURCHASE", ">USD/H",
    ">TOK/S", ">USD/MTOK", ">AGE", "OPERATOR",
)  # fmt: skip

EXPLAINED = 3
"""Offers whose sizing is shown, the cheapest."""

SIGNAL_HEADINGS = ("WHERE", "INSTANCE TYPE", "PURCHASE", "SIGNAL", ">FIGURE", "UNIT", ">AGE")


@click.command(
    short_help="Eligible offers now, cheapest first.",
    epilog="\b\nExamples:\n"
    "  arbiter offers llama70b-awq\n"
    "  arbiter offers llama70b-awq --sovereignty eu-operator --refused\n"
    "  arbiter offers --gpu H100 --spot --limit 5\n"
    "  arbiter offers llama8b --json | jq '.offers[0]'",
)
@click.argument("model", required=False, shell_complete=complete_model)
@click.option("--gpu", metavar="NAME", shell_complete=complete_gpu, help="Only this GPU.")
@click.option(
    "--sovereignty",
    metavar="LEVEL",
    shell_complete=complete_level,
    help="any, transfer, eea, eu, eu-operator or eu-certified, instead of the policy's.",
)
@click.option("--spot", "purchase", flag_value="spot", help="Only spot.")
@click.option("--on-demand", "purchase", flag_value="on_demand", help="Only on-demand.")
@click.option("--refused", is_flag=True, help="Also list what was refused, by rule.")
@click.option("--explain", is_flag=True, help="Show how the first offers were sized.")
@click.option("--signals", is_flag=True, help="Show what the providers say of capacity.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Rows; 0 is all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: always complete.")
@click.pass_context
def offers(
    ctx: click.Context,
    model: str | None,
    gpu: str | None,
    sovereignty: str | None,
    purchase: str | None,
    refused: bool,
    explain: bool,
    signals: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Eligible offers now, cheapest first.

    With MODEL by dollars per million output tokens, and only where it fits; without, by dollars
    per GPU-hour. An offer that a rule leaves out is never dropped in silence: it is counted, and
    --refused and --json list it with the rule and the reason.
    """
    from arbiter.cli.asked import ask

    if explain and model is None:
        raise click.UsageError("--explain needs a MODEL: without one nothing is sized", ctx)
    # All that is made here lives to the end: collecting garbage would cost a tenth of the time.
    gc.disable()
    try:
        asked = ask(
            app_of(ctx), model, gpu, purchase, sovereignty,
            only_count=not (refused or as_json),
        )  # fmt: skip
        found = _signals(ctx, asked) if signals else None
        if as_json:
            _print_json(asked, found, explain=explain)
        else:
            _print(asked, limit, refused=refused, explain=explain)
            if found is not None:
                _print_signals(asked, found, limit)
    finally:
        gc.enable()


def _signals(ctx: click.Context, asked: Asked) -> Signals:
    from arbiter.store.quick_signals import read_signals
    from arbiter.store.quotes import open_quick

    query = open_quick(app_of(ctx).settings.database_url)
    return read_signals(query, (row[0].offer for row in asked.rows))


def _print_signals(asked: Asked, found: Signals, limit: int) -> None:
    """What the providers say of the offers shown, each in its own unit."""
    from arbiter.cli.table import echo_table
    from arbiter.offer_shapes import age

    lines = [
        (
            row[0].offer.where,
            row[0].offer.instance_type,
            row[0].offer.purchase.value,
            one["kind"],
            _figure(one),
            one["unit"],
            age(asked.now, one["measured_at"]),
        )
        for row in asked.rows[: limit or None]
        for one in found.get(row[0].offer.key, ())
    ]
    click.echo()
    if lines:
        echo_table(SIGNAL_HEADINGS, lines)
    else:
        click.echo("the providers say nothing of the capacity of these offers")


def _figure(one: dict[str, Any]) -> str:
    """The provider's own word, or its figure; a bound that it leaves open is not made up."""
    low, high = ("" if one[side] is None else f"{one[side]:g}" for side in ("low", "high"))
    figure = low if low == high else f"{low}..{high}"
    return " ".join(part for part in (one["text"], figure) if part) or "-"


def _print_json(asked: Asked, signals: Signals | None = None, *, explain: bool = False) -> None:
    from arbiter.cli.context import print_json
    from arbiter.offer_shapes import refused_dict

    marked = {"simulated": True} if asked.simulated else {}
    print_json(
        {
            "as_of": asked.now,
            "policy": asked.policy_dict(),
            **marked,
            "offers": [_offer(row, signals) for row in asked.rows],
            "refused": [refused_dict(one) for one in asked.refused],
            "degraded": asked.degraded,
            **_sizing_dicts(asked, explain=explain),
        }
    )


def _sizing_dicts(asked: Asked, *, explain: bool) -> dict[str, Any]:
    if not explain:
        return {}
    from arbiter.cli.sizing_lines import sizings

    return {"sizing": [one.as_dict() for one in sizings(asked, asked.rows)]}


def _offer(row: Row, signals: Signals | None) -> dict[str, Any]:
    from arbiter.offer_shapes import offer_dict

    shown = offer_dict(*row)
    if signals is not None:
        shown["signals"] = signals.get(row[0].offer.key, [])
    return shown


def _print(asked: Asked, limit: int, *, refused: bool, explain: bool) -> None:
    from arbiter.cli.table import echo_table

    if asked.simulated:
        click.echo(SIMULATED)
    shown = asked.rows[: limit or None]
    if shown:
        echo_table(HEADINGS, [_cells(asked, row) for row in shown])
        click.echo()
    if explain:
        _print_sizing(asked, shown[:EXPLAINED])
    if refused:
        _print_refused(asked, limit)
    _print_footer(asked, len(shown))


def _cells(asked: Asked, row: Row) -> tuple[str, ...]:
    from arbiter.offer_shapes import age

    quote, cost, speed, marks, _ = row
    offer = quote.offer
    return (
        offer.provider,
        f"{offer.region}/{offer.zone}" if offer.zone else offer.region,
        offer.place.country or "?",
        offer.instance_type,
        f"{offer.gpu} x{offer.gpu_count}",
        " ".join((offer.purchase.value, *(f"({mark})" for mark in marks))),
        _money(quote),
        str(speed) if speed is not None else "-",
        str(cost) if cost is not None else "-",
        age(asked.now, quote.observed_at),
        f"{offer.place.operator or 'unknown'} ({offer.place.operator_country or '?'})",
    )


def _money(quote: Quote) -> str:
    """Dollars per hour with four decimals; more only where they say something."""
    if quote.price is None:
        return "?"
    micros = quote.price.micros
    return f"{quote.price.amount:.6f}" if micros % 100 else f"{quote.price.amount:.4f}"


def _print_sizing(asked: Asked, rows: Sequence[Row]) -> None:
    """How these offers were sized, once for each kind of machine, and what each costs."""
    from arbiter.cli.sizing_lines import sizings

    for one in sizings(asked, rows):
        for line in one.lines():
            click.echo(line)
        click.echo()


def _print_refused(asked: Asked, limit: int) -> None:
    """What was refused, the most frequent rule first; equal reasons once, with their number."""
    rules = Counter(one.rule for one in asked.refused)
    for rule, count in rules.most_common():
        click.echo(f"refused by {rule}: {count}")
        lines = Counter(_refused_line(one) for one in asked.refused if one.rule == rule)
        for line, times in list(lines.items())[: limit or None]:
            click.echo(f"  {line}{f' ({times} offers)' if times > 1 else ''}")
        more = len(lines) - limit
        if limit and more > 0:
            click.echo(f"  and {more} more: --limit 0 shows all")
    if rules:
        click.echo()


def _refused_line(one: RefusedOffer) -> str:
    """What was refused, and why: all machines of a region that share the reason are one line."""
    offer = one.offer
    if one.rule in _OF_THE_MACHINE:
        return f"{offer.where}  {offer.instance_type} {offer.purchase}: {one.reason}"
    if one.rule in _OF_THE_GPU:
        return f"{offer.gpu} x{offer.gpu_count}: {one.reason}"
    where = f"{offer.provider}/{offer.region}"
    return one.reason if where in one.reason else f"{where}: {one.reason}"


_OF_THE_GPU = frozenset(
    {
        "gpu_unknown",
        "gpu_not_supported",
        "gpu_not_in_profile",
        "does_not_fit",
        "below_quality_floor",
    }
)
_OF_THE_MACHINE = frozenset(
    {"price_unknown", "price_above_cap", "capacity_refused", "currency_unconverted"}
)


def _print_footer(asked: Asked, shown: int) -> None:
    from arbiter.calibration import Basis
    from arbiter.offer_shapes import by_rule

    eligible = len(asked.rows)
    what = asked.profile.name if asked.profile else "any model"
    level = asked.policy.sovereignty.level
    cut = f", the first {shown} shown" if shown < eligible else ""
    click.echo(
        f"{eligible} eligible for {what} at sovereignty {level}{cut}; "
        f"as of {asked.now:%Y-%m-%d %H:%M:%S} UTC"
    )
    known = Counter(row[4].basis for row in asked.rows if row[4].basis is not Basis.ESTIMATED)
    if known:
        rates = " and ".join(f"{count} {basis}" for basis, count in sorted(known.items()))
        click.echo(f"{rates} by what servers counted, the other rates are estimates: --explain")
    counts = asked.refused_by_rule()
    if counts:
        click.echo(f"{sum(counts.values())} refused: {by_rule(counts)}")
    for one in asked.degraded:
        click.echo(f"degraded: {one['provider']}: {one['reason']}", err=True)
    if counts.get("stale") and not eligible:
        click.echo("the stored prices are old; run: arbiter poll", err=True)
