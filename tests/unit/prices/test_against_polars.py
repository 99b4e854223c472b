"""Real histories, and the same figures computed another way, with polars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from arbiter.prices.chosen import Market
from arbiter.prices.index import index
from arbiter.prices.question import asked
from arbiter.prices.stats import below, stats
from arbiter.regions import load_atlas
from arbiter.sovereignty import Rule
from arbiter.store import bulk, rollups
from arbiter.store.engine import Store
from arbiter.store.spool import OPEN, PastPrices, SeriesFacts

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GPUS = {
    "p2.xlarge": 1, "p2.8xlarge": 8, "p2.16xlarge": 16, "p3.2xlarge": 1, "p3.8xlarge": 4,
    "p3.16xlarge": 8, "p3dn.24xlarge": 8, "a2-highgpu-1g": 1, "a2-highgpu-2g": 2,
    "a2-highgpu-4g": 4, "a2-highgpu-8g": 8, "a2-megagpu-16g": 16,
}  # fmt: skip
DAY_S = 86_400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('histories') / 'arbiter.db'}")
    yield opened
    opened.close()


def read_aws(folder: Path) -> pl.DataFrame:
    rows = pl.read_csv(folder / "history" / "aws_gpu_spot_eu_2019-12_2020-02.csv")
    return rows.filter(pl.col("product_description") == "Linux/UNIX").select(
        pl.lit("aws").alias("provider"),
        pl.col("availability_zone").str.slice(0, 9).alias("region"),
        pl.col("availability_zone").alias("zone"),
        pl.col("instance_type").alias("type"),
        pl.lit("spot").alias("purchase"),
        pl.col("timestamp").str.to_datetime(time_zone="UTC").dt.epoch("s").alias("begin"),
        (pl.col("spot_price_usd") * 1e6).round().cast(pl.Int64).alias("micros"),
    )


def read_gcp(folder: Path) -> pl.DataFrame:
    rows = pl.read_csv(folder / "history" / "gcp_gpu_machine_price_history_2022-2026.csv")
    return rows.filter(
        pl.col("machine_type").str.starts_with("a2-highgpu"),
        pl.col("ondemand_usd_hour").is_not_null(),
    ).select(
        pl.lit("gcp").alias("provider"),
        "region",
        pl.lit("").alias("zone"),
        pl.col("machine_type").alias("type"),
        pl.lit("on_demand").alias("purchase"),
        pl.col("observed_at_commit")
        .str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_zone="UTC")
        .dt.epoch("s")
        .alias("begin"),
        (pl.col("ondemand_usd_hour") * 1e6).round().cast(pl.Int64).alias("micros"),
    )


SERIES = ["provider", "region", "zone", "type", "purchase"]


def imported(store: Store, rows: pl.DataFrame, gpu: str) -> pl.DataFrame:
    """Write the rows into the store; returns them as stretches per GPU, made with polars."""
    with PastPrices() as past, store.begin() as connection:
        origin = past.origin("history")
        for provider, region, zone, kind, purchase, begin, micros in rows.iter_rows():
            facts = SeriesFacts(
                provider, "standard", region, zone, kind, purchase, "USD", gpu, GPUS[kind], "file"
            )
            past.extend([past.number(facts)], [begin], [OPEN], [micros], [origin])
        assert bulk.write(connection, past, NOW).brought == len(rows)
    last = int(rows["begin"].max()) + 1  # type: ignore[arg-type]
    count = pl.col("type").replace_strict(GPUS, return_dtype=pl.Int64)
    return (
        rows.unique([*SERIES, "begin"], keep="last", maintain_order=True)
        .sort(*SERIES, "begin")
        .with_columns(
            pl.col("begin").shift(-1).over(SERIES).fill_null(last).alias("end"),
            (pl.col("micros") / count).round(mode="half_to_even").cast(pl.Int64).alias("price"),
            count.alias("gpus"),
        )
    )


def clipped(rows: pl.DataFrame, begin: int, end: int) -> pl.DataFrame:
    return rows.with_columns(
        pl.max_horizontal("begin", pl.lit(begin)).alias("begin"),
        pl.min_horizontal("end", pl.lit(end)).alias("end"),
    ).filter(pl.col("begin") < pl.col("end")).with_columns(
        (pl.col("end") - pl.col("begin")).alias("seconds")
    )  # fmt: skip


def quantile(rows: pl.DataFrame, share: float) -> float:
    ordered = rows.sort("price").with_columns(pl.col("seconds").cum_sum().alias("until"))
    total = rows["seconds"].sum()
    return float(ordered.filter(pl.col("until") >= share * total)["price"][0]) / 1e6


def test_stats_and_shares_of_real_spot_prices(store: Store, shared: Path) -> None:
    rows = imported(store, read_aws(shared), "V100-16GB")
    begin, end = datetime(2020, 1, 5, 7, tzinfo=UTC), datetime(2020, 2, 2, tzinfo=UTC)
    inside = clipped(rows, int(begin.timestamp()), int(end.timestamp()))
    assert len(inside) > 100
    question = asked(
        NOW, begin=begin.isoformat(), end=end.isoformat(), providers=["aws"], purchase="spot"
    )
    with store.read() as connection:
        market = Market(connection, load_atlas(), Rule(), NOW)
        answer = stats(market, question)
        half = below(market, question, 1_000_000, 9000).rows[0]
        by_region = {row.group: row for row in stats(market, question, "region").rows}
    row, total = answer.rows[0], inside["seconds"].sum()
    assert row.hours_covered == round(total / 3600, 2)
    for name, share in (("min", 0.0), ("p5", 0.05), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75),
                        ("p95", 0.95), ("max", 1.0)):  # fmt: skip
        assert float(getattr(row, name)) == quantile(inside, share), name
    mean = (inside["price"] * inside["seconds"]).sum() / total / 1e6
    assert float(row.mean or 0) == pytest.approx(mean, abs=1e-6)
    cheap = inside.filter(pl.col("price") < 1_000_000)["seconds"].sum()
    assert half.share_below == round(cheap / total, 6)
    assert float(half.price_at or 0) == quantile(inside, 0.9)
    changed = rows.filter(
        pl.col("begin").is_between(int(begin.timestamp()), int(end.timestamp()), closed="left"),
        pl.col("micros") != pl.col("micros").shift(1).over(SERIES),
    )
    assert row.changes == len(changed) > 50
    ireland = inside.filter(pl.col("region") == "eu-west-1")
    assert float(by_region["aws/eu-west-1"].p50 or 0) == quantile(ireland, 0.5)


@pytest.mark.parametrize("rolled_up", [False, True])
def test_the_index_of_real_prices(store: Store, shared: Path, rolled_up: bool) -> None:
    rows = imported(store, read_gcp(shared), "A100-40GB")
    begin, days = datetime(2024, 3, 1, tzinfo=UTC), 45
    if rolled_up:
        with store.begin() as connection:
            assert rollups.build(connection, NOW) > 1000
    question = asked(
        NOW,
        begin=begin.isoformat(),
        end=(begin + timedelta(days=days)).isoformat(),
        gpu="A100-40GB",
        purchase="on_demand",
    )
    with store.read() as connection:
        answer = index(Market(connection, load_atlas(), Rule(), NOW), question)
    expected = []
    for number in range(days):
        first = int(begin.timestamp()) + number * DAY_S
        votes = (
            clipped(rows, first, first + DAY_S)
            .group_by(*SERIES)
            .agg((pl.col("price") * pl.col("seconds")).sum() / pl.col("seconds").sum())
            .group_by("provider", "region")
            .agg(pl.col("price").median())
        )
        expected.append(votes["price"].median() / 1e6)  # type: ignore[operator]
        assert answer.votes[number] == len(votes)
    assert answer.value == pytest.approx(expected, abs=2e-6)
    assert min(answer.votes) >= 3
