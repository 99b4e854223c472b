"""Opening the database: migrations, other people's databases, and errors in one line."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgresql_server import PostgresqlServer
from sqlalchemy import create_engine, make_url, text

from arbiter.errors import StoreError
from arbiter.store import SCHEMA, alive, driver
from arbiter.store.engine import Store, explain, known_revisions, make_engine, schema_of
from arbiter.store.tables import metadata


def execute(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def refused(url: str) -> str:
    """The one line in which the database is refused."""
    with pytest.raises(StoreError) as caught:
        Store(url)
    told = str(caught.value)
    assert "\n" not in told
    return told


def test_an_empty_database_is_brought_to_the_newest_schema(empty_database_url: str) -> None:
    store = Store(empty_database_url)
    assert schema_of(store.engine) == SCHEMA
    store.close()
    again = Store(empty_database_url, migrate=False)  # nothing is left to do
    again.close()


def test_the_newest_migration_is_the_one_that_the_quick_path_knows() -> None:
    assert max(known_revisions()) == SCHEMA


def test_the_migrated_schema_is_that_of_the_tables(empty_database_url: str) -> None:
    store = Store(empty_database_url)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    store.close()


def test_the_comparison_would_notice_a_missing_column(empty_database_url: str) -> None:
    store = Store(empty_database_url)
    with store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE poll DROP COLUMN reasons")
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert len(compare_metadata(context, metadata)) == 1
    store.close()


def test_without_migrating_an_empty_database_is_refused(empty_database_url: str) -> None:
    with pytest.raises(StoreError, match=r"is empty.*arbiter poll"):
        Store(empty_database_url, migrate=False)


def test_a_newer_database_is_refused(empty_database_url: str) -> None:
    Store(empty_database_url).close()
    execute(empty_database_url, "UPDATE alembic_version SET version_num = '9999'")
    told = refused(empty_database_url)
    assert "schema 9999, newer than this arbiter's" in told
    assert "ARBITER_DATABASE_URL" in told


def test_a_database_of_somebody_else_is_refused_and_left_alone(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE invoices (id INTEGER)")
    assert "holds other tables; give arbiter a database of its own" in refused(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.dialect.get_table_names(connection) == ["invoices"]
    engine.dispose()


def test_many_may_open_an_empty_database_at_once(empty_database_url: str) -> None:
    script = "import sys; from arbiter.store.engine import Store; Store(sys.argv[1]).close()"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, empty_database_url], stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [child.communicate()[1] for child in children]
    assert [(child.returncode, error) for child, error in zip(children, told, strict=True)] == [
        (0, "")
    ] * 3


def test_two_writers_queue(empty_database_url: str) -> None:
    """Neither sees the other's half, and neither is refused."""
    store = Store(empty_database_url)
    statement = text("INSERT INTO meta (key, value) SELECT 'n' || count(*), '' FROM meta")
    with store.begin() as connection:
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('first', '')"))

    def write() -> None:
        for _ in range(10):
            with store.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("LOCK TABLE meta"))
                connection.execute(statement)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM meta")).scalar() == 31
    store.close()


def test_an_error_inside_undoes_the_transaction(empty_database_url: str) -> None:
    store = Store(empty_database_url)
    with pytest.raises(StoreError, match="refused"), store.begin() as connection:  # noqa: PT012
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('a', 'b')"))
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('a', 'c')"))
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM meta")).scalar() == 0
    store.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_text("this is no database, but it is long enough to look at" * 30)
    assert "x.db is not a database" in refused(f"sqlite:///{file}")
    assert file.read_text().startswith("this is no database")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refused(f"sqlite:///{tmp_path}/file/sub/x.db")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:hunter2@h/n", "database_url names mysql; use SQLite or PostgreSQL"),
        ("hunter2", "database_url is not a URL"),
        ("postgresql://u:hunter2@127.0.0.1:9/n", "refused"),
        ("postgresql://127.0.0.1:9/n?user=u&password=hunter2", "refused"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line_without_its_password(url: str, told: str) -> None:
    pytest.importorskip("psycopg")
    line = refused(url)
    assert told in line
    assert "hunter2" not in line


def test_a_connection_that_the_server_has_ended_is_replaced(postgresql: PostgresqlServer) -> None:
    with postgresql.database() as url:
        store = Store(url)
        with store.read() as connection:
            ended = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with postgresql.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", (ended,))  # waits for its end
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != ended
        store.close()


def test_a_connection_that_has_rested_long_is_asked(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "QUIET_S", 0)
    with postgresql.database() as url:
        store = Store(url)
        pids = set()
        for _ in range(2):
            with store.read() as connection:
                pids.add(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        assert len(pids) == 1
        store.close()


def test_an_error_of_the_driver_is_told_in_one_line(empty_database_url: str) -> None:
    store = Store(empty_database_url)
    with pytest.raises(StoreError, match=r"refused: .*nowhere"), store.read() as connection:
        driver.row(connection, "SELECT 1 FROM nowhere")
    with store.read() as connection:
        assert driver.row(connection, "SELECT 1")[0] == 1
    store.close()


def test_a_disk_without_room_to_begin_on_is_told_with_what_to_look_at() -> None:
    # what SQLite says of a database in WAL mode on a disk that is full already
    told = explain(make_url("sqlite:////full/a.db"), sqlite3.OperationalError("disk I/O error"))
    what = "sqlite:////full/a.db cannot be read or written: disk I/O error"
    assert told == (what, "check the disk and its free space")
