"""The view that other programs read: its columns, their order and their types stay."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from arbiter.domain import Purchase
from arbiter.store import bulk
from arbiter.store.engine import Store
from arbiter.store.instants import EPOCH_2000
from arbiter.store.prices import PollRow, PriceBook
from arbiter.store.spool import PastPrices, SeriesFacts
from arbiter.testing import priced

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

COLUMNS = {
    # column: (type on PostgreSQL, type of its values on SQLite)
    "provider": ("TEXT", "text"),
    "tier": ("TEXT", "text"),
    "region": ("TEXT", "text"),
    "zone": ("TEXT", "text"),
    "instance_type": ("TEXT", "text"),
    "gpu": ("TEXT", "text"),
    "gpu_count": ("INTEGER", "integer"),
    "purchase": ("TEXT", "text"),
    "currency": ("TEXT", "text"),
    "price_hour": ("NUMERIC(20, 6)", "real"),
    "price_gpu_hour": ("NUMERIC(20, 6)", "real"),
    "valid_from": ("TIMESTAMP", "text"),
    "valid_to": ("TIMESTAMP", "text"),
    "source": ("TEXT", "text"),
    "is_backfill": ("BOOLEAN", "integer"),
}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A price that stands, and one of a backfill."""
    opened = Store(database_url)
    with opened.begin() as connection, PastPrices() as past:
        offer = priced("eu-north-1", "2.5", gpu_count=4, instance_type="g6.12xlarge")
        covered = frozenset({("eu-north-1", Purchase.SPOT)})
        row = PollRow("aws", NOW, NOW, "ok")
        PriceBook("aws").record(connection, [offer], covered, row)
        facts = SeriesFacts(
            "aws", "standard", "eu-north-1", "", "g6.12xlarge", "spot", "USD", "L4", 4, "x"
        )
        since = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())
        number, origin = past.number(facts), past.origin("aws:history")
        past.extend([number], [since], [since + 3600], [1_000_001], [origin])
        bulk.write(connection, past, NOW)
    yield opened
    opened.close()


def test_the_columns_and_their_types_stay(store: Store) -> None:
    found = inspect(store.engine).get_columns("price_history_v1")
    assert [column["name"] for column in found] == list(COLUMNS)
    with store.read() as connection:
        if store.engine.dialect.name == "postgresql":
            types = {column["name"]: str(column["type"]) for column in found}
            assert types == {name: kinds[0] for name, kinds in COLUMNS.items()}
            zoned = {c["name"] for c in found if getattr(c["type"], "timezone", False)}
            assert zoned == {"valid_from", "valid_to"}
        else:
            kinds = ", ".join(f"typeof({name}) AS {name}" for name in COLUMNS)
            where = "WHERE valid_to IS NOT NULL"
            row = connection.execute(text(f"SELECT {kinds} FROM price_history_v1 {where}")).one()
            assert dict(row._mapping) == {name: kinds[1] for name, kinds in COLUMNS.items()}


def test_its_rows_say_price_time_and_where_from(store: Store) -> None:
    with store.read() as connection:
        rows = connection.execute(
            text("SELECT * FROM price_history_v1 ORDER BY valid_from")
        ).mappings()
        past, live = [dict(row) for row in rows]
    on_sqlite = store.engine.dialect.name == "sqlite"

    def instant(*parts: int) -> object:
        found = datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]
        return f"{found:%Y-%m-%dT%H:%M:%SZ}" if on_sqlite else found

    assert (past["valid_from"], past["valid_to"]) == (instant(2026, 10, 1), instant(2026, 10, 1, 1))
    assert (live["valid_from"], live["valid_to"]) == (instant(2026, 11, 1, 12), None)
    assert (past["source"], bool(past["is_backfill"])) == ("aws:history", True)
    assert (live["source"], bool(live["is_backfill"])) == ("fake", False)
    assert Decimal(str(live["price_hour"])) == Decimal("2.5")
    assert Decimal(str(live["price_gpu_hour"])) == Decimal("0.625")
    assert Decimal(str(past["price_hour"])) == Decimal("1.000001")
    assert Decimal(str(past["price_gpu_hour"])) == Decimal("0.25")


def test_the_migration_keeps_every_price_in_both_directions(
    store: Store, database_url: str, repository: Path
) -> None:
    def recorded(since: str = "from_2000", until: str = "to_2000") -> list[tuple[object, ...]]:
        query = f"SELECT series_id, import_id, {since}, {until}, price_micros FROM price_change"
        with store.read() as connection:
            return [tuple(row) for row in connection.execute(text(f"{query} ORDER BY {since}"))]

    def viewed() -> list[tuple[object, ...]]:
        with store.read() as connection:
            rows = connection.execute(text("SELECT * FROM price_history_v1 ORDER BY valid_from"))
            return [tuple(row) for row in rows]

    def downgrade(revision: str) -> None:
        with store.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, revision)

    before, seen = recorded(), viewed()
    assert len(before) == len(seen) == 2
    since_1970 = [
        (row[0], row[1], *(None if at is None else at + EPOCH_2000 for at in row[2:4]), row[4])
        for row in before
    ]
    config = Config()
    config.set_main_option("script_location", str(repository / "migrations"))
    downgrade("0010")
    assert recorded("valid_from", "valid_to") == since_1970
    assert viewed() == seen
    downgrade("0002")
    assert recorded("valid_from", "valid_to") == since_1970
    keys = inspect(store.engine).get_foreign_keys("price_change")
    assert [key["referred_table"] for key in keys] == ["series"]
    assert "price_history_v1" not in inspect(store.engine).get_view_names()
    Store(database_url).close()
    assert recorded() == before
    assert viewed() == seen
    assert inspect(store.engine).get_foreign_keys("price_change") == []
    assert "price_history_v1" in inspect(store.engine).get_view_names()
