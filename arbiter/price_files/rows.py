"""A row of somebody's file as a past price, or the reason why it is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from arbiter import gpus
from arbiter.domain import Purchase
from arbiter.price_files.contract import IDENTITY, PRICES, BadFile, Layout, Reading
from arbiter.price_files.machines import Machines
from arbiter.quality import Malformed, read_price
from arbiter.regions import Atlas
from arbiter.store.spool import GAP, OPEN, PastPrices, SeriesFacts

Row = Sequence[Any]

LINUX = frozenset({"", "linux", "linux/unix", "linux/unix (amazon vpc)"})
"""Operating systems, in lower case, whose prices are read; "" is where the file does not say."""

NOT_LINUX = "not Linux"

LISTED = 20
"""Rows left out that are told one by one."""

MOST_SOURCES = 1_000

_REMEMBERED = 100_000  # texts whose meaning is kept; prices and times come again and again
_BATCH = 50_000
_NEW = (-1, -1)

PURCHASES = {
    "spot": Purchase.SPOT,
    "preemptible": Purchase.SPOT,
    "interruptible": Purchase.SPOT,
    "on_demand": Purchase.ON_DEMAND,
    "ondemand": Purchase.ON_DEMAND,
    "reserved": Purchase.RESERVED,
}


class BadRow(Exception):
    """A row that cannot be right.

    Attributes:
        column: the file's own name of the column, or "" for the row as a whole.
        reason: short and countable.
        value: what stands there.
        hint: what to do, or None.
    """

    def __init__(self, column: str, reason: str, value: object = "", hint: str | None = None):
        super().__init__(reason)
        self.column, self.reason, self.value, self.hint = column, reason, value, hint

    @property
    def sentence(self) -> str:
        """One line for the user."""
        at = f"{self.column}: " if self.column else ""
        text = str(self.value)
        shown = f" ({text[:60]!r})" if text else ""
        return f"{at}{self.reason}{shown}"


@dataclass
class LeftOut:
    """The rows that were left out.

    Attributes:
        reasons: reason -> count.
        listed: (line, sentence) of the first of them.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many."""
        return self.reasons.total()

    def add(self, line: int, row: BadRow) -> None:
        """Count one."""
        self.reasons[row.reason] += 1
        if len(self.listed) < LISTED:
            self.listed.append((line, row.sentence))


class Rows:
    """Reads rows of one layout into a collection of past prices.

    Args:
        now: a price of the future is refused.
        machines: for files that do not name the GPU.

    Attributes:
        gaps: rows without a price: nothing was on sale from then on, or nobody knew a price.
        other_systems: rows that were passed over, for they price another system than Linux.
    """

    def __init__(
        self,
        layout: Layout,
        reading: Reading,
        past: PastPrices,
        now: datetime,
        atlas: Atlas,
        machines: Machines,
    ) -> None:
        self.gaps = self.other_systems = 0
        self._layout, self._reading, self._past = layout, reading, past
        self._now = int(now.timestamp())
        self._atlas, self._machines = atlas, machines
        self._identity = [layout.places[name] for name in IDENTITY if name in layout.places]
        self._priced_in = next(name for name in PRICES if layout.has(name))
        self._price = layout.places.get(self._priced_in)
        self._from = layout.places.get("valid_from")
        self._to = layout.places.get("valid_to")
        self._names_gpus_only = "gpu_count" in layout.places and (
            layout.places.get("instance_type") == layout.places.get("gpu", -1)
        )
        self._micros = _remembering(self._read_price)
        self._instant = _remembering(self._read_instant)
        self._end = _remembering(self._read_end)
        self._series: dict[tuple[Any, ...], tuple[int, int] | None] = {}
        self._begin_batch()

    def add(self, row: Row) -> None:
        """Take a row.

        Raises:
            BadRow: it cannot be right; nothing of it was taken.
            BadFile: the file as a whole cannot be.
        """
        key = tuple([row[place] for place in self._identity])
        found = self._series.get(key, _NEW)
        if found is _NEW:
            found = self._series[key] = self._named(row)
        if found is None:
            self.other_systems += 1
            return
        values = self._layout.values
        since = self._instant(row[self._from] if self._from is not None else values["valid_from"])
        until = OPEN
        if self._to is not None:
            until = self._end(row[self._to])
            if until != OPEN and until <= since:
                raise self._bad("valid_to", "ends before it begins", row[self._to])
        micros = self._micros(
            row[self._price] if self._price is not None else values[self._priced_in]
        )
        if self._priced_in == "price_gpu_hour":
            micros *= self._past.series[found[0]].gpu_count
        self.gaps += micros == GAP
        numbers, begins, ends, prices, origins = self._batch
        numbers.append(found[0])
        begins.append(since)
        ends.append(until)
        prices.append(micros)
        origins.append(found[1])
        if len(numbers) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand over what was taken."""
        if self._batch[0]:
            self._past.extend(*self._batch)
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._batch: tuple[list[int], ...] = ([], [], [], [], [])

    def _bad(self, ours: str, reason: str, value: object = "", hint: str | None = None) -> BadRow:
        return BadRow(self._layout.names.get(ours, ours), reason, value, hint)

    # --- whose price it is ----------------------------------------------------------------------

    def _text(self, row: Row, name: str) -> str:
        place = self._layout.places.get(name)
        value = self._layout.values.get(name, "") if place is None else row[place]
        text = "" if value is None else str(value).strip()
        if not text and place is not None and name in ("tier", "source", "is_backfill"):
            text = self._layout.values.get(name, "")
        if not text.isprintable():
            raise self._bad(name, "is not readable text", text)
        return text

    def _needed(self, row: Row, name: str) -> str:
        text = self._text(row, name)
        if not text:
            raise self._bad(name, "is empty")
        return text

    def _named(self, row: Row) -> tuple[int, int] | None:
        """The numbers of the row's series and of its origin, or None where it is none of ours."""
        if self._text(row, "os").lower() not in LINUX:
            return None
        provider = self._needed(row, "provider").lower()
        instance_type, zone = self._needed(row, "instance_type"), self._text(row, "zone")
        gpu, gpu_count = self._gpu(row, provider, instance_type)
        if self._names_gpus_only:
            instance_type = f"{gpu_count}x {instance_type}"  # a machine of eight is another machine
        source = self._needed(row, "source")
        facts = SeriesFacts(
            provider,
            self._needed(row, "tier"),
            self._region(row, provider, zone),
            zone,
            instance_type,
            self._purchase(row).value,
            self._currency(row),
            gpu,
            gpu_count,
            source,
        )
        origin = self._past.origin(source, self._is_backfill(row))
        if origin >= MOST_SOURCES:
            raise BadFile(
                f"the column {self._layout.names.get('source', 'source')!r} has more than "
                f"{MOST_SOURCES} values",
                "a source is where prices come from, the same for many: --set source=NAME",
            )
        number = self._past.number(facts)
        self._must_agree(self._past.series[number], facts)
        return number, origin

    def _must_agree(self, earlier: SeriesFacts, facts: SeriesFacts) -> None:
        """A machine has one GPU and one number of them: prices of two machines never mix."""
        for name in ("gpu", "gpu_count"):
            before, now = getattr(earlier, name), getattr(facts, name)
            if before != now:
                raise self._bad(
                    name,
                    "is not what an earlier row says of this machine",
                    f"{facts.instance_type}: {now}, not {before}",
                    "name different machines apart: --map COLUMN=instance_type",
                )

    def _purchase(self, row: Row) -> Purchase:
        text = self._needed(row, "purchase")
        found = PURCHASES.get(text.lower().replace("-", "_").replace(" ", "_"))
        if found is None:
            raise self._bad(
                "purchase", "is no purchase", text, "there are spot, on_demand, reserved"
            )
        return found

    def _currency(self, row: Row) -> str:
        text = self._needed(row, "currency").upper()
        if len(text) != 3 or not text.isascii() or not text.isalpha():
            raise self._bad("currency", "is no ISO 4217 code", text)
        return text

    def _is_backfill(self, row: Row) -> bool:
        text = self._needed(row, "is_backfill").lower()
        if text not in ("true", "false", "1", "0"):
            raise self._bad("is_backfill", "is neither true nor false", text)
        return text in ("true", "1")

    def _region(self, row: Row, provider: str, zone: str) -> str:
        region = self._text(row, "region")
        if not region and zone:
            # "eu-west-1c" lies in eu-west-1: the longest region of that beginning.
            regions = self._atlas.regions(provider)
            region = max((one for one in regions if zone.startswith(one)), key=len, default="")
        if not region:
            raise self._bad("region", "is empty", zone, "give a column: --map COLUMN=region")
        return region

    def _gpu(self, row: Row, provider: str, instance_type: str) -> tuple[str, int]:
        gpu, count = self._text(row, "gpu"), self._text(row, "gpu_count")
        if not gpu or not count:
            known = self._machines.of(provider, instance_type)
            if known is None:
                missing = "gpu_count" if gpu else "gpu"
                raise self._bad(
                    missing,
                    f"is not given, and neither a recorded price nor {provider} itself says it",
                    instance_type,
                    f"give a column: --map COLUMN={missing}, or --set {missing}=...",
                )
            gpu, count = gpu or known[0], count or str(known[1])
        try:
            number = int(count)
        except ValueError:
            number = 0
        if not 1 <= number <= 1024:
            raise self._bad("gpu_count", "is no number of GPUs", count)
        return _gpu_name(gpu), number

    # --- figures --------------------------------------------------------------------------------

    def _read_price(self, value: Hashable) -> int:
        if value is None or value == "" or value != value:
            return GAP
        name = self._priced_in
        try:
            amount: Any = Decimal(repr(value)) if isinstance(value, float) else value
            if isinstance(amount, str):
                amount = amount.strip()
            if amount == "":
                return GAP
            if name == "price_micros":
                amount = Decimal(amount).scaleb(-6)
            return read_price(amount).micros
        except Malformed as error:
            raise self._bad(name, str(error), value) from None
        except ArithmeticError:
            raise self._bad(name, "price is not a number", value) from None

    def _read_end(self, value: Hashable) -> int:
        """The end, or OPEN where there is none or it has not come yet."""
        if value is None or value == "":
            return OPEN
        end = self._seconds(value, "valid_to")
        return OPEN if end > self._now else end

    def _read_instant(self, value: Hashable) -> int:
        if value is None or value == "":
            raise self._bad("valid_from", "is empty")
        since = self._seconds(value, "valid_from")
        if since > self._now:
            raise self._bad("valid_from", "lies in the future", value)
        return since

    def _seconds(self, value: Any, name: str) -> int:
        """Epoch seconds of an instant: whole ones, a fraction is cut off."""
        instant = _instant(value)
        if instant is None:
            raise self._bad(name, "is no time", value, "write it as 2026-09-01T08:00:00Z")
        if instant.tzinfo is None:
            if self._reading.zone is None:
                raise self._bad(
                    name, "has no time zone", value, "say which is meant: --tz Europe/Berlin"
                )
            instant = instant.replace(tzinfo=self._reading.zone)
        try:
            seconds = int(instant.timestamp() // 1)
        except (OverflowError, ValueError):
            seconds = -1
        if seconds < 0:
            raise self._bad(name, "is before 1970", value)
        return seconds


def _instant(value: Any) -> datetime | None:
    """A time of a file: ISO 8601, or seconds or milliseconds since 1970 UTC."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    text = str(value).strip()
    try:
        if text.isdecimal() and len(text) in (10, 13):
            return datetime.fromtimestamp(int(text[:10]), UTC)
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _gpu_name(text: str) -> str:
    if text in gpus.GPUS or text in gpus.RECORDED_ONLY or "(" in text:
        return text
    return gpus.normalise(text) or text


def _remembering(read: Callable[[Hashable], int]) -> Callable[[Hashable], int]:
    """The function with a memory that forgets everything when it is full."""
    found: dict[Hashable, int] = {}

    def remembered(value: Hashable) -> int:
        known = found.get(value)
        if known is None:
            if len(found) >= _REMEMBERED:
                found.clear()
            known = found[value] = read(value)
        return known

    return remembered
