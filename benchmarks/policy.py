"""Spot policies on public traces, side by side: ours, SpotHedge in all its settings, simple ones.

Every run is accounted for twice and checked against the omniscient bound, which none may beat; a
figure that fails either ends the benchmark. The traces are read from ../shared/data/markets, or
from the folder in ARBITER_MARKETS, each a folder of market.json and changes.csv.

Cells: every market, 1, 2, 4 and 8 replicas where it gives as many for half of the time, cold starts
of 3, 6 and 12 minutes; the same once more with the market disturbed (other names and order of
zones, a later start, moved changes, scaled prices). J(20) = cost + 20 x missing, as a share of all
replicas on demand. All means over cells are geometric.

The cost at an availability is that of our rule under the knob (the value of a missing replica, or
an availability to steer to) that turns out to reach it, two of them mixed in time where it lies
between, over the least cost of anyone who knows the future at that availability. Beside it stands
what the rule does when it is told the availability, and steers to it without such hindsight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

from _policy_cells import Cell, Ran, V, counts, markets, ran
from _policy_speed import speed
from _report import Row, arguments, report

from arbiter.backtest.bound import least_cost
from arbiter.backtest.policies import IN_FORCE
from arbiter.backtest.score import Result, better, cost_at
from arbiter.cli.table import plain

OURS = "arbiter"
HEDGES = ("spothedge:0", "spothedge:1", "spothedge:2")
CAPPED = ("spothedge:0:0.5", "spothedge:1:0.5", "spothedge:2:0.5")
SKYPILOT = ("skypilot:0", "skypilot:1", "skypilot:2")
SIMPLE = ("single-zone", "even-spread", "round-robin")
RIVALS = (*HEDGES, *CAPPED, "on-demand")
"""Of these the best is picked in each cell, afterwards."""
COLD_S = (180.0, 360.0, 720.0)
USUAL_S = 360.0
LEVELS = {0.99: 1.15, 0.995: 1.30, 0.999: 1.8}
"""Availability, and the most that the cost may be of the least possible at it."""
NOTICE_S, NOTICE_COLD_S, NOTICE_LEVEL, NOTICE_GOAL = 120.0, 180.0, 0.999, 1.25
SWEEP = tuple(f"{OURS}@{v}" for v in (1, 5, 10, 40, 120, 400, 1500))
STEERED = {level: f"{OURS}@{level * 100:g}%" for level in LEVELS}
HEADINGS = (
    "MARKET", ">N", ">COLD", "POLICY", ">J(20)", ">BOUND", ">COST", ">AVAILABLE", ">MISSING",
    ">LAUNCHES/D", ">LOST/D",
)  # fmt: skip


def main() -> None:
    """Run, check and report."""
    options = arguments(__doc__)
    began = time.monotonic()
    cells = _cells(quick=options.quick)
    done = list(ran(cells))
    real = [one for one in done if not one.cell.seed and not one.cell.notice_s]
    disturbed = [one for one in done if one.cell.seed]
    noticed = [one for one in done if one.cell.notice_s]
    shown = [one for ran_ in real for one in ran_.results.values() if "@" not in one.policy]
    for line in plain(HEADINGS, [_line(one) for one in shown]):
        print(line)
    usual = [one for one in real if one.cell.cold_s == USUAL_S]
    rows = [row for one in usual for row in _cell_rows(one)]
    rows += _goals(real, "") + _goals(disturbed, " disturbed")
    rows += _means(usual)
    for level, goal in LEVELS.items():
        rows += _available(usual, level, goal, "")
    rows += _available(noticed, NOTICE_LEVEL, NOTICE_GOAL, ", 2 min of notice")
    rows += speed(quick=options.quick)
    seconds = time.monotonic() - began
    rows.append(_goal("the whole comparison", seconds, "s", 600.0))
    report(rows, options.json)


def _cells(*, quick: bool) -> list[Cell]:
    cells = []
    for market in markets(quick=quick):
        for count in counts(market):
            for cold in COLD_S:
                names = (*HEDGES, *CAPPED, *SKYPILOT, "on-demand", OURS)
                if cold == USUAL_S:
                    names += (IN_FORCE, *SIMPLE, *SWEEP, *STEERED.values())
                cells.append(Cell(market, count, cold, names))
                cells.append(Cell(market, count, cold, (*RIVALS, OURS), seed=1))
            told = (*SWEEP, STEERED[NOTICE_LEVEL], "on-demand", OURS)
            cells.append(Cell(market, count, NOTICE_COLD_S, told, notice_s=NOTICE_S))
    return cells


def _line(one: Result) -> tuple[str, ...]:
    return (
        one.market,
        str(one.replicas),
        f"{one.cold_start_s / 60:g}",
        one.policy,
        f"{one.j:.3f}",
        f"{one.bound:.3f}",
        f"{one.cost:.3f}",
        f"{one.availability:.3%}",
        f"{one.missing:.3%}",
        f"{one.launches:.1f}",
        "-" if one.preemptions is None else f"{one.preemptions:.1f}",
    )


def _row(
    name: str, value: float, unit: str, peer: str | None, theirs: float | None, goal: float | None
) -> Row:
    """A comparison in which smaller is better."""
    return Row(
        name,
        "cpython",
        round(value, 4),
        unit,
        peer,
        None if theirs is None else round(theirs, 4),
        None if theirs is None or not value else round(theirs / value, 3),
        None if goal is None else round(goal, 4),
        None if goal is None else value <= goal + 5e-5,
    )


def _goal(name: str, value: float, unit: str, goal: float | None) -> Row:
    return _row(name, value, unit, None, None, goal)


def _mean(ratios: Iterable[float]) -> float:
    logs = [math.log(one) for one in ratios]
    return math.exp(sum(logs) / len(logs))


def _best(one: Ran, names: Sequence[str] = RIVALS) -> Result:
    return min((one.results[name] for name in names), key=lambda result: result.j)


def _cell_rows(one: Ran) -> list[Row]:
    """One market and number of replicas at the usual cold start."""
    ours, best, where = one.results[OURS], _best(one), one.cell.name
    gain = better(ours.days, best.days, V)
    over = "" if gain is None else f", difference {gain[0]:+.3f} to {gain[2]:+.3f} (90 %)"
    rows = [
        _row(f"J(20), {where}{over}", ours.j, "of on-demand", f"best: {best.policy}", best.j,
             1.05 * best.j),
        _row(f"J(20), {where}", ours.j, "of on-demand", "omniscient", one.least, None),
    ]  # fmt: skip
    hedges = [(result.missing, result.cost) for result in map(one.results.get, RIVALS) if result]
    mixed = cost_at(hedges, ours.missing)
    if mixed is not None:
        rows.append(
            _row(f"cost, {where}, at {ours.missing:.2%} missing", ours.cost, "of on-demand",
                 "SpotHedge mixed in time", mixed, mixed)
        )  # fmt: skip
    return rows


def _goals(done: Sequence[Ran], kind: str) -> list[Row]:
    """What the rule is held to, over all cells."""
    text = f"J(20), {len(done)}{kind} cells"

    def mean(over: Callable[[Ran], float]) -> float:
        return _mean(one.results[OURS].j / over(one) for one in done)

    rows = [
        _goal(f"{text}: over the omniscient", mean(lambda one: one.least), "x", 1.40),
        _goal(f"{text}: over SpotHedge(1)", mean(lambda one: one.results[HEDGES[1]].j), "x", 0.60),
        _goal(f"{text}: over the best rival of each, picked afterwards",
              mean(lambda one: _best(one).j), "x", 0.85),
    ]  # fmt: skip
    worst = max(done, key=lambda one: one.results[OURS].j / _best(one).j)
    ratio = worst.results[OURS].j / _best(worst).j
    rows.append(_goal(f"{text}: worst over that best: {worst.cell.name}", ratio, "x", 1.05))
    for cold in COLD_S:
        part = [one for one in done if one.cell.cold_s == cold]
        value = _mean(one.results[OURS].j / one.least for one in part)
        name = f"J(20), {len(part)}{kind} cells at {cold / 60:g} min: over the omniscient"
        rows.append(_goal(name, value, "x", None))
    return rows


def _means(usual: Sequence[Ran]) -> list[Row]:
    """J over the omniscient at the usual cold start, beside everyone else's."""
    ours = _mean(one.results[OURS].j / one.least for one in usual)
    text = f"J(20) over the omniscient, {len(usual)} cells"
    rows = []
    for peer in (*HEDGES, *CAPPED, *SKYPILOT, *SIMPLE, "on-demand", IN_FORCE):
        theirs = _mean(one.results[peer].j / one.least for one in usual)
        rows.append(_row(text, ours, "x", peer, theirs, theirs))
    return rows


