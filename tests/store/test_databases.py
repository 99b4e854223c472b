"""The databases that the store's tests run on are what they say they are."""

from __future__ import annotations

import psycopg
import pytest
from postgresql_server import PostgresqlServer
from sqlalchemy import create_engine, inspect, text


def test_a_database_is_empty_and_writable(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE kept (answer INTEGER)"))
        connection.execute(text("INSERT INTO kept VALUES (42)"))
        assert connection.scalar(text("SELECT answer FROM kept")) == 42
    engine.dispose()


@pytest.mark.postgresql
def test_a_database_is_dropped_with_whoever_is_connected(postgresql: PostgresqlServer) -> None:
    with postgresql.database() as url:
        forgotten = psycopg.connect(url.replace("+psycopg", ""))
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    forgotten.close()
    with postgresql.connect() as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    assert url.rsplit("/", 1)[1] not in names
