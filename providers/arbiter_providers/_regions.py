"""Which regions a poll asks when the settings name none, and asking them side by side."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from typing import TypeVar

from arbiter.errors import ProviderError
from arbiter.provider import Progress

_T = TypeVar("_T")

EUROPE_BEYOND_THE_EEA = frozenset({"GB", "CH"})
"""Countries outside the EEA whose regions are polled by default: near, and under an adequacy
decision. Whether anything may run there is for the sovereignty rules, not for the poll."""


@cache
def european_regions(provider: str) -> tuple[str, ...]:
    """A provider's regions in the EU, the EEA, Great Britain and Switzerland, by the region table.

    Empty for a provider that the table does not have.
    """
    return tuple(row["region_id"] for row in _european_rows() if row["provider"] == provider)


@cache
def european_gpu_regions(provider: str) -> tuple[str, ...]:
    """Those of them that have GPUs, as far as the region table knows."""
    return tuple(
        row["region_id"]
        for row in _european_rows()
        if row["provider"] == provider and row["gpu"] == "yes"
    )


def _european_rows() -> Iterator[dict[str, str]]:
    from arbiter.resources import resource_dir

    table = resource_dir("data") / "regions" / "regions.csv"
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["in_eea"] == "yes" or row["country_iso"] in EUROPE_BEYOND_THE_EEA:
                yield row


def counts(provider: str, region: str, asked: Collection[str]) -> bool:
    """Whether the offers of a region are kept, of an answer that holds more than was asked for.

    Where the settings name no regions: the European ones, and those whose country the region
    table does not know, which are then seen to be refused for it.
    """
    if asked:
        return region in asked
    from arbiter.regions import load_atlas

    known = region in european_regions(provider)
    return known or load_atlas().place(provider, region).country is None


def ask_regions(
    regions: Sequence[str],
    ask: Callable[[str], _T],
    progress: Progress,
    *,
    workers: int,
) -> tuple[dict[str, _T], dict[str, ProviderError]]:
    """Ask every region, a few at a time; one that fails leaves the others unharmed.

    Returns:
        The answers and the errors by region, both in the order of `regions`.
    """
    answers: dict[str, _T] = {}
    errors: dict[str, ProviderError] = {}
    with ThreadPoolExecutor(min(workers, max(1, len(regions)))) as pool:
        futures = {pool.submit(ask, region): region for region in regions}
        for done, future in enumerate(as_completed(futures), start=1):
            region = futures[future]
            try:
                answers[region] = future.result()
            except ProviderError as error:
                errors[region] = error
            progress(f"{region} ({done} of {len(regions)} regions)")
    return (
        {region: answers[region] for region in regions if region in answers},
        {region: errors[region] for region in regions if region in errors},
    )
