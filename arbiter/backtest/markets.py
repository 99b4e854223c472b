"""Reading a market: the prices of some zones, and how many machines one tenant could hold in each.

A market is a folder with market.json (name, provider, start, seconds, tick_seconds,
on_demand_usd_hour, zones) and changes.csv, one change a row, in the order of time:

    seconds,zone,available,spot_usd_hour

Each zone begins with a row at second 0, and a row holds until the zone's next one. Seconds count
from the market's start; the price is in USD per hour of one machine.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from arbiter.backtest.view import Zone
from arbiter.errors import ArbiterError
from arbiter.money import Price

COLUMNS = ("seconds", "zone", "available", "spot_usd_hour")
LONGEST_S = 10 * 366 * 86_400
MOST_ROWS = 5_000_000
SILENCE_SHARE = 0.2
"""A silence of all zones longer than this share of the market, and than SILENCE_S, is told."""
SILENCE_S = 6 * 3600


class MarketError(ArbiterError):
    """A market cannot be used; the message names the file and the line."""


class Change(NamedTuple):
    """From this second on: how many machines the zone gives, at which price.

    Attributes:
        zone: number of the zone in `Market.zones`.
        micros: millionths of a USD per hour.
    """

    seconds: int
    zone: int
    available: int
    micros: int


@dataclass(frozen=True, slots=True)
class Market:
    """A market in memory.

    Attributes:
        start: the instant of second 0, aware UTC.
        seconds: its length.
        tick_s: seconds in a tick of the serving model.
        on_demand_micros: the on-demand price in millionths of a USD per hour.
        changes: in the order of time; each zone has one at second 0.
        notes: what the market cannot tell, for whoever reads a result.
    """

    name: str
    provider: str
    start: datetime
    seconds: int
    tick_s: int
    on_demand_micros: int
    zones: tuple[Zone, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def ticks(self) -> int:
        """Whole ticks in the market."""
        return self.seconds // self.tick_s

    @property
    def days(self) -> float:
        """Its length in days."""
        return self.seconds / 86_400


def load_market(folder: Path) -> Market:
    """The market of a folder.

    Raises:
        MarketError: a file is missing or malformed: which, where, and what is wrong.
    """
    if not folder.is_dir():
        raise MarketError(
            f"there is no market folder {folder}",
            "name a folder with market.json and changes.csv: --market DIR",
        )
    about = _about(folder / "market.json")
    zones = about["zones"]
    changes = _changes(folder / "changes.csv", {z.name: i for i, z in enumerate(zones)}, about)
    return checked(Market(changes=changes, **about), str(folder / "changes.csv"))


def checked(market: Market, where: str) -> Market:
    """The market, with what it cannot tell among its notes.

    Raises:
        MarketError: a zone has no price, or none from the beginning.
    """
    first: dict[int, int] = {}
    for change in market.changes:
        first.setdefault(change.zone, change.seconds)
    for number, zone in enumerate(market.zones):
        if number not in first:
            raise MarketError(
                f"{where}: zone {zone.name} has no rows, so no price",
                "add its rows, or take the zone out of market.json",
            )
        if first[number] > 0:
            raise MarketError(
                f"{where}: a gap: zone {zone.name} is not known before second {first[number]}",
                "begin every zone with a row at second 0, or cut the market",
            )
    if market.ticks < 1:
        raise MarketError(f"{where}: the market is shorter than one tick of {market.tick_s} s")
    return market if market.notes else _with_notes(market)


def _with_notes(market: Market) -> Market:
    from dataclasses import replace

    times = [*dict.fromkeys(change.seconds for change in market.changes), market.seconds]
    since, until = max(pairwise(times), key=lambda pair: pair[1] - pair[0], default=(0, 0))
    silence = until - since
    if silence <= max(SILENCE_S, SILENCE_SHARE * market.seconds):
        return market
    note = (
        f"nothing changes in any zone for {silence / 3600:.0f} hours from second {since}: "
        "a gap in the recording would look the same"
    )
    return replace(market, notes=(*market.notes, note))


# --- market.json ----------------------------------------------------------------------------


def _about(path: Path) -> dict[str, Any]:
    """What market.json says, as arguments of Market."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=str)
    except OSError as failure:
        raise _malformed(f"{path}: {failure.strerror}") from None
    except (ValueError, RecursionError) as failure:
        raise _malformed(f"{path} is not JSON: {failure}") from None
    if not isinstance(content, dict):
        raise _malformed(f"{path}: must be an object")
    try:
        return {
            "name": _text(content, "name"),
            "provider": _text(content, "provider"),
            "start": _instant(content),
            "seconds": _whole(content, "seconds", 1, LONGEST_S),
            "tick_s": _whole(content, "tick_seconds", 1, 3600),
            "on_demand_micros": _micros(str(_given(content, "on_demand_usd_hour"))),
            "zones": _zones(content),
        }
    except ValueError as failure:
        raise _malformed(f"{path}: {failure}") from None


