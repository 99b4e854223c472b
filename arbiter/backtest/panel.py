"""Many runs, over the processor's cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

from arbiter.backtest.conditions import Conditions, Demand
from arbiter.backtest.markets import Market
from arbiter.backtest.policies import OMNISCIENT, named
from arbiter.backtest.run import bounded, least, omniscient, play
from arbiter.backtest.score import Result
from arbiter.backtest.view import Factory

ALONE_TICKS = 300_000
"""Ticks of all runs together that are not worth starting another process for."""


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        policy: a name of `arbiter.backtest.policies`, or a factory that can be pickled.
        label: the policy's name in the result.
    """

    market: Market
    policy: str | Factory
    replicas: Demand = 1
    conditions: Conditions = field(default_factory=Conditions)
    label: str = ""

    def run(self) -> Result:
        """Make the run, without the bound."""
        if self.policy == OMNISCIENT:
            return omniscient(self.market, self.replicas, self.conditions)
        factory = named(self.policy) if isinstance(self.policy, str) else self.policy
        name = self.label or str(self.policy)
        return play(self.market, factory, name, self.replicas, self.conditions)

    @property
    def cell(self) -> Cell:
        """What its bound depends on."""
        return Cell(self.market, self.replicas, self.conditions)


@dataclass(frozen=True)
class Cell:
    """A market under conditions: all policies on it share one bound."""

    market: Market
    replicas: Demand
    conditions: Conditions

    def run(self) -> float:
        """The omniscient bound."""
        return least(self.market, self.replicas, self.conditions)


Progress = Callable[[int, int], None]
"""Told how many of how many pieces of work are done."""


def run_all(
    jobs: Sequence[Job],
    *,
    with_bound: bool = False,
    workers: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> list[Result]:
    """Make the runs; the results are in the order of the jobs, whichever was ready first.

    Args:
        with_bound: also compute the bound of every cell, and check every run against it.
        workers: processes; None is one for each core. Few short runs are made in this one.

    Raises:
        ArbiterError: the first error of any run; the others are given up.
    """
    cells = _cells(jobs) if with_bound else []
    work: list[Job | Cell] = [*cells, *jobs]  # bounds first: they take the longest
    done = _in_order(work, workers or os.cpu_count() or 1, progress)
    bounds = [one for one in done if isinstance(one, float)]
    results = [one for one in done if isinstance(one, Result)]
    if with_bound:
        results = [
            bounded(result, bounds[cells.index(job.cell)])
            for job, result in zip(jobs, results, strict=True)
        ]
    return results


def _cells(jobs: Sequence[Job]) -> list[Cell]:
    found: list[Cell] = []
    for job in jobs:
        if job.cell not in found:
            found.append(job.cell)
    return found


def _in_order(work: Sequence[Job | Cell], workers: int, progress: Progress) -> list[Result | float]:
    ticks = sum(one.market.ticks * (10 if isinstance(one, Cell) else 1) for one in work)
    if workers == 1 or len(work) == 1 or ticks <= ALONE_TICKS:
        done: list[Result | float] = []
        for one in work:
            done.append(one.run())
            progress(len(done), len(work))
        return done
    with _pool(min(workers, len(work))) as pool:
        futures = [pool.submit(_run, one) for one in work]
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()  # an error ends it all now, not at the end
            progress(len(futures) - len(waiting), len(futures))
        return [future.result() for future in futures]


def _run(one: Job | Cell) -> Result | float:
    return one.run()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Not fork: threads of a progress bar may hold locks that a copy would wait for.
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
