"""A market that was written down: prices, reclaims and shortages over a few days.

A market is a folder with market.toml (what it is, its machines) and market.csv, one event a row,
in the order of time:

    seconds,event,provider,region,zone,instance_type,purchase,usd_hour

    price    from now on the offer costs usd_hour; every offer begins with one at second 0
    reclaim  machines that stand on the offer are taken away
    closed   the offer has no capacity from now on; its price goes on being shown
    open     it has capacity again

Times are seconds since the start of the market. All of it is simulated.
"""

from __future__ import annotations

import csv
import tomllib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from arbiter.domain import OfferKey, Purchase
from arbiter.errors import SettingsError
from arbiter.gpus import GPUS
from arbiter.money import Price
from arbiter.provider import PricedOffer

TIER = "standard"
SOURCE = "demo:market"
_COLUMNS = (
    "seconds",
    "event",
    "provider",
    "region",
    "zone",
    "instance_type",
    "purchase",
    "usd_hour",
)


class Happening(StrEnum):
    """What a row of a market says."""

    PRICE = "price"
    RECLAIM = "reclaim"
    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of a market.

    Attributes:
        seconds: since the start of the market.
        price: per hour for the whole machine; of a price event only.
    """

    seconds: int
    happening: Happening
    key: OfferKey
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What is in an instance type."""

    gpu: str
    gpu_count: int


class Market:
    """A market in memory. It does not change, and it has no clock.

    Attributes:
        name, description, provenance: as market.toml says.
        starts: the instant of second 0, UTC; it gives the story its date and nothing else.
        seconds: the length.
        providers: the registry names of who sells on it, sorted.
    """

    def __init__(
        self,
        name: str,
        description: str,
        provenance: str,
        starts: datetime,
        seconds: int,
        machines: Mapping[str, Machine],
        events: tuple[Event, ...],
    ) -> None:
        self.name = name
        self.description = description
        self.provenance = provenance
        self.starts = starts
        self.seconds = seconds
        self._machines = machines
        self._events = events
        self._times = [event.seconds for event in events]
        self._prices = _by_offer(events, Happening.PRICE)
        self._shortages = _by_offer(events, Happening.CLOSED, Happening.OPEN)
        self.providers = tuple(sorted({key.provider for key in self._prices}))

    @classmethod
    def load(cls, folder: Path) -> Market:
        """The market of a folder.

        Raises:
            SettingsError: a file is missing or malformed; the message says which, and where.
        """
        about = _about(folder / "market.toml")
        events = tuple(_events(folder / "market.csv", about["machines"], about["seconds"]))
        return cls(events=events, **about)

    def offers_at(self, provider: str, seconds: float) -> list[PricedOffer]:
        """What the provider sells at this second, with the price that stands then."""
        return [offer for offer, _ in self.standing_at(provider, seconds)]

    def standing_at(self, provider: str, seconds: float) -> list[tuple[PricedOffer, int]]:
        """What the provider sells at this second, and since which second at that price."""
        return [
            (self._priced(event), event.seconds)
            for key, events in self._prices.items()
            if key.provider == provider and (event := _last(events, seconds)) is not None
        ]

    def closed_at(self, seconds: float) -> frozenset[OfferKey]:
        """The offers that have no capacity at this second."""
        return frozenset(
            key
            for key, events in self._shortages.items()
            if (event := _last(events, seconds)) is not None and event.happening is Happening.CLOSED
        )

    def events_between(self, after: float, until: float) -> list[Event]:
        """Everything that happens later than `after` and not later than `until`, in order."""
        return list(
            self._events[bisect_right(self._times, after) : bisect_right(self._times, until)]
        )

    def _priced(self, event: Event) -> PricedOffer:
        assert event.price is not None  # only price events get here
        key, machine = event.key, self._machines[event.key.instance_type]
        return PricedOffer(
            tier=key.tier,
            region=key.region,
            zone=key.zone,
            instance_type=key.instance_type,
            gpu=machine.gpu,
            gpu_count=machine.gpu_count,
            purchase=key.purchase,
            price=event.price,
            source=SOURCE,
        )


