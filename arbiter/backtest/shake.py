"""A market disturbed in ways that should not matter: does a policy only fit one trace?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

from arbiter.backtest.markets import Change, Market
from arbiter.backtest.view import Zone


@dataclass(frozen=True, slots=True)
class Shaking:
    """How far a market is disturbed.

    Attributes:
        names: zones and regions get other names and another order; who shares a region stays.
        offset: the beginning is cut off at random, up to this share of the market.
        jitter_s: every change moves by up to so many seconds; a zone's changes keep their order.
        scale: all spot prices are multiplied by one number from 1/(1 + scale) to 1 + scale.
    """

    names: bool = True
    offset: float = 0.1
    jitter_s: int = 120
    scale: float = 0.2


def shaken(market: Market, seed: int, shaking: Shaking | None = None) -> Market:
    """The market disturbed; the same seed gives the same.

    The on-demand price stays, so the discount is another one.
    """
    how = shaking or Shaking()
    chance = Random(f"{market.name}/{seed}")  # noqa: S311 (no secret)
    ticks = int(chance.uniform(0, how.offset) * market.ticks)
    cut = ticks * market.tick_s
    factor = (1 + how.scale) ** chance.uniform(-1, 1)
    zones, places = _renamed(market.zones, chance, how.names)
    changes = [
        one._replace(zone=places[one.zone], micros=max(1, round(one.micros * factor)))
        for one in _jittered(_cut(market.changes, cut), chance, how.jitter_s)
        if one.seconds < market.seconds - cut
    ]
    return replace(
        market,
        name=f"{market.name}~{seed}",
        start=market.start + timedelta(seconds=cut),
        seconds=market.seconds - cut,
        zones=zones,
        changes=tuple(sorted(changes)),
    )


def _cut(changes: Iterable[Change], seconds: int) -> list[Change]:
    """The market from a second on, which becomes second 0."""
    standing: dict[int, Change] = {}
    later: list[Change] = []
    for change in changes:
        if change.seconds <= seconds:
            standing[change.zone] = change._replace(seconds=0)
        else:
            later.append(change._replace(seconds=change.seconds - seconds))
    return [*standing.values(), *later]


def _jittered(changes: Iterable[Change], chance: Random, most: int) -> list[Change]:
    """Every change but the first of a zone moved, never past its neighbours."""
    moved: list[Change] = []
    latest: dict[int, int] = defaultdict(lambda: -1)
    for change in changes:
        by = chance.randint(-most, most) if change.seconds else 0
        at = max(change.seconds + by, latest[change.zone] + 1)
        latest[change.zone] = at
        moved.append(change._replace(seconds=at))
    return moved


def _renamed(
    zones: tuple[Zone, ...], chance: Random, rename: bool
) -> tuple[tuple[Zone, ...], list[int]]:
    """The zones under other names in another order, and where each has gone."""
    order = list(range(len(zones)))
    if not rename:
        return zones, order
    chance.shuffle(order)
    regions = sorted({zone.region for zone in zones})
    chance.shuffle(regions)
    numbers = {region: number for number, region in enumerate(regions, 1)}
    placed = [Zone("", "")] * len(zones)
    for zone, place in enumerate(order):
        region = f"r{numbers[zones[zone].region]:02}"
        placed[place] = Zone(f"{region}-z{place + 1:02}", region)
    return tuple(placed), order
