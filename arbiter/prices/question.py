"""What is asked of recorded prices: which series, which window, in which unit.

Everything that a user types is checked here, before a database is opened.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from arbiter.domain import Purchase
from arbiter.errors import ArbiterError, UnknownName
from arbiter.money import MICROS
from arbiter.sovereignty import Level, parse_level

PER = ("gpu", "instance")
SINCE = "90d"

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CURRENCY = re.compile(r"[A-Z]{3}")
_LONGEST = timedelta(days=36_500)


class BadQuestion(ArbiterError):
    """A question that cannot be answered as it was asked."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, half-open.

    Attributes:
        begin, end: whole seconds since 1970 UTC.
    """

    begin: int
    end: int

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Question:
    """Which series, when, and in which unit. An empty filter lets everything pass.

    Attributes:
        gpu: name in the vocabulary of arbiter.gpus, or as a provider calls it.
        countries: ISO 3166 codes of where the machines stand.
        level: only places that pass this sovereignty level, under the rules in force.
        zone: whose midnights and hours count; `zones` are those of a region.
        currency: ISO 4217; None is the one in which all series are priced.
        per: "gpu" divides every price by the machine's number of GPUs; "instance" does not.
    """

    window: Window
    zone: tzinfo = UTC
    gpu: str | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    purchase: Purchase | None = None
    level: Level | None = None
    currency: str | None = None
    per: str = "gpu"

    @property
    def filters(self) -> tuple[Hashable, ...]:
        """What chooses the series: two questions with the same are about the same ones."""
        where = (self.providers, self.regions, self.zones, self.countries, self.level)
        return self.gpu, self.purchase, self.tiers, self.instance_types, *where


def asked(
    now: datetime,
    *,
    since: str | None = None,
    begin: str | None = None,
    end: str | None = None,
    zone: str | None = None,
    gpu: str | None = None,
    providers: Iterable[str] = (),
    regions: Iterable[str] = (),
    zones: Iterable[str] = (),
    countries: Iterable[str] = (),
    tiers: Iterable[str] = (),
    instance_types: Iterable[str] = (),
    purchase: str | None = None,
    sovereignty: str | None = None,
    currency: str | None = None,
    per: str = "gpu",
) -> Question:
    """The question of what was typed.

    Args:
        since: "90d", "12h", "8w": a window that ends now. Not together with `begin`.
        begin, end: ISO 8601; without an offset they are meant in `zone`. `end` None is now.

    Raises:
        BadQuestion, UnknownName: what is wrong with it, and what to type instead.
    """
    where = parse_zone(zone)
    if per not in PER:
        raise BadQuestion(f"per is {per!r}", "use gpu or instance")
    return Question(
        window=parse_window(now, where, since=since, begin=begin, end=end),
        zone=where,
        gpu=None if gpu is None else parse_gpu(gpu),
        providers=tuple(providers),
        regions=tuple(regions),
        zones=tuple(zones),
        countries=tuple(map(parse_country, countries)),
        tiers=tuple(tiers),
        instance_types=tuple(instance_types),
        purchase=None if purchase is None else parse_purchase(purchase),
        level=None if sovereignty is None else parse_level(sovereignty),
        currency=None if currency is None else parse_currency(currency),
        per=per,
    )


def asked_at(now: datetime, time: str | None, *, zone: str | None = None, **typed: Any) -> Question:
    """The question about an instant: its window is one second long.

    Args:
        time: ISO 8601; None is now.
        typed: as of `asked`, without a window.

    Raises:
        BadQuestion, UnknownName: what is wrong with it; also an instant that has not come yet.
    """
    instant = now if time is None else parse_instant(time, parse_zone(zone))
    if instant > now:
        raise BadQuestion(f"{_shown(instant)} has not come yet", "name an instant in the past")
    second = int(instant.timestamp())
    return replace(asked(now, zone=zone, **typed), window=Window(second, second + 1))


def parse_window(
    now: datetime,
    zone: tzinfo,
    *,
    since: str | None = None,
    begin: str | None = None,
    end: str | None = None,
) -> Window:
    """The window that was typed; what lies in the future is cut off.

    Raises:
        BadQuestion: it cannot be read, ends before it starts, or has not begun.
    """
    if since is not None and begin is not None:
        raise BadQuestion("both --since and --from are given", "use one of them")
    until = min(now, now if end is None else parse_instant(end, zone))
    start = until - parse_span(since or SINCE) if begin is None else parse_instant(begin, zone)
    if begin is not None and start >= now:
        raise BadQuestion(f"the window begins at {_shown(start)}, which has not come yet")
    if start >= until:
        raise BadQuestion(
            f"the window ends at {_shown(until)}, not after it begins at {_shown(start)}",
            "swap --from and --to",
        )
    return Window(int(start.timestamp()), int(until.timestamp()))


def parse_span(text: str) -> timedelta:
    """The length of "90d", "12h", "30m" or "8w".

    Raises:
        BadQuestion: it is none, or nothing at all.
    """
    found = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip().lower())
    span = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else timedelta()
    if not timedelta() < span <= _LONGEST:
        how = "write it as 12h, 90d or 8w; a day is for --from"
        raise BadQuestion(f"{text!r} is no length of time", how)
    return span


def parse_instant(text: str, zone: tzinfo) -> datetime:
    """An ISO 8601 date or time, in UTC; without an offset it is meant in the zone.

    Raises:
        BadQuestion: it is not one.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
        instant = instant if instant.tzinfo else instant.replace(tzinfo=zone)
        return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadQuestion(
            f"{text!r} is no date or time", "write it as 2026-09-01 or 2026-09-01T08:00+02:00"
        ) from error


