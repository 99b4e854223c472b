"""Writes data/demo/market.csv: `python -m arbiter.demo.make_market data/demo/market.csv`.

The same seed gives the same bytes. Nothing in the file was recorded: the levels below are list
prices and spot prices of 2026 where they were known, and otherwise one region's ratio carried over
to another; the moves, the reclaims and the shortages are drawn or scripted here.

- AWS spot: a walk around its level that moves a few times a day, per zone. A zone whose spot
  price equals the on-demand price stays there: it means that there is nothing to be had.
- Azure spot: a list price per region that changes once, at the turn of the month.
- On-demand: constant.
- Reclaims: drawn per zone, more often where Amazon's advisor names a higher interruption rate;
  each closes the place for a while. A few are scripted, so that the first hours show everything
  that can happen: see SCRIPT.
"""

from __future__ import annotations

import csv
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

SEED = "arbiter demo market 1"
HOUR = 3600
LENGTH = 72 * HOUR
MONTH_TURN = 6 * HOUR  # the market starts at 18:00 on the last day of a month
HEADER = (
    "seconds",
    "event",
    "provider",
    "region",
    "zone",
    "instance_type",
    "purchase",
    "usd_hour",
)

Row = tuple[int, str, str, str, str, str, str, str]


class Series(NamedTuple):
    """One price over time; `key` are the CSV's columns from provider to purchase."""

    key: tuple[str, str, str, str, str]
    level: float
    month_turn: float = 1.0
    moves: bool = False
    reclaims_per_day: float = 0.0


# region, machine, on-demand USD per hour, {zone: spot USD per hour}, reclaims per day
AWS = (
    ("eu-north-1", "g6.xlarge", 0.8536, {"eun1-az1": 0.3451, "eun1-az2": 0.2584}, 0.6),
    ("eu-central-1", "g6.xlarge", 1.0064, {"euc1-az2": 0.4392, "euc1-az3": 0.4424}, 0.9),
    ("eu-west-2", "g6.xlarge", 1.0216, {"euw2-az2": 0.3907}, 1.2),
    ("us-east-1", "g6.xlarge", 0.8048, {"use1-az1": 0.4011}, 1.6),
    ("eu-north-1", "g6.12xlarge", 4.8807, {"eun1-az1": 1.3605, "eun1-az2": 1.5172}, 0.6),
    ("eu-central-1", "g6.12xlarge", 5.7543, {"euc1-az2": 2.4333, "euc1-az3": 2.3108}, 0.4),
    ("eu-west-2", "g6.12xlarge", 5.8412, {"euw2-az3": 2.0444}, 1.2),
    ("us-east-1", "g6.12xlarge", 4.6016, {"use1-az1": 1.8867}, 1.6),
    ("eu-west-1", "g5.12xlarge", 6.3317, {"euw1-az1": 2.7859, "euw1-az2": 2.9505}, 1.6),
    ("eu-central-1", "g5.12xlarge", 7.0928, {"euc1-az1": 2.1244}, 1.6),
    ("eu-north-1", "g6e.xlarge", 1.9740, {"eun1-az1": 0.8246, "eun1-az2": 0.9117}, 1.6),
    ("eu-central-1", "g6e.xlarge", 2.3270, {"euc1-az2": 1.8407}, 1.6),
    ("eu-north-1", "g6e.12xlarge", 11.1298, {"eun1-az1": 2.1614, "eun1-az2": 3.0207}, 1.6),
    (
        "eu-central-1",
        "g6e.12xlarge",
        13.12,
        {"euc1-az1": 4.1388, "euc1-az2": 3.2122, "euc1-az3": 13.12},
        0.9,
    ),
    ("us-east-1", "g6e.12xlarge", 10.4926, {"use1-az1": 4.6167}, 1.6),
    ("eu-west-2", "p5.4xlarge", 8.944, {"euw2-az3": 8.944}, 0.9),
)

