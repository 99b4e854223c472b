"""Opening the database: the engine, the migrations, and one clear line when it cannot be used."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from arbiter.errors import StoreError
from arbiter.resources import resource_dir
from arbiter.store import SCHEMA, alive, driver

_READING = "arbiter_reading"
_MIGRATION_LOCK = 7_462_001  # PostgreSQL advisory lock: one migration at a time
_migrating = threading.Lock()

MAPPED = 1 << 30
"""Bytes of a SQLite file that are read from the system's own cache without being copied: a
question that looks at every series reads them all over the file, and takes a quarter less time."""

_WITHOUT_TRANSACTIONS = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}

BUSY_S = 15
"""Seconds that a writer waits for another program's transaction on SQLite."""

REPEATED = 1
"""Times that PostgreSQL plans a statement before its plan is kept: what comes twice comes often."""

CONNECT_S = 10
"""Seconds after which a PostgreSQL server that does not answer counts as gone."""


def parse_url(url: str) -> URL:
    """The database URL, with psycopg 3 as PostgreSQL's driver.

    Raises:
        StoreError: the URL is not one, or names another database system.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "database_url is not a URL",
            "use sqlite:////path/arbiter.db or postgresql://user@host/name",
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"database_url names {backend}", "use SQLite or PostgreSQL")
    return parsed


def make_engine(url: str, **options: Any) -> Engine:
    """An engine for the URL; SQLite's folder is made, nothing is connected yet.

    Args:
        options: of SQLAlchemy's engine on PostgreSQL.

    Raises:
        StoreError: the URL is wrong, its driver is missing, or the folder cannot be made.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    asked: dict[str, Any] = {"prepare_threshold": REPEATED}
    if "connect_timeout" not in parsed.query:
        asked["connect_timeout"] = CONNECT_S
    try:
        engine = create_engine(parsed, pool_size=5, max_overflow=10, connect_args=asked, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            "the PostgreSQL driver is not installed", "pip install 'arbiter[postgresql]'"
        ) from error
    event.listen(engine, "connect", _uncompiled)
    alive.watch(engine)
    return engine


def _uncompiled(connection: Any, _record: object) -> None:
    """To compile a question about prices takes PostgreSQL longer than to answer it."""
    before, connection.autocommit = connection.autocommit, True
    connection.execute("SET jit = off")
    connection.autocommit = before


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        folder = Path(url.database).resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_S})

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # a transaction begins where `begin` says
        # WAL: readers never wait for the one writer. FULL: a committed intent survives power loss.
        cursor = connection.cursor()
        durable = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
        for pragma in (*durable, f"mmap_size={MAPPED}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A writer takes the lock at its start: two then queue instead of failing half-way.
        reading = connection.get_execution_options().get(_READING)
        driver.run(connection, "BEGIN" if reading else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


class Store:
    """An open database of the right schema.

    Args:
        url: database URL.
        migrate: bring an older schema up; otherwise an older one is refused.

    Raises:
        StoreError: it cannot be opened, is newer than this arbiter, or is not ours.
    """

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._reader = self.engine
        if self.engine.dialect.name == "postgresql":
            self._reader = make_engine(url, **_WITHOUT_TRANSACTIONS)
        try:
            with told_clearly(self._reader):
                self._make_ready(migrate)
        except BaseException:
            self.close()
            raise

    def _make_ready(self, migrate: bool) -> None:
        found = schema_of(self._reader)
        if found == SCHEMA:
            return
        if not migrate:
            raise older_schema(found)
        upgrade(self.engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, committed at the end. No network call belongs inside.

        Raises:
            StoreError: the database refused, with the reason in one line.
        """
        with told_clearly(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading only: it waits for no writer.

        On SQLite it sees one instant. On PostgreSQL every statement sees what is committed before
        it, in a transaction or not; so there is none, which spares two round trips. And after a
        rollback psycopg would forget what it has prepared, and PostgreSQL plan every question anew,
        which takes it longer than to answer a small one.

        Raises:
            StoreError: the database refused, with the reason in one line.
        """
        with told_clearly(self._reader), self._reader.connect() as connection:
            yield connection.execution_options(**{_READING: True})

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
        self._reader.dispose()


@contextmanager
def told_clearly(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into one line that a user can act on."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(*explain(engine.url, error.orig or error)) from error
    except engine.dialect.loaded_dbapi.Error as error:
        raise StoreError(*explain(engine.url, error)) from error


def explain(url: URL, error: BaseException) -> tuple[str, str | None]:
    """What went wrong with the database, and what to do. Never shows the password.

    Args:
        error: the driver's own.
    """
    shown = shown_url(url)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    lowered = reason.lower()
    if "disk is full" in lowered or "no space left" in lowered:
        return f"the disk of {shown} is full", "free some space; nothing was half-written"
    if "locked" in lowered:
        return f"{shown} is held by another program", "end it, or try again"
    if "not a database" in lowered or "malformed" in lowered:
        return f"{shown} is not a database: {reason}", "move the file away and poll again"
    if "readonly" in lowered or "unable to open" in lowered:
        return f"{shown} cannot be written: {reason}", "check the folder's permissions"
    if "disk i/o error" in lowered:  # SQLite's word also for a disk without room to begin on
        return f"{shown} cannot be read or written: {reason}", "check the disk and its free space"
    return f"the database {shown} refused: {reason}", None


def shown_url(url: URL) -> str:
    """The URL for people: without its password, which the query part may hold too."""
    return url.set(query={}).render_as_string(hide_password=True)


def schema_of(engine: Engine) -> str | None:
    """The revision of the schema, or None for an empty database.

    Raises:
        StoreError: the database holds other tables, or is newer than this arbiter.
    """
    with engine.connect() as connection:
        connection.execution_options(**{_READING: True})
        names = inspect(connection).get_table_names()
        if "alembic_version" not in names:
            if names:
                raise StoreError(
                    f"{shown_url(engine.url)} holds other tables",
                    "give arbiter a database of its own",
                )
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in known_revisions():
        raise newer_schema(str(found))
    return found


def older_schema(found: str | None) -> StoreError:
    """The error for a database that has to be migrated first."""
    has = f"has schema {found}, older than" if found else "is empty, and not of"
    return StoreError(f"the database {has} this arbiter's {SCHEMA}", "run: arbiter poll")


def newer_schema(found: str) -> StoreError:
    """The error for a database that a later arbiter has migrated."""
    return StoreError(
        f"the database has schema {found}, newer than this arbiter's {SCHEMA}",
        "install the newer arbiter, or point ARBITER_DATABASE_URL elsewhere",
    )


def known_revisions() -> frozenset[str]:
    """The revisions that this arbiter has migrations for."""
    files = (resource_dir("migrations") / "versions").glob("[0-9]*.py")
    return frozenset(path.name.split("_", 1)[0] for path in files)


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision, one process at a time."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    # A percent sign in a path would be read as interpolation.
    location = os.fspath(resource_dir("migrations")).replace("%", "%%")
    config.set_main_option("script_location", location)
    with _migrating, engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
