"""Questions about a year of prices: ours, a row per observation, the ORM, and DuckDB on Parquet.

12,000 series with 10 million changes, on SQLite and on a PostgreSQL server of the benchmark's own.
Each side is asked the same, in turn, and every answer of every run is compared with one that numpy
gives from the made-up year itself. The naive table has a row per series and hour, for the series
that the question is about alone: for all of them it would have 105 million.

DuckDB is no goal: it is what a columnar engine needs for the same file.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _price_history import END, Ints, Year, a_year
from _price_sides import NOW, Duck, Naive, Orm, Ours
from _price_truth import Truth
from _report import Row, arguments, interleaved, report, row
from sqlalchemy import Connection, insert, select, text

from arbiter.store import bulk
from arbiter.store.engine import Store
from arbiter.store.instants import EPOCH_2000
from arbiter.store.polls import PollRow, write_poll
from arbiter.store.spool import PastPrices, SeriesFacts
from arbiter.store.tables import coverage, price_now, series

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from postgresql_server import NoPostgresql, running_postgresql

GOALS = {
    ("90 days", "sqlite"): 60.0, ("90 days", "postgresql"): 90.0,
    ("one series", "sqlite"): 3.0, ("one series", "postgresql"): 3.0,
    ("as of", "sqlite"): 60.0, ("as of", "postgresql"): 60.0,
    ("cheapest", "sqlite"): 2.0, ("cheapest", "postgresql"): 2.0,
}  # fmt: skip
IMPORT_GOALS = {"sqlite": 200_000, "postgresql": 400_000}  # rows per second
BUFFERS = "shared_buffers=512MB"
"""As compose.yaml has it: with PostgreSQL's 128 MB the pages of one instant do not fit."""
BYTES_GOALS = {"sqlite": 30, "postgresql": 80}


def main() -> None:
    """Run it."""
    options = arguments(__doc__)
    size = (12_000, 1_000_000) if options.quick else (12_000, 10_000_000)
    rounds = 5 if options.quick else 9
    year = a_year(*size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="arbiter-bench-") as made:
        folder = Path(made)
        duck = Duck(year, folder)
        rows += measured("sqlite", f"sqlite:///{folder / 'arbiter.db'}", year, duck, rounds)
        try:
            with running_postgresql(BUFFERS) as server, server.database() as url:
                rows += measured("postgresql", url, year, duck, rounds)
        except NoPostgresql as missing:
            print(f"not measured on PostgreSQL: {missing}")
    report(rows, options.json)


def measured(backend: str, url: str, year: Year, duck: Duck, rounds: int) -> list[Row]:
    """All rows of one database."""
    store = Store(url)
    speed = fill(store, year)
    truth = Truth(year)
    naive, orm = Naive(store, truth), Orm(store, truth)
    rows = [_bytes(store, backend, len(year.changes)), _import(speed, backend)]
    for name, sides in questions(store, truth, duck, naive, orm).items():
        for side in sides.values():
            side(0)
        figures = interleaved(sides, rounds)
        label = LABELS[name]
        goal = GOALS[name, backend]
        for peer in list(figures)[1:]:
            rows.append(
                row(
                    label,
                    backend,
                    figures["ours"],
                    "ms",
                    peer=peer,
                    theirs=figures[peer],
                    goal=goal,
                )
            )
    store.close()
    return rows


LABELS = {
    "90 days": "90 days of daily min, mean, p50, p95: H100 spot in the EU",
    "one series": "one series, one year",
    "as of": "as of an instant, all series",
    "cheapest": "20 cheapest that may be used now",
}


def questions(
    store: Store, truth: Truth, duck: Duck, naive: Naive, orm: Orm
) -> Mapping[str, Mapping[str, Callable[[int], float]]]:
    """Question -> side -> one measurement, which also checks the answer."""
    ours = Ours(store, truth)
    return {
        "90 days": {
            "ours": timed(ours.days, truth.check_days),
            "a row per hour": timed(naive.days, truth.check_hourly),
            "duckdb": timed(lambda: duck.days(truth.eu), truth.check_days),
        },
        "one series": {
            "ours": timed(ours.one, truth.check_one),
            "orm": timed(orm.one, truth.check_one),
        },
        "as of": {
            "ours": timed(ours.as_of, truth.check_as_of),
            "duckdb": timed(duck.as_of, truth.check_as_of),
        },
        "cheapest": {
            "ours": timed(ours.cheapest, truth.check_cheapest),
            "orm": timed(orm.cheapest, truth.check_cheapest),
        },
    }


