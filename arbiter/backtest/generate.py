"""Markets made from a seed: zones that fill up and empty, together by region, and price steps.

What is drawn, and from what:

- how long a zone has room: Weibull with shape `age_shape`. Below 1 a loss gets less likely the
  longer the zone has had room, as public traces of spot machines show it;
- how long it is empty: exponential;
- how many machines it gives when it has room: 1 to `depth`, evenly;
- a zone's own level: each zone's mean time with room is multiplied by exp of a normal number of
  width `spread`;
- shocks: in every region at exponential intervals; each of its zones that has room is emptied
  with probability `shock_share`, at the same second;
- prices: each zone starts at a share of on-demand drawn evenly from `discount`, and moves at
  exponential intervals by a factor exp(normal of width `price_step`), within `price_range`.

All of it is simulated, and a market says so in its notes.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from arbiter.backtest.markets import COLUMNS, Change, Market
from arbiter.backtest.view import Zone
from arbiter.errors import ArbiterError
from arbiter.money import MICROS, Price, decimal_string

SIMULATED = "simulated: a market made from a seed"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a generated market is like.

    Attributes:
        zones_per_region: one number for each region.
        on_demand_micros: millionths of a USD per hour.
        up_h, down_h: mean hours for which a zone has room, and is empty.
        age_shape: shape of the Weibull of up times; 1: losses do not depend on age.
        spread: how unlike the zones' mean up times are; 0: all alike.
        depth: the most machines that a zone gives.
        shocks_per_day: of each region. shock_share: of its zones that a shock empties.
        discount: spot prices at the beginning, as shares of on-demand.
        price_step_h: mean hours between price changes of a zone; 0: prices stand.
        price_step: width of the logarithm of one change.
        price_range: lowest and highest share of on-demand.
    """

    days: float = 14.0
    zones_per_region: tuple[int, ...] = (3, 2, 2)
    on_demand_micros: int = 3_000_000
    up_h: float = 20.0
    down_h: float = 6.0
    age_shape: float = 0.6
    spread: float = 0.8
    depth: int = 4
    shocks_per_day: float = 0.3
    shock_share: float = 0.7
    discount: tuple[float, float] = (0.25, 0.5)
    price_step_h: float = 24.0
    price_step: float = 0.05
    price_range: tuple[float, float] = (0.15, 0.95)


def generate(recipe: Recipe, seed: int) -> Market:
    """The market of a recipe and a seed, always the same.

    Raises:
        ArbiterError: a figure of the recipe is out of its range.
    """
    _check(recipe)
    regions = [
        f"region-{number}"
        for number, count in enumerate(recipe.zones_per_region, 1)
        for _ in range(count)
    ]
    zones = tuple(
        Zone(f"{region}{chr(ord('a') + regions[:place].count(region) % 26)}{place}", region)
        for place, region in enumerate(regions)
    )
    seconds = int(recipe.days * 86_400)
    shocks = {
        region: _instants(_chance(seed, region, "shocks"), recipe.shocks_per_day / 86_400, seconds)
        for region in dict.fromkeys(regions)
    }
    changes: list[Change] = []
    for number, zone in enumerate(zones):
        rooms = _rooms(recipe, _chance(seed, zone.name, "room"), shocks[zone.region], seconds)
        prices = _prices(recipe, _chance(seed, zone.name, "price"), seconds)
        changes += _merged(number, rooms, prices)
    return Market(
        name=f"generated-{seed}",
        provider="generated",
        start=START,
        seconds=seconds,
        tick_s=60,
        on_demand_micros=recipe.on_demand_micros,
        zones=zones,
        changes=tuple(sorted(changes)),
        notes=(SIMULATED,),
    )


