"""How instants stand in the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite itself would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime must not be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


EPOCH_2000 = 946_684_800
"""2000-01-01T00:00:00Z in seconds since 1970. Change rows, of which there are millions, count from
there in 4 bytes, which last until January 2068; since 1970 they would end in January 2038."""

LAST_2000 = EPOCH_2000 + 2**31 - 1
"""The last second, since 1970, that seconds since 2000 can say in 4 bytes."""


class _Since2000(TypeDecorator[int]):
    """Seconds since 1970 in Python, as everywhere; since 2000 in the database."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, _dialect: Dialect) -> int | None:
        return None if value is None else value - EPOCH_2000

    def process_result_value(self, value: int | None, _dialect: Dialect) -> int | None:
        return None if value is None else value + EPOCH_2000


class Seconds2000(_Since2000):
    """The same in 4 bytes. What it is compared with may lie beyond them."""

    impl = Integer
    cache_ok = True

    def coerce_compared_value(self, _op: Any, _value: Any) -> _Since2000:
        return _Since2000()
