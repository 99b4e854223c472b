"""The one format in which benchmarks report: DESIGN's rows, as JSON and as a table."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was measured.
        backend: on what ("sqlite", "postgresql", "cpython").
        value, peer_value: medians, in `unit`; smaller is better.
        peer: whom ours is compared with, or None.
        ratio: peer_value / value, so that above 1 ours is the quicker one.
        goal: the value that ours must not exceed, or None where there is none.
        met: whether it does not; None without a goal.
    """

    name: str
    backend: str
    value: float
    unit: str
    peer: str | None
    peer_value: float | None
    ratio: float | None
    goal: float | None
    met: bool | None


def row(
    name: str,
    backend: str,
    ours: Sequence[float],
    unit: str,
    *,
    peer: str | None = None,
    theirs: Sequence[float] = (),
    goal: float | None = None,
) -> Row:
    """The row of two series of measurements, by their medians."""
    value = statistics.median(ours)
    peer_value = statistics.median(theirs) if theirs else None
    ratio = peer_value / value if peer_value is not None and value > 0 else None
    return Row(
        name,
        backend,
        round(value, 3),
        unit,
        peer,
        None if peer_value is None else round(peer_value, 3),
        None if ratio is None else round(ratio, 2),
        goal,
        None if goal is None else value <= goal,
    )


def arguments(description: str | None) -> argparse.Namespace:
    """`--json FILE` and `--quick`, which every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher medians")
    return parser.parse_args()


def interleaved(sides: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Run all sides in turn, so that a slow moment of the machine falls on each of them.

    Args:
        sides: name -> one measurement, given the number of the round; it returns its figure.
    """
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            figures[name].append(measure(number))
    return figures


def report(rows: Sequence[Row], file: Path | None) -> None:
    """Print the rows, and write them where asked."""
    for one in rows:
        against = f"  {one.peer}: {one.peer_value} ({one.ratio}x)" if one.peer else ""
        goal = "" if one.goal is None else f"  goal {one.goal}: {'met' if one.met else 'MISSED'}"
        print(f"{one.name} [{one.backend}]: {one.value} {one.unit}{against}{goal}")
    if file is not None:
        document = {"rows": [asdict(one) for one in rows]}
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.flush()
