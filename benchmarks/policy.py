"""Spot policies on public traces, side by side: ours, SpotHedge in all its settings, simple ones.

Every run is accounted for twice and checked against the omniscient bound, which none may beat; a
figure that fails either ends the benchmark. The traces are read from ../shared/data/markets, or
from the folder in ARBITER_MARKETS, each a folder of market.json and changes.csv.

Reported for each market and number of replicas: J(20) = cost + 20 x missing, as a share of all
replicas on demand, against the best setting of SpotHedge chosen in hindsight, with a 90 % interval
of the difference over days; the cost against SpotHedge's settings mixed in time to the same
shortage; and J on markets that were disturbed (other names and order of zones, a later start,
moved changes, scaled prices).
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from _report import Row, arguments, report

from arbiter.backtest.conditions import Conditions
from arbiter.backtest.markets import Market, load_market
from arbiter.backtest.panel import Job, run_all
from arbiter.backtest.planned import Planned
from arbiter.backtest.policies import IN_FORCE, named
from arbiter.backtest.score import Result, better, cost_at_missing
from arbiter.backtest.shake import shaken
from arbiter.backtest.view import Factory
from arbiter.cli.table import plain
from arbiter.errors import ArbiterError, UnknownName
from arbiter.policy import Policy

MARKETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "markets"
REPLICAS = {
    "aws-v100-9zones-2023a": (1, 2, 4),
    "aws-v100-3zones-cap4-2023": (1, 4, 8),
    "aws-v100-2zones-2022": (1,),
    "gcp-a100-6zones-cap4": (1, 4),
    "aws-v100-4zones-2023": (1, 2),
}
"""Others in the folder are run for one replica and for four."""
QUICK = ("gcp-a100-6zones-cap4", "aws-v100-3zones-cap4-2023")
HEDGES = ("spothedge:0", "spothedge:1", "spothedge:2")
CAPPED = ("spothedge:0:0.5", "spothedge:1:0.5", "spothedge:2:0.5")
SKYPILOT = ("skypilot:0", "skypilot:1", "skypilot:2")
SIMPLE = ("omniscient", "on-demand", "single-zone", "even-spread", "round-robin")
COLD_S = 360.0
SEEDS = range(1, 4)
HEADINGS = (
    "MARKET", ">N", "POLICY", ">J(20)", ">BOUND", ">COST", ">AVAILABLE", ">MISSING",
    ">LAUNCHES/D", ">LOST/D",
)  # fmt: skip

Cell = tuple[str, int]


def main() -> None:
    """Run, check and report."""
    options = arguments(__doc__)
    began = time.monotonic()
    markets = _markets(quick=options.quick)
    ours = _ours()
    policies: dict[str, str | Factory] = {name: name for name in (*SIMPLE, *HEDGES)}
    policies |= {name: name for name in (*CAPPED, *SKYPILOT)}
    policies |= {IN_FORCE: Planned(Policy())} | ours
    cells = [(market, count) for market in markets for count in _counts(market)]
    jobs = [
        Job(market, policy, count, Conditions(COLD_S), label)
        for market, count in cells
        for label, policy in policies.items()
    ]
    results = _by_cell(run_all(jobs, with_bound=True, progress=_told))
    for line in plain(HEADINGS, [_cells(one) for row in results.values() for one in row.values()]):
        print(line)
    name = next(iter(ours), IN_FORCE)
    rows = [row for cell, row_of in results.items() for row in _rows(cell, row_of, name)]
    rows += _summary(results, name)
    rows += _shaken(cells, policies[name], name, options.quick)
    seconds = time.monotonic() - began
    rows.append(Row("the whole comparison", "cpython", round(seconds, 1), "s", None, None, None,
                    600.0, seconds <= 600))  # fmt: skip
    report(rows, options.json)


def _markets(*, quick: bool) -> list[Market]:
    folder = Path(os.environ.get("ARBITER_MARKETS") or MARKETS)
    names = sorted(path.parent.name for path in folder.glob("*/market.json"))
    found = [name for name in names if not quick or name in QUICK] or names
    if not found:
        raise SystemExit(f"no markets in {folder}; name another folder in ARBITER_MARKETS")
    try:
        return [load_market(folder / name) for name in found]
    except ArbiterError as error:
        raise SystemExit(f"error: {error}") from error


def _counts(market: Market) -> tuple[int, ...]:
    return REPLICAS.get(market.name, (1, 4))


def _ours() -> dict[str, str | Factory]:
    """The project's own policy; without it, plan() under the default policy takes its part."""
    try:
        named("arbiter")
    except UnknownName:
        return {}
    return {"arbiter": "arbiter"}


