"""The market that arbiter's own database recorded: real prices, and capacity that is assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from arbiter.backtest.markets import Change, Market, MarketError
from arbiter.backtest.view import Zone
from arbiter.domain import Place, Purchase
from arbiter.prices import chosen
from arbiter.prices.question import Question, Window
from arbiter.prices.steps import weighted
from arbiter.sovereignty import Allowed, judge

if TYPE_CHECKING:
    from arbiter.policy import Policy
    from arbiter.prices.chosen import Chosen
    from arbiter.store.lines import Line

TICK_S = 60
ENOUGH = 100_000
"""Machines that a zone is assumed to give while its price stands."""

Kind = tuple[str, int]
"""A GPU and how many of them are in a machine."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded market, with what plan() needs beside it.

    Attributes:
        places, tiers: of each zone of the market.
        assumed: what is taken for granted, for whoever reads a result.
    """

    market: Market
    places: tuple[Place, ...]
    tiers: tuple[str, ...]
    assumed: tuple[str, ...]


def recorded(
    asked: chosen.Market,
    question: Question,
    policies: Sequence[Policy],
    not_launchable: Mapping[str, str],
) -> Recorded:
    """The spot prices of one kind of machine, where at least one of the policies may go.

    The kind is the one with the most such series; the question may name its GPU.

    Args:
        not_launchable: provider, or provider/tier -> why nothing is launched there.

    Raises:
        ArbiterError: nothing that fits is recorded in the window.
    """
    question = replace(question, currency="USD", per="instance")
    eligible = _eligible(asked, policies, not_launchable)
    spot = chosen.choose(asked, replace(question, purchase=Purchase.SPOT))
    stood = set(spot.steps.line.tolist())
    usable = [n for n, one in enumerate(spot.lines) if n in stood and eligible(one)]
    kind, kinds = _commonest([_kind(spot.lines[n]) for n in usable])
    lines = [n for n in usable if _kind(spot.lines[n]) == kind]
    on_demand = _on_demand(asked, question, kind, eligible)
    unknown = _unknown(spot, lines, question.window.seconds)
    assumed = _assumed(kind, len(lines), kinds, on_demand, unknown)
    about = [spot.lines[line] for line in lines]
    return Recorded(
        replace(_market(kind, spot, lines, question.window, on_demand), notes=assumed),
        tuple(asked.atlas.place(one.provider, one.region) for one in about),
        tuple(one.tier for one in about),
        assumed,
    )


def _eligible(
    asked: chosen.Market, policies: Sequence[Policy], not_launchable: Mapping[str, str]
) -> Callable[[Line], bool]:
    """Whether at least one of the policies may go where a series is from."""

    def eligible(line: Line) -> bool:
        blocked = line.provider in not_launchable
        if blocked or f"{line.provider}/{line.tier}" in not_launchable:
            return False
        place = asked.atlas.place(line.provider, line.region)
        return any(
            policy.allows(Purchase(line.purchase))
            and isinstance(judge(place, policy.sovereignty, line.tier), Allowed)
            for policy in policies
        )

    return eligible


def _commonest(kinds: Sequence[Kind]) -> tuple[Kind, int]:
    """The kind with the most series, of equals the first by name, and how many kinds there are."""
    counts = Counter(kinds)
    if not counts:
        raise MarketError(
            "no recorded spot series may be used under the policy",
            "see why: arbiter offers --spot --refused",
        )
    return max(sorted(counts), key=lambda one: counts[one]), len(counts)


def _unknown(spot: Chosen, lines: Sequence[int], seconds: int) -> float:
    """Share of the hours of these series in which no price stood."""
    priced = int(spot.steps.seconds[np.isin(spot.steps.line, lines)].sum())
    return 1 - priced / (seconds * len(lines))


def _market(
    kind: Kind, spot: Chosen, lines: Sequence[int], window: Window, on_demand: int
) -> Market:
    """A zone for each of these series."""
    begin, seconds = window.begin, window.seconds // TICK_S * TICK_S
    about = [spot.lines[line] for line in lines]
    changes: list[Change] = []
    for number, line in enumerate(lines):
        changes += _changes(number, spot, line, begin, seconds)
    return Market(
        name=f"recorded {kind[0]} x{kind[1]}",
        provider=", ".join(sorted({one.provider for one in about})),
        start=datetime.fromtimestamp(begin, UTC),
        seconds=seconds,
        tick_s=TICK_S,
        on_demand_micros=on_demand,
        zones=tuple(map(_zone, about)),
        changes=tuple(sorted(changes)),
    )


def _assumed(
    kind: Kind, series: int, kinds: int, on_demand: int, unknown: float
) -> tuple[str, ...]:
    others = f", the most of {kinds} kinds: --gpu names another" if kinds > 1 else ""
    gaps = (
        (f"{unknown:.1%} of the hours of these series have no recorded price",) if unknown else ()
    )
    return (
        "assumed: capacity is not recorded, so a zone gives every machine that is asked for while "
        "its price stands, and none where no price stood; real losses and refusals are not in "
        "these figures",
        f"assumed: machines are {kind[0]} x{kind[1]} ({series} spot series{others})",
        f"assumed: on demand costs {on_demand / 1e6:.4f} USD an hour all the time, the least mean "
        "of any eligible series",
        *gaps,
    )


def _kind(line: Line) -> Kind:
    return line.gpu, line.gpu_count


def _zone(line: Line) -> Zone:
    where = "/".join(part for part in (line.provider, line.region, line.zone) if part)
    tier = "" if line.tier == "standard" else f" {line.tier}"
    return Zone(f"{where} {line.instance_type}{tier}", f"{line.provider}/{line.region}")


def _on_demand(
    asked: chosen.Market, question: Question, kind: Kind, eligible: Callable[[Line], bool]
) -> int:
    """The least time-weighted mean of an eligible on-demand series, in micros."""
    bought = chosen.choose(asked, replace(question, purchase=Purchase.ON_DEMAND, gpu=kind[0]))
    means = weighted(bought.steps, bought.steps.line, len(bought.lines)).mean()
    found = [
        mean
        for mean, line in zip(means, bought.lines, strict=True)
        if mean is not None and _kind(line) == kind and eligible(line)
    ]
    if not found:
        raise MarketError(
            f"no on-demand price of {kind[0]} x{kind[1]} is recorded that the policy may use",
            "name another GPU with --gpu, or poll on-demand prices too: arbiter poll",
        )
    return min(found)


def _changes(number: int, spot: Chosen, line: int, begin: int, seconds: int) -> list[Change]:
    """A zone's prices; where none stood it has no capacity, at the price that is next to it."""
    rows = np.flatnonzero(spot.steps.line == line)
    changes: list[Change] = []
    ended = 0
    for row in rows.tolist():
        since = int(spot.steps.begin[row]) - begin
        until = int(spot.steps.end[row]) - begin
        micros = max(1, int(spot.steps.micros[row]))
        if since > ended:
            before = changes[-1].micros if changes else micros
            changes.append(Change(ended, number, 0, before))
        if since < seconds:
            changes.append(Change(since, number, ENOUGH, micros))
        ended = until
    if changes and ended < seconds:
        changes.append(Change(ended, number, 0, changes[-1].micros))
    return changes