def write_market(market: Market, folder: Path) -> None:
    """Write a market as a folder that `load_market` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "name": market.name,
        "provider": market.provider,
        "start": market.start.isoformat(),
        "seconds": market.seconds,
        "tick_seconds": market.tick_s,
        "on_demand_usd_hour": market.on_demand_micros / MICROS,
        "zones": [{"zone": zone.name, "region": zone.region} for zone in market.zones],
        "note": "; ".join(market.notes),
    }
    (folder / "market.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    with (folder / "changes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in market.changes:
            usd = decimal_string(Price(one.micros).amount)
            writer.writerow([one.seconds, market.zones[one.zone].name, one.available, usd])


def _chance(seed: int, *names: str) -> Random:
    """Each zone and region has its own numbers, so that one zone more alters no other."""
    return Random("/".join((str(seed), *names)))  # noqa: S311 (no secret)


def _instants(chance: Random, rate: float, seconds: int) -> list[int]:
    """Seconds of a Poisson process, on the grid of minutes."""
    found: list[int] = []
    at = 0.0
    while rate > 0:
        at += chance.expovariate(rate)
        if at >= seconds:
            break
        found.append(int(at // 60) * 60)
    return found


def _rooms(
    recipe: Recipe, chance: Random, shocks: Sequence[int], seconds: int
) -> Iterator[tuple[int, int]]:
    """(second, room) of one zone, from second 0."""
    mean_up = recipe.up_h * 3600 * math.exp(chance.gauss(0, recipe.spread))
    scale = mean_up / math.gamma(1 + 1 / recipe.age_shape)
    at, up = 0.0, chance.random() < recipe.up_h / (recipe.up_h + recipe.down_h)
    while at < seconds:
        yield int(at), chance.randint(1, recipe.depth) if up else 0
        if up:
            span = max(60.0, chance.weibullvariate(scale, recipe.age_shape))
            hit = (one for one in shocks if at < one < at + span)
            struck = [one for one in hit if chance.random() < recipe.shock_share]
            following = float(struck[0]) if struck else at + span
        else:
            following = at + max(60.0, chance.expovariate(1 / (recipe.down_h * 3600)))
        at, up = max(at + 60, following // 60 * 60), not up


def _prices(recipe: Recipe, chance: Random, seconds: int) -> Iterator[tuple[int, int]]:
    """(second, micros) of one zone, from second 0."""
    share = chance.uniform(*recipe.discount)
    yield 0, round(share * recipe.on_demand_micros)
    rate = 1 / (recipe.price_step_h * 3600) if recipe.price_step_h else 0.0
    for at in dict.fromkeys(_instants(chance, rate, seconds)):
        share *= math.exp(chance.gauss(0, recipe.price_step))
        share = min(max(share, recipe.price_range[0]), recipe.price_range[1])
        if at:
            yield at, round(share * recipe.on_demand_micros)


def _merged(
    zone: int, rooms: Iterator[tuple[int, int]], prices: Iterator[tuple[int, int]]
) -> Iterator[Change]:
    by_second: dict[int, list[int | None]] = {}
    for column, found in enumerate((rooms, prices)):
        for at, value in found:
            by_second.setdefault(at, [None, None])[column] = value
    room = micros = 0
    for at, (new_room, new_micros) in sorted(by_second.items()):
        room = room if new_room is None else new_room
        micros = micros if new_micros is None else new_micros
        yield Change(at, zone, room, micros)


def _check(recipe: Recipe) -> None:
    rules = {
        "days must be from 0.1 to 3660": 0.1 <= recipe.days <= 3660,
        "zones_per_region needs regions of 1 to 26 zones": recipe.zones_per_region != ()
        and all(1 <= count <= 26 for count in recipe.zones_per_region),
        "up_h, down_h and age_shape must be above 0": min(
            recipe.up_h, recipe.down_h, recipe.age_shape
        )
        > 0,
        "depth must be at least 1": recipe.depth >= 1,
        "shock_share must be from 0 to 1": 0 <= recipe.shock_share <= 1,
        "rates and widths must not be negative": min(
            recipe.shocks_per_day, recipe.price_step_h, recipe.price_step, recipe.spread
        )
        >= 0,
        "shares of on-demand must be above 0 and in order": 0
        < recipe.price_range[0]
        <= recipe.discount[0]
        <= recipe.discount[1]
        <= recipe.price_range[1],
    }
    for rule, holds in rules.items():
        if not holds:
            raise ArbiterError(f"no market can be generated: {rule}")