def _told(done: int, all_: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {all_}", end="\n" if done == all_ else "", file=sys.stderr)


def _by_cell(results: Iterable[Result]) -> dict[Cell, dict[str, Result]]:
    found: dict[Cell, dict[str, Result]] = {}
    for one in results:
        found.setdefault((one.market, one.replicas), {})[one.policy] = one
    return found


def _cells(one: Result) -> tuple[str, ...]:
    return (
        one.market,
        str(one.replicas),
        one.policy,
        f"{one.j:.3f}",
        f"{one.bound:.3f}",
        f"{one.cost:.3f}",
        f"{one.availability:.3%}",
        f"{one.missing:.3%}",
        f"{one.launches:.1f}",
        "-" if one.preemptions is None else f"{one.preemptions:.1f}",
    )


def _row(name: str, value: float, unit: str, peer: str, theirs: float, *, goal: bool = True) -> Row:
    """A comparison in which smaller is better, and the goal is not to be worse."""
    return Row(
        name,
        "cpython",
        round(value, 4),
        unit,
        peer,
        round(theirs, 4),
        round(theirs / value, 3) if value else None,
        round(theirs, 4) if goal else None,
        value <= theirs + 5e-4 if goal else None,
    )


def _rows(cell: Cell, results: Mapping[str, Result], name: str) -> list[Row]:
    """One market and number of replicas."""
    ours, where = results[name], f"{cell[0]} N={cell[1]}"
    assert ours.bound is not None
    settings = [results[one] for one in (*HEDGES, *CAPPED, *SKYPILOT, "on-demand")]
    best = min(settings, key=lambda one: one.j)
    gain = better(ours.days, best.days, 20)
    over = "" if gain is None else f", difference {gain[0]:+.3f} to {gain[2]:+.3f} (90 %)"
    published = min((results[one] for one in HEDGES[:2]), key=lambda one: one.j)
    rows = [
        _row(f"J(20), {where}{over}", ours.j, "of on-demand", f"best: {best.policy}", best.j),
        _row(f"J(20), {where}", ours.j, "of on-demand", published.policy, published.j),
        _row(f"J(20), {where}", ours.j, "of on-demand", "omniscient", ours.bound, goal=False),
    ]
    mixed = cost_at_missing([results[one] for one in (*HEDGES, "on-demand")], ours.missing)
    if mixed is not None:
        rows.append(
            _row(f"cost, {where}, at {ours.missing:.2%} missing", ours.cost, "of on-demand",
                 "SpotHedge mixed in time", mixed)
        )  # fmt: skip
    return rows


def _summary(results: Mapping[Cell, Mapping[str, Result]], name: str) -> list[Row]:
    """Geometric means over all cells."""

    def over_bound(policies: Sequence[str]) -> float:
        """J over the omniscient, the best of the policies in each cell."""
        ratios = []
        for row in results.values():
            bound = row[policies[0]].bound
            assert bound is not None
            ratios.append(min(row[one].j for one in policies) / bound)
        return math.exp(sum(map(math.log, ratios)) / len(ratios))

    ours, text = over_bound([name]), f"J(20) over the omniscient, {len(results)} cells"
    everything = [*HEDGES, *CAPPED, *SKYPILOT, "on-demand"]
    peers = [*HEDGES, *CAPPED, "even-spread", "round-robin", "on-demand", IN_FORCE]
    rows = [_row(text, ours, "x", one, over_bound([one])) for one in peers if one != name]
    rows.append(_row(text, ours, "x", "the best of SpotHedge in each cell", over_bound(everything)))
    return rows


def _shaken(
    cells: Sequence[tuple[Market, int]], ours: str | Factory, name: str, quick: bool
) -> list[Row]:
    """J on disturbed markets, against SpotHedge(0) and (1) on the same."""
    jobs = [
        Job(shaken(market, seed), policy, count, Conditions(COLD_S), label)
        for market, count in cells
        for seed in (SEEDS[:1] if quick else SEEDS)
        for label, policy in ((name, ours), *((one, one) for one in HEDGES[:2]))
    ]
    results = _by_cell(run_all(jobs, progress=_told))
    rows = []
    for peer in HEDGES[:2]:
        pairs = [(row[name].j, row[peer].j) for row in results.values()]
        means = [
            math.exp(sum(map(math.log, side)) / len(side)) for side in zip(*pairs, strict=True)
        ]
        text = f"J(20) on {len(pairs)} disturbed markets, geometric mean"
        rows.append(_row(text, means[0], "of on-demand", peer, means[1]))
    return rows


if __name__ == "__main__":
    main()