def parse_zone(name: str | None) -> tzinfo:
    """The time zone of an IANA name; None is UTC.

    Raises:
        UnknownName: there is none, with the nearest.
    """
    if name is None or name.upper() in ("UTC", "Z"):
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = {one.casefold(): one for one in available_timezones()}
    by_city = {one.rsplit("/", 1)[-1]: known[one] for one in sorted(known)}
    folded = name.strip().casefold().replace(" ", "_")
    near = get_close_matches(folded, known, n=1, cutoff=0.7)
    city = get_close_matches(folded.rsplit("/", 1)[-1], by_city, n=1, cutoff=0.7)
    guess = known[near[0]] if near else by_city[city[0]] if city else None
    hint = f"did you mean {guess}?" if guess else "use a name such as Europe/Berlin"
    raise UnknownName(f"there is no time zone {name!r}", hint)


def parse_gpu(name: str) -> str:
    """The GPU's name in the vocabulary; a name that it does not have is left as it is."""
    from arbiter.gpus import GPUS, RECORDED_ONLY, normalise

    known = {one.casefold(): one for one in (*GPUS, *RECORDED_ONLY)}
    return known.get(name.strip().casefold()) or normalise(name) or name.strip()


def parse_country(code: str) -> str:
    """An ISO 3166 code of two letters.

    Raises:
        BadQuestion: it is not one.
    """
    folded = code.strip().upper()
    if not re.fullmatch(r"[A-Z]{2}", folded):
        raise BadQuestion(f"{code!r} is no country code", "use two letters, such as DE")
    return folded


def parse_purchase(name: str) -> Purchase:
    """The purchase of that name.

    Raises:
        UnknownName: there is none.
    """
    try:
        return Purchase(name.strip().lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(Purchase)
        raise UnknownName(f"there is no purchase {name!r}", f"there are {known}") from None


def parse_currency(code: str) -> str:
    """An ISO 4217 code.

    Raises:
        BadQuestion: it is not one.
    """
    folded = code.strip().upper()
    if not _CURRENCY.fullmatch(folded):
        raise BadQuestion(f"{code!r} is no currency", "use three letters, such as EUR")
    return folded


def parse_amount(text: str) -> int:
    """An amount of money above 0, in millionths.

    Raises:
        BadQuestion: it is none.
    """
    try:
        micros = int(Decimal(text.strip()) * MICROS)
    except (InvalidOperation, ValueError, OverflowError):
        micros = 0
    if not 0 < micros < 1 << 53:
        raise BadQuestion(f"{text!r} is no price", "write it as 2.50")
    return micros


def parse_share(text: str) -> int:
    """A percentage from 0 to 100, in hundredths of a per cent.

    Raises:
        BadQuestion: it is none, or finer than that.
    """
    try:
        basis = Decimal(text.strip().rstrip("%")) * 100
        if not 0 <= basis <= 10_000 or basis != int(basis):
            raise ValueError
    except (InvalidOperation, ValueError, OverflowError):
        raise BadQuestion(f"{text!r} is no percentage", "write it as 95 or 99.5") from None
    return int(basis)


def folded(name: str) -> str:
    """How a name looks, for the nearest of several: H1OO is H100."""
    return name.casefold().translate(_LOOKALIKES)


_LOOKALIKES = str.maketrans("oil", "011")


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
