"""Series: which there are, and what is computed from of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import Connection, select

from arbiter.domain import Purchase
from arbiter.store.tables import series

if TYPE_CHECKING:
    from arbiter.prices.steps import Ints

Part = tuple[str, str, str]
"""A provider, a region and a purchase: what a poll sees whole, or does not."""

_T = TypeVar("_T")


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


class Ids(tuple[int, ...]):
    """Ids of series, ascending."""

    @cached_property
    def listed(self) -> str:
        """As SQL lists them."""
        return ",".join(map(str, self))


class Lines(tuple[Line, ...]):
    """Series by ascending id, with what is computed from as arrays; each is made once."""

    @cached_property
    def named(self) -> Ids:
        """The id of each."""
        return Ids(line.id for line in self)

    @cached_property
    def ids(self) -> Ints:
        """The id of each, as an array."""
        import numpy as np

        return np.asarray(self.named, np.int64)

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


def _distinct(values: Iterable[_T]) -> tuple[Sequence[_T], Ints]:
    import numpy as np

    places: dict[_T, int] = {}
    of_each = [places.setdefault(value, len(places)) for value in values]
    return tuple(places), np.asarray(of_each, np.int64)
