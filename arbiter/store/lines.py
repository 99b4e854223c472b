"""The series that questions are about, read once and remembered until one of them is changed.

Twelve thousand series take longer to read than their prices at an instant, and hardly ever change:
a poll names a new one now and then, and corrects what an old one is said to be still more seldom.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, delete, insert, select

from arbiter.domain import Purchase
from arbiter.store.tables import meta, series

if TYPE_CHECKING:
    from arbiter.prices.steps import Ints

Part = tuple[str, str, str]
"""A provider, a region and a purchase: what a poll sees whole, or does not."""

CORRECTED = "series_corrected"
"""The key in `meta` of how often what is said of series was corrected."""

_T = TypeVar("_T")
_MOST = 32  # questions whose series are remembered; the series themselves are shared


class Line(NamedTuple):
    """A series: one thing on sale, whose price is a step function.

    Attributes:
        zone: "" where the price holds for the whole region.
    """

    id: int
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

    @property
    def part(self) -> Part:
        """What has to be polled whole for its price to be seen."""
        return self.provider, self.region, self.purchase


class Lines(tuple[Line, ...]):
    """Series by ascending id, with what is computed from as arrays; each is made once."""

    @cached_property
    def ids(self) -> Ints:
        """The id of each."""
        import numpy as np

        return np.asarray([line.id for line in self], np.int64)

    @cached_property
    def gpu_counts(self) -> Ints:
        """The number of GPUs of each."""
        import numpy as np

        return np.asarray([line.gpu_count for line in self], np.int64)

    @cached_property
    def parts(self) -> tuple[Sequence[Part], Ints]:
        """The parts that there are, and the place in them of each series' own."""
        return _distinct(line.part for line in self)

    @cached_property
    def currencies(self) -> tuple[Sequence[str], Ints]:
        """The currencies that there are, and the place in them of each series' own."""
        return _distinct(line.currency for line in self)


def lines(
    connection: Connection,
    *,
    gpu: str | None = None,
    purchase: Purchase | None = None,
    providers: Sequence[str] = (),
    regions: Sequence[str] = (),
    zones: Sequence[str] = (),
    tiers: Sequence[str] = (),
    instance_types: Sequence[str] = (),
) -> Lines:
    """The series that pass the filters; an empty filter lets everything pass."""
    statement = select(series).order_by(series.c.id)
    if gpu is not None:
        statement = statement.where(series.c.gpu == gpu)
    if purchase is not None:
        statement = statement.where(series.c.purchase == purchase.value)
    for column, wanted in (
        (series.c.provider, providers),
        (series.c.region, regions),
        (series.c.zone, zones),
        (series.c.tier, tiers),
        (series.c.instance_type, instance_types),
    ):
        if wanted:
            statement = statement.where(column.in_(wanted))
    cursor: Any = connection.execute(statement).cursor
    return Lines(map(Line._make, cursor.fetchall()))


def remembered(connection: Connection, asked: Hashable, read: Callable[[], Lines]) -> Lines:
    """What `read` returns, or has returned for the same question since a series last changed.

    Args:
        connection: in a transaction that has changed no series itself.
        asked: all that the answer depends on besides what is stored.
    """
    cursor: Any = connection.exec_driver_sql(_STATE).cursor
    return _memory_of(connection.engine).answer(tuple(cursor.fetchone()), asked, read)


def note_corrections(connection: Connection) -> None:
    """Whoever changes a row of `series` says so, or questions go on with what it was.

    New rows need no note. Writers of series wait for each other: see `prices.alone`.
    """
    times = connection.execute(select(meta.c.value).where(meta.c.key == CORRECTED)).scalar()
    connection.execute(delete(meta).where(meta.c.key == CORRECTED))
    connection.execute(insert(meta).values(key=CORRECTED, value=str(int(times or 0) + 1)))


class _Memory:
    """The series of the last questions to one database, as of one state of it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: tuple[Any, ...] = ()
        self._answers: OrderedDict[Hashable, Lines] = OrderedDict()
        self._shared: dict[int, Line] = {}

    def answer(self, state: tuple[Any, ...], asked: Hashable, read: Callable[[], Lines]) -> Lines:
        with self._lock:
            if state != self._state:
                self._state = state
                self._answers.clear()
                self._shared.clear()
            known = self._answers.get(asked)
            if known is not None:
                self._answers.move_to_end(asked)
                return known
        found = read()
        with self._lock:
            if state == self._state:
                found = Lines(self._shared.setdefault(line.id, line) for line in found)
                self._answers[asked] = found
                if len(self._answers) > _MOST:
                    self._answers.popitem(last=False)
        return found


_memories: WeakKeyDictionary[Engine, _Memory] = WeakKeyDictionary()
_making = Lock()

_STATE = """
SELECT (SELECT MAX(id) FROM series), (SELECT value FROM meta WHERE key = 'series_corrected')
"""


def _memory_of(engine: Engine) -> _Memory:
    with _making:
        return _memories.setdefault(engine, _Memory())


def _distinct(values: Iterable[_T]) -> tuple[Sequence[_T], Ints]:
    import numpy as np

    places: dict[_T, int] = {}
    of_each = [places.setdefault(value, len(places)) for value in values]
    return tuple(places), np.asarray(of_each, np.int64)
