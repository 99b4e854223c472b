"""Past prices on their way into the store: in columns, sorted, in bounded memory.

Rows come in any order and leave by series and time. What does not fit in one run is sorted on the
disk, in a file that has no name: a killed program leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import islice, pairwise
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from arbiter.provider import PastPrice

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.void]

RUN = 250_000
"""Rows that are sorted in memory at once."""

OPEN = 0
"""A `valid_to` that is not known: the price stood until the series' next row."""

GAP = 0
"""A `micros` that says that nothing was on sale from this instant on."""

TIME_BITS = 33
"""Seconds since 1970 take so many bits until the year 2242."""

LAST_SECOND = (1 << TIME_BITS) - 1

ROW = np.dtype(
    [
        ("begin", np.int64),  # series and instant on one axis: number << TIME_BITS | valid_from
        ("until", np.int64),  # epoch seconds, or OPEN
        ("micros", np.int64),  # per hour, for the whole instance; or GAP
        ("origin", np.int32),
    ]
)
"""A row of a chunk, as it is sorted."""

_SAMPLES = 256  # places of each run that are kept in memory


class SeriesFacts(NamedTuple):
    """What identifies a series, and what it is. `zone` is '' where the whole region is meant."""

    provider: str
    tier: str
    region: str
    zone: str
    instance_type: str
    purchase: str
    currency: str
    gpu: str
    gpu_count: int
    source: str


class Origin(NamedTuple):
    """Where past prices come from, and whether arbiter itself did not see them at their time."""

    source: str
    is_backfill: bool = True


