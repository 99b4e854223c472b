"""Many seeds, a few at a time, and what came of them together."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from arbiter.chaos.conductor import Report, prepared, run_seed
from arbiter.chaos.invariants import INVARIANTS


def run_seeds(
    seeds: Sequence[int], seconds: float, at_a_time: int = 2, *, keep: bool = False
) -> Iterator[Report]:
    """Run the seeds, and yield each report as it comes.

    Args:
        seconds: of faults, for each.
        at_a_time: runs side by side; each takes about half a processor.
        keep: leave the folders of runs that violated something.
    """
    fork = multiprocessing.get_context("fork")
    with prepared(), ProcessPoolExecutor(at_a_time, mp_context=fork) as pool:
        runs = [pool.submit(run_seed, seed, seconds, keep=keep) for seed in seeds]
        for run in as_completed(runs):
            yield run.result()


def by_invariant(reports: Sequence[Report]) -> dict[str, int]:
    """Invariant -> violations of it in all reports."""
    return {name: sum(len(one.violations[name]) for one in reports) for name in INVARIANTS}


def by_outcome(reports: Sequence[Report]) -> dict[str, int]:
    """Outcome of a request -> how many had it in all reports."""
    return dict(sum((Counter(one.outcomes) for one in reports), Counter()))
