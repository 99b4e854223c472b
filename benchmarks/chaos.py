"""What faults do to the real loop, gateway and servers on loopback, counted and timed.

    python benchmarks/chaos.py [--seeds 50] [--seconds 3] [--migrations 100] [--quick] [--json FILE]

First seeded schedules of many faults together, then drills under 64 concurrent streams, of one
fault each: moves by order, machines taken with and without notice, the process that ticks killed.
Those without notice tick and look as often as the daemon does by default.

There is no peer that runs under the same faults: what is lost has the goal zero, and what takes
time around a reclaim stands beside the calm minutes of the same run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from _report import Row, report, row

from arbiter.chaos.campaign import by_invariant, by_outcome, run_seeds
from arbiter.chaos.drills import DAEMON, QUICK, STREAMS, Drill, Drilled, Pace, drilling
from arbiter.chaos.load import CUT, FAILED, Outcome
from arbiter.chaos.world import KEY

DETECTED_GOAL_S = 5.0
SLOWER_GOAL = 3.0
RECLAIMS, NOTICES, KILLS = 10, 5, 10
AT_ONCE_S = 0.5
BACKEND = "loopback"


def seeds(given: argparse.Namespace) -> list[Row]:
    """Violations over the seeds."""
    chosen = range(given.first, given.first + given.seeds)
    reports = list(run_seeds(chosen, given.seconds, given.jobs))
    faults = sum(len(one.faults) for one in reports)
    asked = by_outcome(reports)
    print(f"{len(reports)} seeds, {faults} faults, {sum(asked.values())} requests: {asked}")
    for one in reports:
        for name, sentences in one.violations.items():
            for sentence in sentences:
                print(f"  ! seed {one.seed}: {name}: {sentence}")
    of = f"{len(reports)} seeds of {given.seconds:g} s"
    return [
        row(f"{name}, {of}", BACKEND, [number], "violations", goal=0)
        for name, number in by_invariant(reports).items()
    ]


def drilled(replicas: int, pace: Pace, times: int, step: Callable[[Drill], object]) -> Drilled:
    """Do one thing so many times to a fresh service under load."""
    with tempfile.TemporaryDirectory(prefix="arb-drill-") as folder:
        with drilling(Path(folder), replicas, pace) as drill:
            for number in range(times):
                step(drill)
                print(f"  {number + 1} of {times}, load {os.getloadavg()[0]:.1f}", flush=True)
        for one in [*drill.done.of(FAILED), *drill.done.of(CUT)][:20]:
            print(f"  {one}")
        return drill.done


def lost(name: str, done: Drilled) -> list[Row]:
    """Nothing may be."""
    of = f"{name}, {STREAMS} streams, {len(done.outcomes)} requests"
    return [
        row(f"{what}: {of}", BACKEND, [len(done.of(what))], "requests", goal=0)
        for what in (FAILED, CUT)
    ]


def migrations(times: int) -> list[Row]:
    """Moves of the only replica, to and fro between two clouds."""
    done = drilled(1, QUICK, times, lambda drill: drill.move())
    took = [one.ends - one.begins for one in done.disturbances]
    name = f"{times} planned migrations"
    return [*lost(name, done), row(f"one of {name}", BACKEND, took, "s")]


def notices(times: int) -> list[Row]:
    """Machines taken with the shortest notice that a cloud gives."""
    drawn = random.Random(1)
    done = drilled(2, DAEMON, times, lambda drill: drill.give_notice(drawn))
    return lost(f"{times} reclaims with {DAEMON.notice_s:.0f} s notice", done)


def reclaims(times: int) -> list[Row]:
    """Machines taken without a word: who is cut, who waits longer, and when it is known."""
    drawn = random.Random(1)
    done = drilled(2, DAEMON, times, lambda drill: drill.reclaim(drawn))
    name = f"{times} reclaims without notice"
    hit = [one for one in done.of(CUT) if was_there(one, done)]
    others = len(done.of(CUT)) - len(hit)
    found = [one.detected_s for one in done.disturbances if one.detected_s is not None]
    calm, around = done.split()
    of = f"{name}, {STREAMS} streams, {len(done.outcomes)} requests"
    return [
        row(
            f"failed before the first byte: {of}",
            BACKEND,
            [len(done.of(FAILED))],
            "requests",
            goal=0,
        ),
        row(f"cut on another replica: {name}", BACKEND, [others], "requests", goal=0),
        row(f"cut on the replica that was taken: {name}", BACKEND, [len(hit)], "requests"),
        slower("first token", name, map_ms(calm, first_ms), map_ms(around, first_ms)),
        slower("answer", name, map_ms(calm, whole_ms), map_ms(around, whole_ms)),
        row(f"detected, the slowest of {name}", BACKEND, [max(found)], "s", goal=DETECTED_GOAL_S),
        row(f"detected, the median of {name}", BACKEND, found, "s"),
    ]


def kills(times: int) -> list[Row]:
    """The process that ticks killed with -9 at a random instant of a move."""
    drawn = random.Random(1)
    done = drilled(1, QUICK, times, lambda drill: drill.kill_worker(drawn))
    return lost(f"{times} times kill -9 of the daemon within a migration", done)


def was_there(outcome: Outcome, done: Drilled) -> bool:
    """Whether a request was on a replica at the instant that it was taken."""
    return any(
        one.server == outcome.server
        and outcome.began <= one.begins + AT_ONCE_S
        and outcome.ended >= one.begins - AT_ONCE_S
        for one in done.disturbances
    )


def slower(what: str, name: str, calm: Sequence[float], around: Sequence[float]) -> Row:
    """The slowest hundredth around a reclaim, beside that of the calm."""
    usual, then = p99(calm), p99(around)
    named = f"{what}, p99 of {len(around)} others around {name}"
    goal = SLOWER_GOAL * usual
    return row(named, BACKEND, [then], "ms", peer="calm p99", theirs=[usual], goal=round(goal, 1))


def p99(figures: Sequence[float]) -> float:
    return statistics.quantiles(figures, n=100)[98]


def map_ms(outcomes: Sequence[Outcome], figure: Callable[[Outcome], float]) -> list[float]:
    return [figure(one) for one in outcomes]


def first_ms(outcome: Outcome) -> float:
    assert outcome.first_s is not None
    return 1000 * outcome.first_s


def whole_ms(outcome: Outcome) -> float:
    return 1000 * (outcome.ended - outcome.began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--migrations", type=int, default=100, metavar="N")
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    share = 5 if given.quick else 1
    given.seeds = max(1, given.seeds // share)
    os.environ["ARBITER_API_KEY"] = KEY
    rows = [
        *seeds(given),
        *migrations(max(2, given.migrations // share)),
        *notices(NOTICES // share),
        *reclaims(RECLAIMS // share),
        *kills(KILLS // share),
    ]
    report(rows, given.json)


if __name__ == "__main__":
    main()
