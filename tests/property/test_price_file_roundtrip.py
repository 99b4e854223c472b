"""What is exported imports back to the same rows, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from arbiter.gpus import GPUS
from arbiter.price_files.contract import Reading
from arbiter.price_files.exported import exported
from arbiter.price_files.machines import Machines
from arbiter.price_files.reading import read_file
from arbiter.price_files.writing import write_file
from arbiter.prices.chosen import Market
from arbiter.prices.question import Question, Window
from arbiter.provider import ProviderSettings
from arbiter.regions import load_atlas
from arbiter.sovereignty import Rule
from arbiter.store import bulk
from arbiter.store.engine import Store
from arbiter.store.remembered import note_corrections
from arbiter.store.spool import PastPrices, SeriesFacts
from arbiter.store.tables import price_change, price_import, series

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LAST = int(NOW.timestamp())
ATLAS = load_atlas()

words = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=8
).filter(lambda word: word.strip() == word and word.isprintable())
facts = st.builds(
    SeriesFacts,
    provider=st.sampled_from(["aws", "azure", "somebody"]),
    tier=words,
    region=words,
    zone=st.just("") | words,
    instance_type=words,
    purchase=st.sampled_from(["spot", "on_demand", "reserved"]),
    currency=st.sampled_from(["USD", "EUR"]),
    gpu=st.sampled_from(sorted(GPUS)) | st.just("H100 (arm64)"),
    gpu_count=st.integers(1, 16),
    source=words,
)
stretches = st.lists(
    st.tuples(
        st.integers(0, LAST - 100_000),
        st.integers(1, 99_000),
        st.integers(1_000, 10**11),  # what is believed of a price: 0.001 to 100,000 an hour
        words,
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """Two databases for all examples, each of which empties them."""
    folder = tmp_path_factory.mktemp("roundtrip")
    first, second = (Store(f"sqlite:///{folder / name}.db") for name in ("first", "second"))
    yield first, second
    first.close()
    second.close()


def emptied(store: Store) -> None:
    with store.begin() as connection:
        for table in (price_change, price_import, series):
            connection.execute(table.delete())
        note_corrections(connection)  # nothing but a test takes series away


def content(store: Store) -> list[tuple[Any, ...]]:
    with store.read() as connection:
        rows = connection.execute(
            text(
                "SELECT * FROM price_history_v1 ORDER BY provider, tier, region, zone,"
                " instance_type, purchase, currency, valid_from"
            )
        ).all()
    return [tuple(row) for row in rows]


def export(store: Store, path: Path, kind: str) -> None:
    with store.read() as connection:
        market = Market(connection, ATLAS, Rule(), NOW)
        write_file(path, kind, exported(market, Question(Window(0, LAST)), "everything"))


def import_(store: Store, path: Path) -> None:
    with PastPrices() as past, store.begin() as connection:
        read = read_file(
            path, Reading(), past, NOW, ATLAS, Machines({}, lambda _name: ProviderSettings())
        )
        assert read.as_of == NOW
        bulk.write(connection, past, NOW, open_until=LAST)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@settings(deadline=None, max_examples=20)
@given(market=st.lists(st.tuples(facts, stretches), min_size=1, max_size=3))
def test_an_export_imports_back_to_the_same_rows(
    stores: tuple[Store, Store],
    kind: str,
    market: list[tuple[SeriesFacts, list[tuple[int, int, int, str, bool]]]],
) -> None:
    first, second = stores
    emptied(first)
    emptied(second)
    with PastPrices() as past, first.begin() as connection:
        for of, rows in market:
            for since, length, micros, source, is_backfill in rows:
                past.extend(
                    [past.number(of)],
                    [since],
                    [since + length],
                    [micros],
                    [past.origin(source, is_backfill)],
                )
        bulk.write(connection, past, NOW)
    path = Path(str(first.engine.url.database)).with_suffix(f".{kind}")
    export(first, path, kind)
    import_(second, path)
    before = content(first)
    assert content(second) == before
    import_(first, path)
    assert content(first) == before