class PastPrices:
    """Collects past prices. Close it, or use it as a context: its file goes with it.

    Args:
        run: rows that are sorted in memory at once.

    Attributes:
        series, origins: what the numbers in the columns mean.
        rows: how many were added.
        latest: the last instant that any row names, epoch seconds, or None without rows.
    """

    def __init__(self, run: int = RUN) -> None:
        self.series: list[SeriesFacts] = []
        self.origins: list[Origin] = []
        self.rows = 0
        self.latest: int | None = None
        self._numbers: dict[tuple[str | int, ...], int] = {}
        self._origin_numbers: dict[Origin, int] = {}
        self._run = run
        self._held: list[Rows] = []
        self._held_rows = 0
        self._runs: list[int] = []  # rows of each run in the file
        self._samples: list[Ints] = []  # every so-manieth place of each run
        self._file: IO[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and disk back."""
        self._open.close()
        self._held = []

    def number(self, facts: SeriesFacts) -> int:
        """The number of a series; facts beyond its identity count where it is named first."""
        key = facts[:7]
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.series)
            self.series.append(facts)
        return found

    def origin(self, source: str, is_backfill: bool = True) -> int:
        """The number of an origin."""
        origin = Origin(source, is_backfill)
        found = self._origin_numbers.get(origin)
        if found is None:
            found = self._origin_numbers[origin] = len(self.origins)
            self.origins.append(origin)
        return found

    def extend(
        self,
        number: Sequence[int] | npt.ArrayLike,
        valid_from: Sequence[int] | npt.ArrayLike,
        valid_to: Sequence[int] | npt.ArrayLike,
        micros: Sequence[int] | npt.ArrayLike,
        origin: Sequence[int] | npt.ArrayLike,
    ) -> None:
        """Add rows as columns of equal length (or one value for all). Of two rows of a series for
        one second the later added counts.

        Args:
            number, origin: as `number()` and `origin()` gave them.
            valid_from, valid_to: epoch seconds; `OPEN` where the end is not known.
            micros: millionths of the currency per hour for the whole instance, or `GAP`.

        Raises:
            ValueError: an instant is before 1970 or after 2241, a stretch does not end after it
                begins, or a price is negative.
        """
        since = np.asarray(valid_from, np.int64)
        rows = np.empty(len(since), ROW)
        rows["begin"] = np.asarray(number, np.int64) << TIME_BITS | since
        rows["until"], rows["micros"], rows["origin"] = valid_to, micros, origin
        if not len(rows):
            return
        until = rows["until"]
        if since.min() < 0 or max(since.max(), until.max()) > LAST_SECOND:
            raise ValueError("an instant before 1970 or after 2241")
        if ((until != OPEN) & (until <= since)).any() or rows["micros"].min() < 0:
            raise ValueError("a stretch that ends before it begins, or a negative price")
        newest = int(max(since.max(), until.max()))
        self.latest = newest if self.latest is None else max(self.latest, newest)
        self.rows += len(rows)
        for start in range(0, len(rows), self._run):
            part = rows[start : start + self._run]
            if self._held_rows + len(part) > self._run:
                self._spill()
            self._held.append(part)
            self._held_rows += len(part)

    def extend_prices(self, provider: str, prices: Iterable[PastPrice]) -> None:
        """Add the prices of a provider's own history."""
        prices = iter(prices)
        while batch := list(islice(prices, 50_000)):
            self.extend(
                [self.number(_facts(provider, one)) for one in batch],
                [_seconds(one.valid_from) for one in batch],
                [OPEN if one.valid_to is None else _seconds(one.valid_to) for one in batch],
                [one.offer.price.micros for one in batch],
                [self.origin(one.offer.source or provider) for one in batch],
            )

    def chunks(self) -> Iterator[Rows]:
        """All rows as arrays of `ROW`, sorted by series and time, about a run at a time."""
        if self._file is None:
            yield self._sorted()
            return
        self._spill()
        starts = np.cumsum([0, *self._runs]).tolist()
        at_once = max(_SAMPLES, 4 * self._run // len(self._runs))
        runs = [
            _Run(self._file, first, last, at_once) for first, last in pairwise(starts)
        ]  # fmt: skip
        for upto in [*self._cuts(), np.iinfo(np.int64).max]:
            # In the order of arrival, which the stable sort keeps among equals.
            rows = np.concatenate([run.take(upto) for run in runs])
            yield rows[np.argsort(rows["begin"], kind="stable")]

    def _cuts(self) -> list[int]:
        """Places on the axis between which the runs together have about as many rows as one."""
        samples = np.sort(np.concatenate(self._samples))
        return [int(cut) for cut in np.unique(samples[_SAMPLES::_SAMPLES])]

    def _sorted(self) -> Rows:
        rows: Rows = np.concatenate(self._held) if self._held else np.empty(0, ROW)
        begin = rows["begin"]
        if (begin[1:] >= begin[:-1]).all():
            return rows
        return rows[np.argsort(begin, kind="stable")]

    def _spill(self) -> None:
        if not self._held:
            return
        if self._file is None:
            self._file = self._open.enter_context(_nameless())
        rows = self._sorted()
        self._file.seek(0, 2)
        self._file.write(rows.tobytes())
        self._file.flush()
        self._runs.append(len(rows))
        step = max(1, self._run // _SAMPLES)
        self._samples.append(rows["begin"][::step].copy())
        self._held, self._held_rows = [], 0


class _Run:
    """A sorted run in the file, read forward a little at a time.

    Args:
        first, last: its rows in the file.
        at_once: rows that are held.
    """

    def __init__(self, file: IO[bytes], first: int, last: int, at_once: int) -> None:
        self._file, self._next, self._last, self._at_once = file, first, last, at_once
        self._rows: Rows = np.empty(0, ROW)

    def take(self, upto: int) -> Rows:
        """The rows up to and with a place that have not been taken yet."""
        parts = []
        while True:
            count = int(np.searchsorted(self._rows["begin"], upto, side="right"))
            parts.append(self._rows[:count])
            self._rows = self._rows[count:]
            if len(self._rows) or self._next == self._last:
                return np.concatenate(parts)
            self._read()

    def _read(self) -> None:
        count = min(self._at_once, self._last - self._next)
        self._file.seek(self._next * ROW.itemsize)
        self._rows = np.frombuffer(self._file.read(count * ROW.itemsize), ROW)
        self._next += count


def _nameless() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="arbiter-")


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _facts(provider: str, past: PastPrice) -> SeriesFacts:
    offer = past.offer
    return SeriesFacts(
        provider,
        offer.tier,
        offer.region,
        offer.zone or "",
        offer.instance_type,
        offer.purchase.value,
        offer.price.currency,
        offer.gpu,
        offer.gpu_count,
        offer.source,
    )
