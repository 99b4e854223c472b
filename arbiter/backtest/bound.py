"""The omniscient bound: the least that anyone could pay who knows every price and capacity.

A linear programme over the ticks of a window, solved by HiGHS. For each place p (the zones, and on
demand) and tick t: ready stock R[p,t], launches L[p,t], and the shortage S[t].

    minimise  sum price[p,t] R[p,t] + (price over the cold start) L[p,t] + V x on_demand x S[t]
    with      R[p,t] <= R[p,t-1] + L[p,t-D]          stock only grows by what was launched
              sum_p R[p,t] + S[t] >= N[t]
              R[p,t] + (launched and not ready) <= available[p,t]

Every run of any policy is a feasible point that costs no more than the run: machines may be held
in fractions, ended and chosen with foresight, launches that would not live to be ready need not be
made, and every window begins with any stock for nothing (what is still starting is paid from the
window's beginning). So the sum over the windows is a lower bound. With V it bounds J(V); without
one, S is zero, and it bounds the cost of whoever is never short. For whoever misses no more than m,
cost >= J(V) - V m, whatever V: the largest of these over some V bounds the cost at that shortage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arbiter.backtest.accounts import wanted
from arbiter.backtest.grid import Grid, Whole
from arbiter.backtest.view import Setting
from arbiter.errors import ArbiterError

WINDOW = 1440
"""Ticks in a window. Longer ones are tighter by the free stock of fewer beginnings."""

Real = NDArray[np.float64]


class BoundError(ArbiterError):
    """The bound could not be computed."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The optimum over the measured ticks.

    Attributes:
        j: the bound, as a share of all-on-demand: cost + V x missing.
        cost, missing, availability: of the optimum.
        launches: machines launched, fractions included, without the free stock of windows.
        on_demand_share: of the machine-time paid for.
    """

    j: float
    cost: float
    missing: float
    availability: float
    launches: float
    on_demand_share: float


@dataclass(slots=True)
class _Window:
    """What a window adds up to: machine-ticks of on-demand price, and counts."""

    paid: float = 0.0
    short: float = 0.0
    met: float = 0.0
    launches: float = 0.0
    on_demand: float = 0.0
    held: float = 0.0


def bound(
    grid: Grid,
    setting: Setting,
    demand: Sequence[tuple[int, int]],
    warm_up: int,
    *,
    never_short: bool = False,
    window: int = WINDOW,
) -> Bound:
    """The omniscient bound on J(setting.missing_cost), or on the cost of the never short.

    Raises:
        BoundError: the solver is not installed or found no optimum.
    """
    v = setting.missing_cost
    return _solved(grid, setting, demand, warm_up, (v,), window, never_short)[v]


def frontier(
    grid: Grid,
    setting: Setting,
    demand: Sequence[tuple[int, int]],
    warm_up: int,
    missing_costs: Sequence[float],
    *,
    window: int = WINDOW,
) -> dict[float, Bound]:
    """The omniscient bound for each of several V: quicker than one by one.

    Raises:
        BoundError: the solver is not installed or found no optimum.
    """
    return _solved(grid, setting, demand, warm_up, missing_costs, window, never_short=False)


def least_cost(bounds: Mapping[float, Bound], missing: float) -> float:
    """The least cost of whoever misses no more than this share, as far as these V can tell.

    It is below the true one by no more than what lies between two neighbouring V. A policy with
    an availability of A misses at most 1 - A, so it is a bound at that availability, too.
    """
    return max(0.0, *(one.j - v * missing for v, one in bounds.items()))


def _solved(
    grid: Grid,
    setting: Setting,
    demand: Sequence[tuple[int, int]],
    warm_up: int,
    missing_costs: Sequence[float],
    window: int,
    never_short: bool,
) -> dict[float, Bound]:
    needed = wanted(demand, grid.ticks)
    sums = {v: _Window() for v in missing_costs}
    for begin in range(warm_up, grid.ticks, window):
        end = min(begin + window, grid.ticks)
        programme = _Programme(grid, setting, needed, begin, end, never_short)
        for v, one in programme.solve(missing_costs).items():
            _add(sums[v], one)
    asked, ticks = float(needed[warm_up:].sum()), grid.ticks - warm_up
    return {v: _summed(one, v, asked, ticks) for v, one in sums.items()}


def _summed(sums: _Window, missing_cost: float, asked: float, ticks: int) -> Bound:
    cost, missing = sums.paid / asked, sums.short / asked
    return Bound(
        j=cost + missing_cost * missing,
        cost=cost,
        missing=missing,
        availability=sums.met / ticks,
        launches=sums.launches,
        on_demand_share=sums.on_demand / sums.held if sums.held else 0.0,
    )


def _add(sums: _Window, one: _Window) -> None:
    for name in _Window.__slots__:
        setattr(sums, name, getattr(sums, name) + getattr(one, name))


class _Programme:
    """One window as columns R, then L, then S, each by place and tick."""

    def __init__(
        self,
        grid: Grid,
        setting: Setting,
        needed: Whole,
        begin: int,
        end: int,
        never_short: bool,
    ) -> None:
        self._needed = needed[begin:end].astype(float)
        self._span = span = end - begin
        self._places = places = len(setting.zones) + 1
        self._delays = (*setting.cold_starts, setting.on_demand_cold_start)
        od = setting.on_demand_micros
        most = float(self._needed.max())
        self._room = np.full((places, span), most)
        self._room[:-1] = np.minimum(grid.available[:, begin:end], most)
        self._price = np.ones((places, span))
        self._price[:-1] = grid.micros[:, begin:end] / od
        self._launch_cost = np.zeros((places, span))
        self._launch_room = np.full((places, span), most)
        for place, delay in enumerate(self._delays):
            self._starts(grid, place, delay, begin)
        self._short_room = 0.0 if never_short else most

    def _starts(self, grid: Grid, place: int, delay: int, begin: int) -> None:
        """Cost and room of the launch that is ready in each tick of the window.

        Only what is paid within the window counts: its beginning cuts off the rest.
        """
        before = np.concatenate([[0.0], np.cumsum(self._price[place])])
        ready = np.arange(self._span)
        self._launch_cost[place] = before[ready] - before[np.maximum(ready - delay, 0)]
        if place == self._places - 1:
            return
        lowest = np.array(self._room[place])
        for back in range(1, delay + 1):
            at = begin + ready - back
            there = np.where(at >= 0, grid.available[place, np.maximum(at, 0)], lowest)
            lowest = np.minimum(lowest, there)
        self._launch_room[place] = lowest

    def solve(self, missing_costs: Sequence[float]) -> dict[float, _Window]:
        """The optimum of the window for each V; each begins where the one before ended."""
        cost, upper = self._columns()
        solver = _highs(cost, upper, *self._rows())
        short = np.arange(cost.size - self._span, cost.size, dtype=np.int32)
        found = {}
        for v in missing_costs:
            solver.changeColsCost(short.size, short, np.full(short.size, v))
            found[v] = self._window(_optimum(solver))
        return found

    def _window(self, solved: Real) -> _Window:
        places, span = self._places, self._span
        stock = solved[: places * span].reshape(places, span)
        launched = solved[places * span : 2 * places * span].reshape(places, span)
        short = solved[2 * places * span :]
        paid = float((stock * self._price).sum() + (launched * self._launch_cost).sum())
        held = stock.sum(axis=1)
        return _Window(
            paid=paid,
            short=float(short.sum()),
            met=float((short < 1e-7).sum()),
            launches=float(launched.sum()),
            on_demand=float(held[-1]),
            held=float(held.sum()),
        )

    def _columns(self) -> tuple[Real, Real]:
        """Costs, those of S left at 0, and upper bounds; all lower bounds are 0."""
        first = np.zeros((self._places, self._span))
        first[:] = self._launch_room
        first[:, 0] = 0.0  # the stock of the first tick is free already
        cost = [
            self._price.ravel(),
            self._launch_cost.ravel(),
            np.zeros(self._span),
        ]
        upper = [self._room.ravel(), first.ravel(), np.full(self._span, self._short_room)]
        return np.concatenate(cost), np.concatenate(upper)

    def _rows(self) -> tuple[Any, Any, Any, Real, Real]:
        """Rows, columns and values of the matrix, and the bounds of its rows."""
        places, span = self._places, self._span
        at = np.arange(places * span).reshape(places, span)
        later, before = at[:, 1:].ravel(), at[:, :-1].ravel()
        grows = np.arange(later.size)
        served = later.size + np.arange(span)
        shape = at.size
        row = [grows, grows, grows, np.tile(served, places), served]
        column = [later, before, later + shape, at.ravel(), 2 * shape + np.arange(span)]
        value = [
            np.ones(later.size), -np.ones(later.size), -np.ones(later.size),
            np.ones(shape), np.ones(span),
        ]  # fmt: skip
        lower = np.concatenate([np.full(later.size, -np.inf), self._needed])
        upper = np.concatenate([np.zeros(later.size), np.full(span, np.inf)])
        return np.concatenate(row), np.concatenate(column), np.concatenate(value), lower, upper


def _highs(
    cost: Real, upper: Real, row: Any, column: Any, value: Real, row_lower: Real, row_upper: Real
) -> Any:
    """The solver with the programme: minimise over 0 <= x <= upper."""
    try:
        import highspy
    except ModuleNotFoundError as error:  # pragma: no cover
        raise BoundError(
            "the solver of the bound is not installed", "pip install highspy"
        ) from error
    order = np.argsort(row, kind="stable")
    starts = np.searchsorted(row[order], np.arange(row_lower.size + 1))
    programme = highspy.HighsLp()
    programme.num_col_, programme.num_row_ = cost.size, row_lower.size
    programme.col_cost_, programme.col_lower_, programme.col_upper_ = (
        cost,
        np.zeros_like(cost),
        upper,
    )
    programme.row_lower_, programme.row_upper_ = row_lower, row_upper
    matrix = programme.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_, matrix.index_, matrix.value_ = starts, column[order], value[order]
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    # Dual simplex on the bare programme is several times as quick here as with presolve or IPM.
    solver.setOptionValue("presolve", "off")
    solver.setOptionValue("threads", 1)
    solver.passModel(programme)
    return solver


def _optimum(solver: Any) -> Real:
    import highspy

    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise BoundError(f"the bound has no optimum: {solver.getModelStatus()}")
    return np.array(solver.getSolution().col_value)
