"""A made-up year of prices: the same for every side of a comparison, and for every run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from arbiter.regions import load_atlas
from arbiter.sovereignty import Allowed, Level, Rule, judge

Ints = npt.NDArray[np.int64]

DAY_S = 86_400
END = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
BEGIN = END - 365 * DAY_S
MACHINES = (
    ("L4", 1), ("L4", 4), ("A10G", 4), ("L40S", 1), ("L40S", 4), ("A100-80GB", 1),
    ("A100-80GB", 8), ("H100", 1), ("H100", 8), ("H200", 8), ("T4", 1), ("A100-40GB", 8),
    ("B200", 8), ("A10", 1), ("V100-16GB", 8), ("MI300X", 8),
)  # fmt: skip
CLOUDS = ("aws", "azure", "gcp")
EU = Rule(level=Level.EU)


@dataclass(frozen=True)
class Series:
    """One thing on sale."""

    id: int
    provider: str
    region: str
    zone: str
    instance_type: str
    purchase: str
    gpu: str
    gpu_count: int
    in_eu: bool


@dataclass(frozen=True)
class Year:
    """All of it. `changes` has the columns series id, from, to, micros; -1 is "still stands"."""

    series: list[Series]
    changes: Ints


def a_year(series: int, changes: int) -> Year:
    """So many series with about so many changes, by series and time.

    A tenth of the series has a gap: it was not on sale for some days.
    """
    random = np.random.default_rng(20261101)
    made = _series(series)
    counts = random.poisson(changes / series, series).clip(2)
    line = np.repeat(np.arange(series), counts)
    instants = random.integers(BEGIN, END, len(line))
    order = np.lexsort((instants, line))
    instants = instants[order]
    first = np.cumsum(counts) - counts
    instants[first] = BEGIN
    unique = np.ones(len(line), np.bool_)
    unique[1:] = (line[1:] != line[:-1]) | (instants[1:] != instants[:-1])
    line, begin = line[unique], instants[unique]
    base = np.asarray([900_000 * one.gpu_count for one in made], np.int64)
    micros = base[line] + random.integers(0, 4000, len(line)) * 500
    end = np.append(begin[1:], -1)
    last = np.append(line[1:] != line[:-1], True)
    end[last] = -1
    gone = (random.random(len(line)) < 0.0003) & ~last & (end - begin > 3600)
    end[gone] -= (end[gone] - begin[gone]) // 2
    return Year(made, np.column_stack((line + 1, begin, end, micros)))


def _series(count: int) -> list[Series]:
    atlas = load_atlas()
    places = [
        (place, f"{place.region}-{letter}")
        for cloud in CLOUDS
        for place in atlas
        if place.provider == cloud
        for letter in "abc"
    ]
    made: list[Series] = []
    for round_ in range(count):
        for gpu, gpus in MACHINES:
            for place, zone in places:
                for purchase in ("spot", "on_demand"):
                    if len(made) == count:
                        return made
                    made.append(
                        Series(
                            len(made) + 1, place.provider, place.region, zone,
                            f"{gpus}x{gpu}-{round_}", purchase, gpu, gpus,
                            isinstance(judge(place, EU), Allowed),
                        )
                    )  # fmt: skip
    return made