# region, machine, on-demand USD per hour, spot USD per hour, spot's factor at the turn of the month
AZURE = (
    ("francecentral", "Standard_NC24ads_A100_v4", 4.591, 0.848417, 1.12),
    ("italynorth", "Standard_NC24ads_A100_v4", 4.775, 0.88242, 0.78),
    ("northeurope", "Standard_NC24ads_A100_v4", 4.408, 0.896146, 1.0),
    ("polandcentral", "Standard_NC24ads_A100_v4", 4.775, 1.06769, 1.05),
    ("swedencentral", "Standard_NC24ads_A100_v4", 4.775, 2.07999, 0.93),
    ("switzerlandnorth", "Standard_NC24ads_A100_v4", 5.252, 0.97057, 0.9),
    ("uksouth", "Standard_NC24ads_A100_v4", 4.591, 1.07108, 0.64),
    ("germanywestcentral", "Standard_NC40ads_H100_v5", 9.074, 2.991698, 0.94),
    ("northeurope", "Standard_NC40ads_H100_v5", 8.376, 1.547885, 2.7),
    ("swedencentral", "Standard_NC40ads_H100_v5", 9.074, 5.226624, 1.0),
    ("norwayeast", "Standard_NC40ads_H100_v5", 8.901, 2.31426, 1.0),
    ("switzerlandnorth", "Standard_NC40ads_H100_v5", 9.981, 5.205092, 1.0),
    ("uksouth", "Standard_NC40ads_H100_v5", 8.725, 3.216035, 0.45),
)
AZURE_RECLAIMS_PER_DAY = 0.5

# When, for how long, and whom a scripted shortage hits: (region, machine), or None for all spot.
SCRIPT: tuple[tuple[int, int, tuple[str, str] | None], ...] = (
    (2 * HOUR, 90 * 60, ("northeurope", "Standard_NC40ads_H100_v5")),
    (4 * HOUR, 60 * 60, ("eu-north-1", "g6.12xlarge")),
    (10 * HOUR, 50 * 60, None),
    (20 * HOUR, 2 * HOUR, ("italynorth", "Standard_NC24ads_A100_v4")),
    (45 * HOUR, 3 * HOUR, ("italynorth", "Standard_NC24ads_A100_v4")),
)


def series() -> Iterator[Series]:
    """Every price of the market."""
    for region, machine, on_demand, spot, reclaims in AWS:
        yield Series(("aws", region, "", machine, "on_demand"), on_demand)
        for zone, level in spot.items():
            key = ("aws", region, zone, machine, "spot")
            yield Series(key, level, moves=level < on_demand, reclaims_per_day=reclaims)
    for region, machine, on_demand, level, month_turn in AZURE:
        yield Series(("azure", region, "", machine, "on_demand"), on_demand)
        key = ("azure", region, "", machine, "spot")
        yield Series(key, level, month_turn, reclaims_per_day=AZURE_RECLAIMS_PER_DAY)


def prices(one: Series) -> Iterator[tuple[int, float]]:
    """The price at the start and each change of it."""
    yield 0, one.level
    if one.month_turn != 1.0:
        yield MONTH_TURN, one.level * one.month_turn
    if one.moves:
        drawn = random.Random(f"{SEED} price {one.key}")  # noqa: S311 (a market, not a secret)
        at, away = 0, 0.0
        while (at := at + _waiting(drawn, 7 * HOUR)) < LENGTH:
            away = 0.8 * away + 0.16 * (drawn.random() - 0.5)
            yield at, one.level * math.exp(away)


def shortages(one: Series) -> list[tuple[int, int]]:
    """When the place is closed, as (from, until), in order and apart from each other."""
    found = []
    for at, length, hit in SCRIPT:
        if one.key[4] == "spot" and hit in (None, (one.key[1], one.key[3])):
            found.append((at, at + length))
    if one.reclaims_per_day:
        drawn = random.Random(f"{SEED} reclaim {one.key}")  # noqa: S311 (a market, not a secret)
        at = 0
        while (at := at + _waiting(drawn, 24 * HOUR / one.reclaims_per_day)) < LENGTH - 2 * HOUR:
            found.append((at, at + min(600 + _waiting(drawn, 40 * 60), 2 * HOUR)))
    return _merged(found)


def rows() -> list[Row]:
    """The rows of the file, in the order of time."""
    found: list[Row] = []
    for one in series():
        found += [(at, "price", *one.key, f"{usd:.4f}") for at, usd in prices(one)]
        for closed, opened in shortages(one):
            found.append((closed, "reclaim", *one.key, ""))
            found.append((closed, "closed", *one.key, ""))
            found.append((opened, "open", *one.key, ""))
    return sorted(found, key=lambda row: row[0])


def write(file: TextIO) -> None:
    """Write the market as CSV."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows())


def _waiting(drawn: random.Random, mean: float) -> int:
    """Seconds until the next of events that come at random, at least a minute."""
    return max(60, round(-math.log(1.0 - drawn.random()) * mean))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", newline="") as target:
        write(target)
