"""The cells of the policy benchmark: markets, replicas and cold starts, each run in a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from arbiter.backtest.arbiter_policy import Arbiter
from arbiter.backtest.bound import Bound, frontier
from arbiter.backtest.conditions import Conditions, demand
from arbiter.backtest.markets import Market, load_market
from arbiter.backtest.planned import Planned
from arbiter.backtest.policies import IN_FORCE, named
from arbiter.backtest.run import SLACK, bounded, grid_of, play
from arbiter.backtest.score import Result
from arbiter.backtest.shake import shaken
from arbiter.backtest.view import Factory, Setting
from arbiter.errors import ArbiterError
from arbiter.policy import Policy
from arbiter.spot.situation import Knobs

MARKETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "markets"
QUICK = ("gcp-a100-6zones-cap4", "aws-v100-3zones-cap4-2023")
REPLICAS = (1, 2, 4, 8)
OFTEN = 0.5
"""A market has the capacity for so many replicas if it gives that many for this share of time."""
V = 20.0
MISSING_COSTS = (V, 5.0, 2.0, 1.5, 1.2, 1.0)
"""V of which the bound at a shortage is put together."""


@dataclass(frozen=True)
class Cell:
    """A market under conditions, and the policies to be run on it.

    Attributes:
        seed: of the disturbance; 0: the market as it is.
        policies: names; "arbiter@V" is ours where a missing replica-hour costs V, and
            "arbiter@A%" ours steered to an availability.
    """

    market: Market
    replicas: int
    cold_s: float
    policies: tuple[str, ...]
    seed: int = 0
    notice_s: float = 0.0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.market.name} N={self.replicas}, cold start {self.cold_s / 60:g} min"


@dataclass(frozen=True)
class Ran:
    """What the policies of a cell came to, and the bounds by V."""

    cell: Cell
    results: Mapping[str, Result]
    bounds: Mapping[float, Bound]

    @property
    def least(self) -> float:
        """The omniscient J(20)."""
        return self.bounds[V].j


def markets(*, quick: bool) -> list[Market]:
    """Those of the folder, by name."""
    folder = Path(os.environ.get("ARBITER_MARKETS") or MARKETS)
    names = sorted(path.parent.name for path in folder.glob("*/market.json"))
    found = [name for name in names if not quick or name in QUICK] or names
    if not found:
        raise SystemExit(f"no markets in {folder}; name another folder in ARBITER_MARKETS")
    try:
        return [load_market(folder / name) for name in found]
    except ArbiterError as error:
        raise SystemExit(f"error: {error}") from error


def counts(market: Market) -> list[int]:
    """The numbers of replicas for which the market has the capacity; one always counts."""
    room = grid_of(market).available.sum(axis=0)
    return [count for count in REPLICAS if count == 1 or (room >= count).mean() >= OFTEN]


def ran(cells: Sequence[Cell]) -> Iterator[Ran]:
    """Run all cells over the cores, the longest first; they come as they were given."""
    with ProcessPoolExecutor(os.cpu_count() or 1, get_context("spawn")) as pool:
        order = sorted(range(len(cells)), key=lambda n: -_work(cells[n]))
        futures: dict[int, Future[Ran]] = {n: pool.submit(_ran, cells[n]) for n in order}
        for done in range(len(cells)):
            yield futures[done].result()
            if sys.stderr.isatty():
                print(f"\r{done + 1} of {len(cells)}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _work(cell: Cell) -> int:
    return cell.market.ticks * len(cell.market.zones) * cell.replicas


def _ran(cell: Cell) -> Ran:
    market = shaken(cell.market, cell.seed) if cell.seed else cell.market
    conditions = Conditions(cell.cold_s, missing_cost=V, notice_s=cell.notice_s)
    setting, steps = conditions.setting(market), demand(cell.replicas, market)
    bounds = frontier(grid_of(market), setting, steps, conditions.warm_up, MISSING_COSTS)
    results = {}
    for name in cell.policies:
        result = play(market, _factory(name), name, cell.replicas, conditions)
        results[name] = replace(bounded(result, bounds[V].j), lives=())
    for v, bound in bounds.items():
        for one in results.values():
            if one.cost + v * one.missing < bound.j - SLACK:
                raise AssertionError(f"{one.policy} on {cell.name} is below the bound for V = {v}")
    return Ran(cell, results, bounds)


def _factory(name: str) -> Factory:
    if name == IN_FORCE:
        return Planned(Policy())
    if not name.startswith("arbiter@"):
        return named(name)
    knob = name.removeprefix("arbiter@")
    if knob.endswith("%"):
        return _ours(Knobs(availability=float(knob[:-1]) / 100))
    return _ours(Knobs(missing_cost=float(knob)))


def _ours(knobs: Knobs) -> Factory:
    def make(setting: Setting) -> Arbiter:
        return Arbiter(setting, knobs)

    return make
