"""Questions put to the driver itself, within the transaction of SQLAlchemy's connection.

SQLAlchemy describes a result before it hands it over, and that takes longer than a small question
takes the database. Errors are the driver's own: `engine.told_clearly` tells them as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection


def row(connection: Connection, sql: str) -> Sequence[Any]:
    """The first row of the answer; there must be one. PostgreSQL sends it in binary."""
    return _begun(connection, sql).fetchone()  # type: ignore[no-any-return]


def rows(connection: Connection, sql: str) -> list[Sequence[Any]]:
    """All rows of the answer."""
    return _begun(connection, sql).fetchall()  # type: ignore[no-any-return]


def run(connection: Connection, sql: str) -> None:
    """Have a statement done, whether or not a transaction has begun."""
    _ask(connection, sql)


def _begun(connection: Connection, sql: str) -> Any:
    if not connection.in_transaction():
        connection.begin()
    return _ask(connection, sql)


def _ask(connection: Connection, sql: str) -> Any:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return driver.execute(sql)
    return driver.cursor(binary=True).execute(sql)
