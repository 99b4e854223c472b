"""Who answers in benchmarks/prices.py: ours, a row per hour, the ORM, and DuckDB on Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _price_history import DAY_S, END, Series, Year
from _price_truth import DAYS, FIRST, INSTANT, Days, Truth, steps_of
from sqlalchemy import BigInteger, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from arbiter.prices.as_of import as_of
from arbiter.prices.chosen import Market
from arbiter.prices.history import history, on_grid
from arbiter.prices.question import asked, asked_at
from arbiter.regions import load_atlas
from arbiter.sovereignty import Rule
from arbiter.store.engine import Store
from arbiter.store.instants import EPOCH_2000

NOW = datetime.fromtimestamp(END, UTC)


class Ours:
    """The questions as the command line and the API ask them."""

    def __init__(self, store: Store, truth: Truth) -> None:
        self._store, self._atlas, self._one = store, load_atlas(), truth.one
        self._h100 = asked(NOW, gpu="H100", purchase="spot", sovereignty="eu", since=f"{DAYS}d")
        self._now = asked_at(NOW, None, gpu="H100", purchase="spot", sovereignty="eu")

    @contextmanager
    def _market(self) -> Iterator[Market]:
        with self._store.read() as connection:
            yield Market(connection, self._atlas, Rule(), NOW)

    def days(self) -> Days:
        """Exact daily figures."""
        with self._market() as market:
            cells = on_grid(market, self._h100, "1d").groups[0]
        columns = (cells.min, cells.mean, cells.p50, cells.p95)
        return [tuple(value or 0.0 for value in day) for day in zip(*columns, strict=True)]  # type: ignore[misc]

    def one(self) -> list[tuple[int, float | None]]:
        """Every step of a series."""
        one = self._one
        question = asked(
            NOW, since="365d", providers=[one.provider], regions=[one.region],
            zones=[one.zone], instance_types=[one.instance_type], purchase=one.purchase,
            per="instance",
        )  # fmt: skip
        with self._market() as market:
            paths = history(market, question).series
        return list(zip(paths[0].t, paths[0].price, strict=True))

    def as_of(self) -> tuple[int, list[float]]:
        """How many were on sale, and the twenty cheapest per GPU-hour."""
        question = asked_at(NOW, datetime.fromtimestamp(INSTANT, UTC).isoformat())
        with self._market() as market:
            answer = as_of(market, question, 20)
        return answer.total, [float(one.price or 0) for one in answer.prices]

    def cheapest(self) -> list[float]:
        """Per GPU-hour."""
        with self._market() as market:
            return [float(one.price or 0) for one in as_of(market, self._now, 20).prices]


class Naive:
    """A row for every hour of the series that the first question is about, with its index."""

    def __init__(self, store: Store, truth: Truth) -> None:
        self._store = store
        rows = []
        for one in truth.eu:
            for hour in range(FIRST, END, 3600):
                micros = truth.at(one.id, hour)
                if micros:
                    rows.append(
                        {"s": one.id, "at": datetime.fromtimestamp(hour, UTC).isoformat(),
                         "price": micros / 1e6 / one.gpu_count}
                    )  # fmt: skip
        with store.begin() as connection:
            connection.execute(
                text("CREATE TABLE naive (series_id INTEGER, seen_at TEXT, price DOUBLE PRECISION)")
            )
            connection.execute(text("INSERT INTO naive VALUES (:s, :at, :price)"), rows)
            connection.execute(text("CREATE INDEX naive_at ON naive (seen_at)"))

    def days(self) -> dict[str, tuple[float, float]]:
        """Day -> minimum and mean: what SQL gives without a sorted window over all rows."""
        query = text(
            "SELECT substr(seen_at, 1, 10), MIN(price), AVG(price) FROM naive"
            " WHERE seen_at >= :first GROUP BY substr(seen_at, 1, 10)"
        )
        first = datetime.fromtimestamp(FIRST, UTC).isoformat()
        with self._store.read() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(query, {"first": first})}


class _Base(DeclarativeBase):
    pass


class _Change(_Base):
    __tablename__ = "price_change"
    series_id: Mapped[int] = mapped_column(primary_key=True)
    valid_from: Mapped[int] = mapped_column("from_2000", primary_key=True)
    valid_to: Mapped[int | None] = mapped_column("to_2000")
    price_micros: Mapped[int] = mapped_column(BigInteger)


class _Now(_Base):
    __tablename__ = "price_now"
    series_id: Mapped[int] = mapped_column(primary_key=True)
    price_micros: Mapped[int] = mapped_column(BigInteger)


class _Series(_Base):
    __tablename__ = "series"
    id: Mapped[int] = mapped_column(primary_key=True)
    provider: Mapped[str]
    region: Mapped[str]
    gpu: Mapped[str]
    gpu_count: Mapped[int]
    purchase: Mapped[str]


class Orm:
    """SQLAlchemy's ORM on our own tables."""

    def __init__(self, store: Store, truth: Truth) -> None:
        self._engine, self._truth = create_engine(store.engine.url), truth
        self._regions = {(one.provider, one.region) for one in truth.eu}

    def one(self) -> list[tuple[int, float | None]]:
        """Every step of a series."""
        with Session(self._engine) as session:
            found = session.scalars(
                select(_Change)
                .where(_Change.series_id == self._truth.one.id)
                .order_by(_Change.valid_from)
            ).all()
            return steps_of(
                [
                    (
                        one.valid_from + EPOCH_2000,
                        None if one.valid_to is None else one.valid_to + EPOCH_2000,
                        one.price_micros,
                    )
                    for one in found
                ]
            )

    def cheapest(self) -> list[float]:
        """Per GPU-hour."""
        with Session(self._engine) as session:
            found = session.execute(
                select(_Series, _Now)
                .join(_Now, _Now.series_id == _Series.id)
                .where(_Series.gpu == "H100", _Series.purchase == "spot")
            ).all()
            return sorted(
                now.price_micros / 1e6 / one.gpu_count
                for one, now in found
                if (one.provider, one.region) in self._regions
            )[:20]


