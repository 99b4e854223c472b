"""One poll of 12,000 offers, from the last byte to the commit: ours, and a row per observation.

The rows have the shape of Azure's retail prices. What is timed is all that follows the network:
decoding, understanding, screening, comparing, and the commit: on SQLite with its fsync, on
PostgreSQL without, for the server is the benchmark's own. The peer decodes the same pages and
inserts every row into one table, as a first version of such a recorder would: one executemany of
the plain driver, the same durability.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _report import Row, arguments, interleaved, report, row

from arbiter.clock import SystemClock
from arbiter.gatekeeper import Gatekeeper
from arbiter.ingest import poll_provider
from arbiter.provider import Fetched, Page, Parsed, Progress, ProviderSettings
from arbiter.store.engine import Store, make_engine
from arbiter.store.prices import PollRow, PriceBook
from arbiter_providers.azure import Azure
from arbiter_providers.azure_sizes import SIZES

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from postgresql_server import NoPostgresql, running_postgresql

OFFERS = 12_000
SHARES = {"unchanged": 0.0, "0.8 % changed": 0.008, "all changed": 1.0}
GOALS_MS = {"unchanged": 30.0, "0.8 % changed": 30.0, "all changed": 600.0}

Prices = list[list[dict[str, Any]]]


def market() -> Prices:
    """12,000 price rows by region, as Azure would send them."""
    machines = [(size, spot) for size in sorted(SIZES) for spot in (False, True)]
    regions = -(-OFFERS // len(machines))
    rows = [
        _row(f"region{region:03}", size, spot, region * len(machines) + number)
        for region in range(regions)
        for number, (size, spot) in enumerate(machines)
    ][:OFFERS]
    by_region: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        by_region.setdefault(one["armRegionName"], []).append(one)
    return list(by_region.values())


def _row(region: str, size: str, spot: bool, number: int) -> dict[str, Any]:
    name = size.removeprefix("Standard_").replace("_", " ")
    price = 1.0 + number % 997 / 1000
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": region.title(),
        "effectiveStartDate": "2026-04-01T00:00:00Z",
        "meterId": f"00000000-0000-4000-8000-{number:012}",
        "meterName": name + " Spot" * spot,
        "productId": "DZH318Z0BQ4W",
        "skuId": f"DZH318Z0BQ4W/{number:04}",
        "productName": f"Virtual Machines {name} Series",
        "skuName": name + " Spot" * spot,
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
    }


def change(prices: Prices, share: float, number: int) -> int:
    """Change every so-manieth price a little; returns how many."""
    changed = 0
    step = round(1 / share) if share else 0
    rows = [one for region in prices for one in region]
    for one in rows[number % step :: step] if step else ():
        one["retailPrice"] = one["unitPrice"] = round(one["retailPrice"] + 0.001, 3)
        changed += 1
    return changed


def encode(prices: Prices) -> tuple[Page, ...]:
    """The pages as bytes, one for each region; new objects each time, as from a socket."""
    return tuple(
        Page(
            "retail-prices",
            rows[0]["armRegionName"],
            json.dumps({"Items": rows, "NextPageLink": None, "Count": len(rows)}).encode(),
        )
        for rows in prices
    )


class Received:
    """A provider whose bytes have arrived already: the rest is Azure's own."""

    name = "azure"

    def __init__(self) -> None:
        self.pages: tuple[Page, ...] = ()
        self._azure = Azure(ProviderSettings())

    def fetch(self, progress: Progress) -> Fetched:  # noqa: ARG002 (the contract's)
        """What has arrived."""
        return Fetched(self.pages)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """As Azure's."""
        return self._azure.parse(fetched, now)


