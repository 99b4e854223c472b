"""Seeded schedules of faults upon the real loop, gateway and servers, counted.

    python benchmarks/chaos.py [--seeds 50] [--seconds 6] [--quick] [--json FILE]

There is no peer that runs under the same faults: the goal of every row is zero, but for the
detection of a reclaim and the latency under faults, whose goals stand beside them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from _report import row

from arbiter.chaos.campaign import by_invariant, by_outcome, run_seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="ten seeds of four seconds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    seeds, seconds = (10, 4.0) if given.quick else (given.seeds, given.seconds)
    reports = list(run_seeds(range(given.first, given.first + seeds), seconds, given.jobs))
    asked = by_outcome(reports)
    rows = [
        row(f"{name}, {seeds} seeds of {seconds:g} s", "local", [number], "violations", goal=0)
        for name, number in by_invariant(reports).items()
    ]
    for one in rows:
        print(f"{one.value:6.0f}  {one.name}")
    faults = sum(len(one.faults) for one in reports)
    print(f"{faults} faults, {sum(asked.values())} requests: {asked}")
    if given.json is not None:
        given.json.write_text(
            json.dumps({"rows": [asdict(one) for one in rows]}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
