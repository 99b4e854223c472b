"""Databases of the newest schema, at a tenth of the work of migrating one.

SQLite's are copies of one that was migrated once. Of PostgreSQL's, the server needs a third of a
second to make one and to get to know it, so that they are emptied and used again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postgresql_server import PostgresqlServer

from arbiter.store.engine import Store

if TYPE_CHECKING:
    import psycopg

TEMPLATE = "ready"


def ready_sqlite(file: Path) -> str:
    """The SQLAlchemy URL of a new SQLite database with every table and no row of a test's."""
    shutil.copy(_migrated(), file)
    return f"sqlite:///{file}"


@contextmanager
def ready_postgresql(server: PostgresqlServer) -> Iterator[str]:
    """The same of a PostgreSQL database, under a name that none had before."""
    _migrate(server)
    name = server.new_name()
    spare = _spare(server)
    if spare:
        server.administer(f"ALTER DATABASE {spare.pop()} RENAME TO {name}")
    else:
        server.create(name, TEMPLATE)
    try:
        yield server.url(name)
    finally:
        if _emptied(server, name):
            spare.append(name)
        else:
            server.drop(name)


def _emptied(server: PostgresqlServer, name: str) -> bool:
    """Whether it is as new again; not where a test has changed the tables themselves."""
    with server.connect(name) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if _columns(connection) != _migrate(server):
            return False
        used = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind = 'r' AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0"
        )
        tables = ", ".join(one for (one,) in used)
        if tables:
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    return True


def _columns(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Of every table, view, index and sequence, and the revision that is said of them."""
    return connection.execute(
        "SELECT relname, relkind::text, attname, atttypid::int, attnotnull, version_num"
        " FROM alembic_version, pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE relnamespace = 'public'::regnamespace ORDER BY relname, attnum"
    ).fetchall()


@cache
def _migrated() -> Path:
    file = Path(tempfile.mkdtemp(dir=Path.home())) / "ready.db"  # the home of this run alone
    Store(f"sqlite:///{file}").close()
    return file


@cache
def _migrate(server: PostgresqlServer) -> list[tuple[Any, ...]]:
    server.create(TEMPLATE)
    Store(server.url(TEMPLATE)).close()
    with server.connect(TEMPLATE) as connection:
        return _columns(connection)


@cache
def _spare(server: PostgresqlServer) -> list[str]:
    """The names of databases that nobody uses now."""
    return []