class Ours:
    """Polls of one share of changes, into a database of their own."""

    def __init__(self, url: str, share: float) -> None:
        self._share = share
        self._prices = market()
        self._store = Store(url)
        self._book, self._provider = PriceBook("azure"), Received()
        self._keeper = Gatekeeper("azure")
        first = self._poll()
        if (first.offers, first.changes, first.state) != (OFFERS, OFFERS, "ok"):
            raise AssertionError(f"the first poll was {first}")
        self._expected_rows = OFFERS
        self._poll()  # everything is loaded now, as in a daemon

    def measure(self, number: int) -> float:
        """Milliseconds of one poll."""
        changed = change(self._prices, self._share, number)
        self._provider.pages = encode(self._prices)
        time.sleep(1.01 * bool(changed))  # a price has one row for a second, so let one go by
        gc.collect()
        begin = time.perf_counter()
        got = self._poll(arrived=True)
        elapsed = time.perf_counter() - begin
        if (got.offers, got.changes, got.withdrawn, got.malformed) != (OFFERS, changed, 0, 0):
            raise AssertionError(f"{changed} prices changed, and the poll says {got}")
        self._expected_rows += changed
        return elapsed * 1000

    def check(self) -> None:
        """The database holds what the market says, and one row for each change."""
        with self._store.read() as connection:
            stored = dict(
                connection.exec_driver_sql(
                    "SELECT s.region || s.instance_type || s.purchase, n.price_micros"
                    " FROM price_now n JOIN series s ON s.id = n.series_id"
                ).all()
            )
            rows = connection.exec_driver_sql("SELECT COUNT(*) FROM price_change").scalar()
        said = {
            one["armRegionName"]
            + one["armSkuName"]
            + ("spot" if one["skuName"].endswith(" Spot") else "on_demand"): round(
                one["retailPrice"] * 1_000_000
            )
            for region in self._prices
            for one in region
        }
        if stored != said:
            raise AssertionError("the stored prices are not those of the market")
        if rows != self._expected_rows:
            raise AssertionError(f"{rows} rows for {self._expected_rows} changes")
        self._store.close()

    def _poll(self, *, arrived: bool = False) -> PollRow:
        if not arrived:
            self._provider.pages = encode(self._prices)
        return poll_provider(
            self._provider,
            self._store,
            self._book,
            SystemClock(),
            lambda _note: None,
            self._keeper,
        )


class Naive:
    """A row for every observation."""

    def __init__(self, url: str) -> None:
        self._pages: Sequence[Page] = encode(market())
        engine = make_engine(url)
        self._connection: Any = engine.raw_connection().driver_connection
        on_sqlite = engine.dialect.name == "sqlite"
        self._mark = "?" if on_sqlite else "%s"
        key = "INTEGER PRIMARY KEY" if on_sqlite else "SERIAL PRIMARY KEY"
        self._cursor = self._connection.cursor()
        self._cursor.execute(
            f"CREATE TABLE price (id {key}, seen_at TEXT, region TEXT, size TEXT,"
            " sku TEXT, spot BOOLEAN, price DOUBLE PRECISION, currency TEXT)"
        )
        self._connection.commit()
        self._rounds = 0

    def measure(self, _number: int) -> float:
        """Milliseconds of one poll."""
        gc.collect()
        begin = time.perf_counter()
        now = datetime.now(UTC).isoformat()
        rows = [
            (
                now,
                one["armRegionName"],
                one["armSkuName"],
                one["skuName"],
                one["skuName"].endswith(" Spot"),
                one["retailPrice"],
                one["currencyCode"],
            )
            for page in self._pages
            for one in json.loads(page.body)["Items"]
        ]
        if self._mark == "?":  # where the driver leaves transactions to us
            self._cursor.execute("BEGIN IMMEDIATE")
        marks = ", ".join([self._mark] * 7)
        self._cursor.executemany(
            "INSERT INTO price (seen_at, region, size, sku, spot, price, currency)"
            f" VALUES ({marks})",
            rows,
        )
        self._connection.commit()
        self._rounds += 1
        return (time.perf_counter() - begin) * 1000

    def check(self) -> None:
        """Every observation is there."""
        count = self._cursor.execute("SELECT COUNT(*) FROM price").fetchone()[0]
        if count != self._rounds * OFFERS:
            raise AssertionError(f"{count} rows after {self._rounds} polls")
        self._connection.close()


def main() -> None:
    """Run it."""
    asked = arguments(__doc__)
    rounds = 5 if asked.quick else 15
    with tempfile.TemporaryDirectory(prefix="arbiter-bench-") as made:
        urls = [f"sqlite:///{made}/{number}.db" for number in range(len(SHARES) + 1)]
        rows = measured("sqlite", urls, rounds)
    try:
        with running_postgresql() as server, ExitStack() as databases:
            urls = [databases.enter_context(server.database()) for _ in urls]
            rows += measured("postgresql", urls, rounds)
    except NoPostgresql as missing:
        print(f"not measured on PostgreSQL: {missing}")
    report(rows, asked.json)


def measured(backend: str, urls: Sequence[str], rounds: int) -> list[Row]:
    """All rows of one kind of database, each side in one of its own."""
    ours = {
        name: Ours(url, share) for url, (name, share) in zip(urls, SHARES.items(), strict=False)
    }
    naive = Naive(urls[-1])
    sides = {name: one.measure for name, one in ours.items()}
    figures = interleaved({**sides, "naive": naive.measure}, rounds)
    for one in (*ours.values(), naive):
        one.check()
    return [
        row(
            f"poll of {OFFERS} offers, {name}",
            backend,
            figures[name],
            "ms",
            peer="a row per observation",
            theirs=figures["naive"],
            goal=GOALS_MS[name],
        )
        for name in SHARES
    ]


if __name__ == "__main__":
    main()