def _given(content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ValueError(f"{key} is missing")
    return content[key]


def _text(content: Mapping[str, Any], key: str) -> str:
    value = _given(content, key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text")
    return value


def _whole(content: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = _given(content, key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most}, not {value!r}")
    return value


def _instant(content: Mapping[str, Any]) -> datetime:
    text = _text(content, "start")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"start must be an instant in ISO 8601, not {text!r}") from None
    if instant.tzinfo is None:
        raise ValueError("start must say its time zone: 2023-02-15T00:00:00Z")
    return instant.astimezone(UTC)


def _zones(content: Mapping[str, Any]) -> tuple[Zone, ...]:
    listed = _given(content, "zones")
    if not isinstance(listed, list) or not listed:
        raise ValueError("zones must be a list with at least one zone")
    zones = []
    for one in listed:
        if not isinstance(one, dict):
            raise ValueError("each of zones must be an object with zone and region")
        zones.append(Zone(_text(one, "zone"), _text(one, "region")))
    names = [zone.name for zone in zones]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"zone {name} is listed twice")
    return tuple(zones)


# --- changes.csv ----------------------------------------------------------------------------


def _changes(
    path: Path, numbers: Mapping[str, int], about: Mapping[str, Any]
) -> tuple[Change, ...]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise _malformed(f"{path}, line 1: must be {','.join(COLUMNS)}")
            return tuple(_rows(path, reader, numbers, about["seconds"]))
    except OSError as failure:
        raise _malformed(f"{path}: {failure.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as failure:
        raise _malformed(f"{path} is not a table of text: {failure}") from None


def _rows(path: Path, reader: Any, numbers: Mapping[str, int], length: int) -> Iterator[Change]:
    before: dict[int, int] = {}
    latest = 0
    for count, row in enumerate(reader):
        where = f"{path}, line {reader.line_num}"
        if count >= MOST_ROWS:
            raise _malformed(f"{where}: more than {MOST_ROWS} rows")
        try:
            change = _change(row, numbers, length)
        except ValueError as failure:
            raise _malformed(f"{where}: {failure}") from None
        if change.seconds < latest:
            raise MarketError(
                f"{where}: second {change.seconds} is earlier than the row before it",
                "sort the rows by seconds",
            )
        if before.get(change.zone) == change.seconds:
            raise _malformed(f"{where}: zone {row[1]} has a row for this second already")
        latest = before[change.zone] = change.seconds
        yield change


def _change(row: Sequence[str], numbers: Mapping[str, int], length: int) -> Change:
    if len(row) != len(COLUMNS):
        raise ValueError(f"must have {len(COLUMNS)} columns, not {len(row)}")
    for name, cell in zip(COLUMNS, row, strict=True):
        if not cell.strip():
            raise ValueError(f"a gap: {name} is empty, so what stood then is not known")
    seconds, zone, available, usd = row
    if zone not in numbers:
        raise ValueError(f"market.json has no zone {zone!r}")
    at, count = _integer("seconds", seconds), _integer("available", available)
    if not 0 <= at < length:
        raise ValueError(f"second {at} is outside the market's {length}")
    if count < 0:
        raise ValueError(f"available is negative: {count}")
    return Change(at, numbers[zone], count, _micros(usd))


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {text!r}") from None


def _micros(text: str) -> int:
    price = Price.of(text)
    if not 0 < price.micros <= 10**12:
        raise ValueError(f"not a price above zero, in USD per hour: {text!r}")
    return price.micros


def _malformed(what: str) -> MarketError:
    return MarketError(what, "correct the market, or name another: --market DIR")
