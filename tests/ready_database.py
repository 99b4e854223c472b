"""Databases of the newest schema, copied from one that was migrated once: a tenth of the work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from postgresql_server import PostgresqlServer

from arbiter.store.engine import Store

TEMPLATE = "ready"


def ready_sqlite(file: Path) -> str:
    """The SQLAlchemy URL of a new SQLite database with every table and no row of a test's."""
    shutil.copy(_migrated(), file)
    return f"sqlite:///{file}"


@contextmanager
def ready_postgresql(server: PostgresqlServer) -> Iterator[str]:
    """The same of a new PostgreSQL database, dropped at the end."""
    _migrate(server)
    with server.database(template=TEMPLATE) as url:
        yield url


@cache
def _migrated() -> Path:
    file = Path(tempfile.mkdtemp(dir=Path.home())) / "ready.db"  # the home of this run alone
    Store(f"sqlite:///{file}").close()
    return file


@cache
def _migrate(server: PostgresqlServer) -> None:
    server.create(TEMPLATE)
    Store(server.url(TEMPLATE)).close()