def timed(ask: Callable[[], Any], check: Callable[[Any], None]) -> Callable[[int], float]:
    """Milliseconds of one answer, which is then checked."""

    def measure(_number: int) -> float:
        gc.collect()
        begin = time.perf_counter()
        answer = ask()
        elapsed = time.perf_counter() - begin
        check(answer)
        return elapsed * 1000

    return measure


# --- filling --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """How an import went."""

    rows: int
    seconds: float


def fill(store: Store, year: Year) -> Speed:
    """Import all but what stands; that is put there as polls would have left it."""
    closed = year.changes[year.changes[:, 2] >= 0]
    standing = year.changes[year.changes[:, 2] < 0]
    facts = [
        SeriesFacts(
            one.provider, "standard", one.region, one.zone, one.instance_type, one.purchase, "USD",
            one.gpu, one.gpu_count, "made-up",
        )
        for one in year.series
    ]  # fmt: skip
    gc.collect()
    begin = time.perf_counter()
    with PastPrices() as past, store.begin() as connection:
        numbers = np.asarray([past.number(one) for one in facts], np.int64)
        origin = np.full(len(closed), past.origin("made-up"))
        past.extend(numbers[closed[:, 0] - 1], closed[:, 1], closed[:, 2], closed[:, 3], origin)
        written = bulk.write(connection, past, NOW)
    seconds = time.perf_counter() - begin
    if written.brought != len(closed):
        raise AssertionError(f"{written.brought} of {len(closed)} rows were imported")
    with store.begin() as connection:
        _stand(connection, year, standing)
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return Speed(len(closed), seconds)


def _stand(connection: Connection, year: Year, standing: Ints) -> None:
    ids = [row[0] for row in connection.execute(select(series.c.id).order_by(series.c.id))]
    if ids != [one.id for one in year.series]:
        raise AssertionError("the import has numbered the series otherwise")
    rows = [{"i": i, "f": f, "s": f - EPOCH_2000, "m": m} for i, f, _, m in standing.tolist()]
    connection.execute(
        text("INSERT INTO price_change (series_id, from_2000, price_micros) VALUES (:i, :s, :m)"),
        rows,
    )
    connection.execute(
        insert(price_now),
        [{"series_id": r["i"], "valid_from": r["f"], "price_micros": r["m"]} for r in rows],
    )
    parts = sorted({(one.provider, one.region, one.purchase) for one in year.series})
    connection.execute(
        insert(coverage),
        [
            {"provider": p, "region": r, "purchase": u, "seen_at": END}
            for p, r, u in parts
        ],
    )  # fmt: skip
    for provider in sorted({part[0] for part in parts}):
        write_poll(connection, PollRow(provider, NOW, NOW, "ok"))


def _import(speed: Speed, backend: str) -> Row:
    rate, goal = speed.rows / speed.seconds, IMPORT_GOALS[backend]
    return Row(
        "import of past prices", backend, round(rate), "rows/s (more is better)", None, None, None,
        goal, rate >= goal,
    )  # fmt: skip


def _bytes(store: Store, backend: str, changes: int) -> Row:
    with store.read() as connection:
        if backend == "sqlite":
            size = connection.execute(
                text("SELECT SUM(pgsize) FROM dbstat WHERE name = 'price_change'")
            ).scalar()
        else:
            size = connection.execute(
                text("SELECT pg_total_relation_size('price_change')")
            ).scalar()
    each = float(size or 0) / changes
    goal = BYTES_GOALS[backend]
    return Row("a change row with its index", backend, round(each, 1), "bytes", None, None, None,
               goal, each <= goal)  # fmt: skip


if __name__ == "__main__":
    main()
