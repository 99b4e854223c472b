"""Hours of the week in which a service is to have more replicas. Pure.

"mon-fri 08:00-20:00 Europe/Berlin = 4"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from arbiter.errors import ArbiterError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_REPLICAS = 64
_DAY_MIN = 24 * 60
_WINDOW = re.compile(
    r"(?P<days>[a-z,-]+)\s+(?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d)"
    r"(?:\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*))?\s*=\s*(?P<replicas>\d+)"
)
_EXAMPLE = "write it like: mon-fri 08:00-20:00 Europe/Berlin = 4"


@dataclass(frozen=True, slots=True)
class ScheduleWindow:
    """Hours of the week in which a service is to have at least so many replicas.

    Attributes:
        days: on which it begins; 0 is Monday.
        start, end: minutes after local midnight. An end that is not after the start is on the
            next day.
        zone: IANA name of the time zone that the hours are meant in.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str
    replicas: int

    @classmethod
    def parse(cls, text: str) -> ScheduleWindow:
        """The window of its printed form: "mon-fri 08:00-20:00 Europe/Berlin = 4".

        Days are "daily", single ones, ranges, or several of these with commas. Without a zone it
        is UTC. Whether there is such a zone is for the caller to find out.

        Raises:
            ArbiterError: the text is none.
        """
        found = _WINDOW.fullmatch(text.strip())
        if found is None:
            raise ArbiterError(f"{text!r} is no schedule", _EXAMPLE)
        window = cls(
            _days(found["days"], text),
            _minutes(found["start"], text),
            _minutes(found["end"], text),
            found["zone"] or "UTC",
            int(found["replicas"]),
        )
        if window.start == _DAY_MIN or window.replicas > MOST_REPLICAS:
            raise ArbiterError(
                f"{text!r}: hours begin before 24:00, and replicas are at most {MOST_REPLICAS}",
                _EXAMPLE,
            )
        return window

    def __str__(self) -> str:
        hours = "-".join(f"{one // 60:02}:{one % 60:02}" for one in (self.start, self.end))
        return f"{_named(self.days)} {hours} {self.zone} = {self.replicas}"

    def is_open(self, local: datetime) -> bool:
        """Whether it is open at an instant, given as the zone's own time."""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (today - 1) % len(DAYS)
        evening = today in self.days and minute >= self.start
        return evening or (yesterday in self.days and minute < self.end)


def _days(text: str, whole: str) -> tuple[int, ...]:
    if text == "daily":
        return tuple(range(len(DAYS)))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ArbiterError(f"{part!r} in {whole!r} is no day", f"days are {', '.join(DAYS)}")
        day, end = DAYS.index(first), DAYS.index(last if dash else first)
        found.add(day)
        while day != end:
            day = (day + 1) % len(DAYS)
            found.add(day)
    return tuple(sorted(found))


def _named(days: Sequence[int]) -> str:
    """The days as they are written: three or more in a row as a range."""
    if len(days) == len(DAYS):
        return "daily"
    rows: list[list[int]] = []
    for day in days:
        if rows and rows[-1][-1] == day - 1:
            rows[-1].append(day)
        else:
            rows.append([day])
    parts = [
        f"{DAYS[row[0]]}-{DAYS[row[-1]]}" if len(row) > 2 else ",".join(DAYS[day] for day in row)
        for row in rows
    ]
    return ",".join(parts)


def _minutes(text: str, whole: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    found = hours * 60 + minutes
    if minutes > 59 or found > _DAY_MIN:
        raise ArbiterError(f"{text!r} in {whole!r} is no time of day", _EXAMPLE)
    return found