class Duck:
    """DuckDB over one Parquet file, sorted by series and time."""

    def __init__(self, year: Year, folder: Path) -> None:
        import duckdb

        self._duck = duckdb.connect()
        gpus = np.asarray([(one.id, one.gpu_count) for one in year.series])
        self._duck.register("given", {"id": gpus[:, 0], "gpus": gpus[:, 1]})
        self._duck.execute("CREATE TABLE gpus AS SELECT * FROM given")
        columns = year.changes
        frame = {
            "series_id": columns[:, 0], "valid_from": columns[:, 1],
            "valid_to": np.where(columns[:, 2] < 0, END, columns[:, 2]), "micros": columns[:, 3],
        }  # fmt: skip
        self._duck.register("frame", frame)
        self._file = folder / "changes.parquet"
        self._duck.execute(f"COPY (SELECT * FROM frame) TO '{self._file}' (FORMAT parquet)")
        self._duck.unregister("frame")

    def days(self, lines: list[Series]) -> Days:
        """Exact daily figures, by windows over all pieces."""
        gpus = ", ".join(f"({one.id}, {one.gpu_count})" for one in lines)
        rows = self._duck.execute(
            f"""
            WITH l(id, gpus) AS (VALUES {gpus}),
            c AS (
                SELECT greatest(valid_from, {FIRST}) AS b, least(valid_to, {END}) AS e,
                       round_even(micros / gpus, 0) AS p
                FROM '{self._file}' JOIN l ON l.id = series_id
                WHERE valid_to > {FIRST} AND valid_from < {END}
            ),
            d AS (
                SELECT day, p, least(e, (day + 1) * {DAY_S}) - greatest(b, day * {DAY_S}) AS s
                FROM (SELECT *, unnest(range(b // {DAY_S}, (e - 1) // {DAY_S} + 1)) AS day FROM c)
            ),
            w AS (
                SELECT day, p, s, sum(s) OVER (PARTITION BY day) AS total,
                       sum(s) OVER (PARTITION BY day ORDER BY p ROWS UNBOUNDED PRECEDING) AS upto
                FROM d
            )
            SELECT min(p), sum(p * s) / sum(s), min(p) FILTER (WHERE upto * 100 >= total * 50),
                   min(p) FILTER (WHERE upto * 100 >= total * 95)
            FROM w GROUP BY day ORDER BY day
            """
        ).fetchall()
        return [(a / 1e6, b / 1e6, c / 1e6, d / 1e6) for a, b, c, d in rows]

    def as_of(self) -> tuple[int, list[float]]:
        """How many were on sale, and the twenty cheapest per GPU-hour."""
        found = self._duck.execute(
            f"SELECT round_even(micros / gpus, 0) AS p, count(*) OVER () FROM '{self._file}'"
            f" JOIN gpus ON id = series_id WHERE valid_from <= {INSTANT} AND valid_to > {INSTANT}"
            " ORDER BY p LIMIT 20"
        ).fetchall()
        return found[0][1], [p / 1e6 for p, _ in found]