def _available(done: Sequence[Ran], level: float, goal: float, more: str) -> list[Row]:
    """The cost at an availability over the least possible there, chosen afterwards and steered."""
    least = [least_cost(one.bounds, 1 - level) for one in done]
    swept = [
        [(1 - r.availability, r.cost) for r in _ours_only(one).results.values()] for one in done
    ]
    costs = [cost for points in swept if (cost := cost_at(points, 1 - level)) is not None]
    assert len(costs) == len(done)  # on demand reaches every level
    steered = [one.results[STEERED[level]] for one in done]
    text, cold = f"{level:.1%} available{more}", done[0].cell.cold_s / 60
    cells = f"{len(done)} cells at {cold:g} min"
    means = sum(one.availability for one in steered) / len(steered)
    return [
        _goal(f"cost over the bound at {text}, {cells}",
              _mean(ours / bound for ours, bound in zip(costs, least, strict=True)), "x", goal),
        _goal(f"cost at {text}, {cells}: the dearest", max(costs), "of on-demand", 1.0),
        _goal(f"cost over the bound when steered to {text}: {means:.2%} reached, {cells}",
              _mean(one.cost / bound for one, bound in zip(steered, least, strict=True)),
              "x", None),
        _goal(f"cost when steered to {text}, {cells}: the dearest",
              max(one.cost for one in steered), "of on-demand", 1.0),
    ]  # fmt: skip


def _ours_only(one: Ran) -> Ran:
    """Ours under every knob, and on demand, which its rule comes to as V grows."""
    mine = {n: r for n, r in one.results.items() if n.startswith(OURS) or n == "on-demand"}
    return Ran(one.cell, mine, one.bounds)


if __name__ == "__main__":
    main()
