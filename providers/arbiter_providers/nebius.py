"""Nebius: list prices of its GPU presets, on demand and preemptible, per region.

Nebius has no public price list; its calculator answers customers over gRPC. SkyPilot asks it every
few hours and publishes what it says as a CSV file, which is read here: the very file by which
SkyPilot names the machines that it launches. It says nothing of its own age.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from arbiter.clock import Clock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer
from arbiter.gpus import normalise
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Progress, ProviderSettings, Skip
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers._http import Http
from arbiter_providers._regions import counts, european_regions

ENDPOINT = "https://raw.githubusercontent.com"
PATH = "/skypilot-org/skypilot-catalog/master/catalogs/v8/nebius/vms.csv"
"""`v8` is the form that SkyPilot 0.14 reads."""

FEED = "skypilot-catalog"
CURRENCY = "USD"
NOTE = "list prices as SkyPilot's catalogue has them, of an age that it does not tell"

_COLUMNS = frozenset(
    {"InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "Region", "SpotPrice"}
)
_MIB = re.compile(r"SizeInMiB\W+(\d+)")
_PRICES = {Purchase.ON_DEMAND: "Price", Purchase.SPOT: "SpotPrice"}


class Nebius:
    """Prices of Nebius's GPU presets. What Nebius calls preemptible is spot.

    `settings.endpoint` takes the place of https://raw.githubusercontent.com, or is the address of
    another such file where it ends in .csv.
    """

    name = "nebius"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        """The catalogue.

        Raises:
            ProviderError: it did not come.
        """
        base = (self._settings.endpoint or ENDPOINT).rstrip("/")
        with Http(self.name, self._settings, clock=self._clock) as http:
            body = http.get(base if base.endswith(".csv") else base + PATH)
        progress("catalogue")
        return Fetched((Page(FEED, "", body),), notes=(NOTE,))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """Up to two offers of each row with a GPU.

        Raises:
            BadAnswer: the file is not this catalogue, or breaks off.
        """
        rows = [row for page in fetched.pages for row in _rows(page.body)]
        offers: dict[tuple[str, str, Purchase], PricedOffer] = {}
        skips: list[Skip] = []
        for row in rows:
            for one in self._read(row):
                if isinstance(one, Skip):
                    skips.append(one)
                else:
                    offers[one.region, one.instance_type, one.purchase] = one
        asked = self._settings.regions or european_regions(self.name)
        regions = {*asked, *(region for region, _, _ in offers)} if rows else set()
        covered = frozenset((region, purchase) for region in regions for purchase in _PRICES)
        return Parsed(tuple(offers.values()), tuple(skips), covered)

    def _read(self, row: Mapping[str, str]) -> Iterator[PricedOffer | Skip]:
        try:
            passed = self._passed_over(row)
            if passed is not None:
                yield passed
                return
            for purchase, column in _PRICES.items():
                if purchase is Purchase.SPOT and not _is_positive(row[column]):
                    yield Skip("not offered as preemptible")
                else:
                    yield _offer(row, purchase, row[column])
        except Malformed as error:
            yield malformed(str(error), ",".join(row.values()))

    def _passed_over(self, row: Mapping[str, str]) -> Skip | None:
        if not row["AcceleratorName"] or row["AcceleratorCount"] in ("", "0"):
            return Skip("not a GPU machine")
        if not row["Region"] or not row["InstanceType"]:
            raise Malformed("row without Region or InstanceType")
        if not counts(self.name, row["Region"], self._settings.regions):
            return Skip("region that was not asked for")
        return None


def _offer(row: Mapping[str, str], purchase: Purchase, price: str) -> PricedOffer:
    return PricedOffer(
        tier="standard",
        region=row["Region"],
        zone=None,
        instance_type=row["InstanceType"],
        gpu=_gpu(row),
        gpu_count=_count(row["AcceleratorCount"]),
        purchase=purchase,
        price=read_price(price, CURRENCY),
        source="nebius:skypilot-catalog",
    )


def _gpu(row: Mapping[str, str]) -> str:
    """The vocabulary's name. Memory tells models apart that go by one name."""
    mib = _MIB.search(row.get("GpuInfo", ""))
    gib = int(mib.group(1)) / 1024 if mib else None
    return normalise(row["AcceleratorName"], gib or None) or row["AcceleratorName"]


def _count(text: str) -> int:
    try:
        count = Decimal(text)
    except InvalidOperation:
        raise Malformed("number of GPUs is not a number") from None
    if not count.is_finite() or count != count.to_integral_value() or count < 1:
        raise Malformed("number of GPUs is not a number")
    return int(count)


def _is_positive(text: str) -> bool:
    """Whether there is a price. 0 is how the calculator answers for what has none."""
    try:
        return bool(text) and Decimal(text) != 0
    except InvalidOperation:
        return True  # no price at all is one thing, a garbled one another


def _rows(body: Any) -> list[dict[str, str]]:
    """The rows of the file, by column.

    Raises:
        BadAnswer: not text, without these columns, or cut off within a row.
    """
    if not isinstance(body, bytes | str):
        raise BadAnswer("nebius: the catalogue is not text")
    try:
        text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
    except UnicodeDecodeError as error:
        raise BadAnswer("nebius: the catalogue is not text") from error
    if text.lstrip().startswith("<"):
        hint = "a proxy or a page of maintenance may have answered; look at the endpoint"
        raise BadAnswer("nebius: the catalogue is not CSV but HTML or XML", hint)
    if not text.endswith("\n"):
        raise BadAnswer("nebius: the catalogue breaks off")
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadAnswer(f"nebius: the catalogue is not CSV: {error}") from error
    header = table[0]
    if not set(header) >= _COLUMNS:
        raise BadAnswer("nebius: the catalogue lacks the columns it should have")
    short = next((number for number, row in enumerate(table, 1) if len(row) != len(header)), None)
    if short is not None:
        raise BadAnswer(f"nebius: row {short} of the catalogue has another number of columns")
    return [dict(zip(header, row, strict=True)) for row in table[1:]]