def _by_offer(events: tuple[Event, ...], *kinds: Happening) -> dict[OfferKey, list[Event]]:
    found: dict[OfferKey, list[Event]] = defaultdict(list)
    for event in events:
        if event.happening in kinds:
            found[event.key].append(event)
    return dict(found)


def _last(events: list[Event], seconds: float) -> Event | None:
    """The latest of one offer's events at this second."""
    at = bisect_right(events, seconds, key=lambda event: event.seconds)
    return events[at - 1] if at else None


def _about(path: Path) -> dict[str, Any]:
    """What market.toml says, as arguments of Market."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as failure:
        raise _malformed(f"{path}: {failure}") from failure
    try:
        machines = {
            name: Machine(str(machine["gpu"]), int(machine["gpu_count"]))
            for name, machine in content["machines"].items()
        }
        about = {
            "name": str(content["name"]),
            "description": str(content["description"]),
            "provenance": str(content["provenance"]),
            "starts": content["starts"],
            "seconds": int(content["seconds"]),
            "machines": machines,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as failure:
        raise _malformed(f"{path}: missing or of the wrong kind: {failure}") from failure
    if content.get("simulated") is not True:
        raise _malformed(f"{path}: a market must say simulated = true")
    unknown = sorted({machine.gpu for machine in machines.values()} - GPUS.keys())
    if unknown:
        raise _malformed(f"{path}: not GPUs that arbiter knows: {', '.join(unknown)}")
    if not isinstance(about["starts"], datetime) or about["starts"].tzinfo is None:
        raise _malformed(f"{path}: starts must be an instant with its time zone")
    return about


def _events(path: Path, machines: Mapping[str, Machine], seconds: int) -> Iterator[Event]:
    """The rows of market.csv, checked."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise _malformed(f"{path}: the first line must be {','.join(_COLUMNS)}")
            rows = [(reader.line_num, row) for row in reader]
    except OSError as failure:
        raise _malformed(f"{path}: {failure.strerror}") from failure
    events = []
    for line, row in rows:
        try:
            events.append(_event(row, machines, seconds))
        except (ValueError, TypeError) as failure:
            raise _malformed(f"{path}, line {line}: {failure}") from failure
    for (line, _), (before, after) in zip(rows[1:], pairwise(events), strict=True):
        if after.seconds < before.seconds:
            raise _malformed(f"{path}, line {line}: earlier than the line before it")
    priced = {event.key for event in events[: bisect_left(events, 1, key=lambda e: e.seconds)]}
    for (line, _), event in zip(rows, events, strict=True):
        if event.key not in priced:
            raise _malformed(f"{path}, line {line}: {event.key} has no price at second 0")
    return iter(events)


def _event(row: Mapping[str, str], machines: Mapping[str, Machine], seconds: int) -> Event:
    if None in row or None in row.values():
        raise ValueError(f"there must be {len(_COLUMNS)} columns")
    if row["instance_type"] not in machines:
        raise ValueError(f"market.toml has no machine {row['instance_type']!r}")
    key = OfferKey(
        provider=row["provider"],
        tier=TIER,
        region=row["region"],
        zone=row["zone"] or None,
        instance_type=row["instance_type"],
        purchase=Purchase(row["purchase"]),
    )
    at, happening = int(row["seconds"]), Happening(row["event"])
    if not 0 <= at < seconds:
        raise ValueError(f"second {at} is outside the market's {seconds}")
    if happening is not Happening.PRICE:
        return Event(at, happening, key)
    price = Price.of(row["usd_hour"])
    if price.micros <= 0:
        raise ValueError(f"not a price above zero: {row['usd_hour']!r}")
    return Event(at, happening, key, price)


def _malformed(what: str) -> SettingsError:
    return SettingsError(what, "correct the market, or name the folder of another")
