"""Asking AWS without an account: the spot feed of its price page, and the public price list.

The list of one region is a CSV file of some hundred megabytes, of which a few dozen rows are kept
as it streams by. It is asked for conditionally: while its ETag stands, nothing is downloaded.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from arbiter.clock import Clock
from arbiter.errors import BadAnswer, ProviderError
from arbiter.provider import Page, Progress, ProviderSettings
from arbiter.typed import decode
from arbiter_providers._http import Http
from arbiter_providers._regions import ask_regions
from arbiter_providers.aws_types import NOT_GPU, by_table

SPOT_FEED = "https://website.spot.ec2.aws.a2z.com"
PRICE_LIST = "https://pricing.us-east-1.amazonaws.com"
LIST_PATH = "/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv"

NOTE = "no credentials: region-level public prices without age"

WORKERS = 2
DOWNLOAD_S = 600.0
"""Seconds that one region's list may take."""

_KEPT = (
    "TermType",
    "EffectiveDate",
    "Unit",
    "PricePerUnit",
    "Currency",
    "Region Code",
    "Instance Type",
    "Tenancy",
    "Operating System",
    "CapacityStatus",
    "Pre Installed S/W",
    "MarketOption",
)
_PREAMBLE = 20
"""Lines within which the header must come; there are five before it."""


class _Kept(msgspec.Struct):
    """What is kept of one region's list between polls."""

    etag: str | None
    rows: list[dict[str, str]]


class PublicFeeds:
    """The two public feeds. Lives as long as its provider, to remember the lists it has.

    `options.cache_dir` is a folder that keeps them between runs, too.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lists: dict[str, _Kept] = {}
        folder = settings.options.get("cache_dir")
        self._folder = Path(str(folder)) if folder else None

    def fetch(
        self, regions: Sequence[str], progress: Progress
    ) -> tuple[tuple[Page, ...], tuple[str, ...]]:
        """The pages of both feeds, and what could not be had.

        Raises:
            ProviderError: neither feed answered.
        """
        endpoint = self._settings.endpoint or os.environ.get("AWS_ENDPOINT_URL")
        pages: list[Page] = []
        degraded = [NOTE]
        failures: list[ProviderError] = []
        with Http("aws", self._settings, clock=self._clock) as http:
            try:
                pages.append(self._spot(http, (endpoint or SPOT_FEED).rstrip("/"), regions))
                progress("spot feed")
            except ProviderError as error:
                failures.append(error)
                degraded.append(f"spot prices: {error.message}")
            base = (endpoint or PRICE_LIST).rstrip("/")
            answers, errors = ask_regions(
                regions, lambda region: self._list(http, base, region), progress, workers=WORKERS
            )
        pages += answers.values()
        failures += errors.values()
        degraded += [f"{region}: on-demand, {e.message}" for region, e in errors.items()]
        if not pages:
            raise failures[0]
        return tuple(pages), tuple(degraded)

    def _spot(self, http: Http, base: str, regions: Sequence[str]) -> Page:
        body = http.get(f"{base}/spot.json")
        if not body.lstrip().startswith(b"{"):
            raise BadAnswer("aws: the public spot feed answered what is not JSON")
        return Page("spot-feed", "", {"regions": list(regions), "answer": body})

    def _list(self, http: Http, base: str, region: str) -> Page:
        kept = self._lists.get(region) or self._from_disk(region)
        headers = {"If-None-Match": kept.etag} if kept and kept.etag else {}
        url = base + LIST_PATH.format(region=region)
        with http.stream(url, headers, deadline_s=DOWNLOAD_S) as answer:
            if answer.status != 304 or kept is None:
                kept = _Kept(answer.etag, list(_gpu_rows(answer.lines, region)))
                self._to_disk(region, kept)
        self._lists[region] = kept
        return Page("price-list", region, {"rows": kept.rows})

    def _from_disk(self, region: str) -> _Kept | None:
        if self._folder is None:
            return None
        try:
            return decode(self._file(self._folder, region).read_bytes(), _Kept)
        except (OSError, msgspec.MsgspecError):
            return None

    def _to_disk(self, region: str, kept: _Kept) -> None:
        """Keep a list for the next run. A folder that cannot be written to only costs time."""
        if self._folder is None or kept.etag is None:
            return
        file = self._file(self._folder, region)
        draft = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(kept))
            draft.replace(file)
        except OSError:
            draft.unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, region: str) -> Path:
        return folder / f"aws-price-list-{region}.json"


def _gpu_rows(lines: Iterator[str], region: str) -> Iterator[dict[str, str]]:
    """The pay-as-you-go rows of GPU machines, each with the columns that are read later.

    Raises:
        BadAnswer: not this list.
    """
    header = _header(lines, region)
    kept = [(header.index(name), name) for name in _KEPT if name in header]
    type_at, gpus_at = header.index("Instance Type"), _position(header, "GPU")
    term_at = header.index("TermType")
    # Nearly all rows fall here, before the CSV is taken apart.
    plausible = (line for line in lines if "OnDemand" in line and "Linux" in line)
    for row in csv.reader(plausible):
        if len(row) != len(header) or row[term_at] != "OnDemand":
            continue
        has_gpus = gpus_at is not None and row[gpus_at] not in ("", "0", "NA")
        if has_gpus or by_table(row[type_at]) != NOT_GPU:
            yield {name: row[at] for at, name in kept}


def _header(lines: Iterator[str], region: str) -> list[str]:
    for _, line in zip(range(_PREAMBLE), lines, strict=False):
        columns: list[Any] = next(csv.reader([line]), [])
        if {"SKU", "TermType", "Instance Type", "PricePerUnit"} <= set(columns):
            return columns
    raise BadAnswer(f"aws: the public price list of {region} is not the CSV file it should be")


def _position(header: Sequence[str], name: str) -> int | None:
    return header.index(name) if name in header else None
