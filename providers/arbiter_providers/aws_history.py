"""AWS's spot prices of the last 90 days, for those who have an account.

DescribeSpotPriceHistory tells each change of each zone and type, newest first; a price holds until
the next change. With a start it tells also the last change before it: the price carried in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from arbiter.errors import ProviderError
from arbiter.provider import Page, PastPrice, PricedOffer, Progress, Skip
from arbiter_providers._regions import ask_regions
from arbiter_providers.aws_account import Account, paged
from arbiter_providers.aws_spot import spot_offer
from arbiter_providers.aws_types import Machines

KEPT = timedelta(days=90)
"""How far back AWS goes."""

WORKERS = 4

Answers = tuple[tuple[Page, ...], tuple[str, ...]]
"""The pages, and what could not be had."""


def fetch(
    account: Account,
    regions: Sequence[str],
    since: datetime,
    until: datetime,
    now: datetime,
    progress: Progress,
) -> Answers:
    """Every change between two instants, as far back as AWS goes, of every region.

    Raises:
        ProviderError: no region answered.
    """
    since = max(since, now - KEPT)

    def ask(region: str) -> Answers:
        return _region(account, region, since, until)

    found, errors = ask_regions(regions, ask, progress, workers=WORKERS)
    if errors and not found:
        raise next(iter(errors.values()))
    pages = tuple(page for answered, _ in found.values() for page in answered)
    notes = tuple(note for _, missing in found.values() for note in missing)
    return pages, (*notes, *(f"{region}: {error.message}" for region, error in errors.items()))


def _region(account: Account, region: str, since: datetime, until: datetime) -> Answers:
    ec2 = account.client("ec2", region)
    described = account.instance_types(ec2, region)
    types = [item["InstanceType"] for page in described for item in page.body["InstanceTypes"]]
    if not types:
        return tuple(described), ()
    changes, notes = _changes(ec2, region, types, since, until)
    pages = [*described, *changes]
    if not all(row.get("AvailabilityZoneId") for one in changes for row in _rows(one)):
        try:
            pages += account.zones(ec2, region)
        except ProviderError as error:
            notes = (*notes, f"{region}: past prices without stable zones, {error.message}")
    return tuple(pages), notes


def _changes(
    ec2: Any, region: str, types: Sequence[str], since: datetime, until: datetime
) -> tuple[list[Page], tuple[str, ...]]:
    """The pages of changes. One that fails after others ends them: the newest came first."""
    pages: list[Page] = []
    try:
        for body in paged(
            ec2.describe_spot_price_history,
            region,
            StartTime=since,
            EndTime=until,
            InstanceTypes=types,
            ProductDescriptions=["Linux/UNIX"],
            MaxResults=1000,
        ):
            pages.append(Page("spot-price-history", region, body))
    except ProviderError as error:
        if not pages:
            raise
        return pages, (f"{region}: its older prices are missing, {error.message}",)
    if pages and pages[-1].body.get("NextToken"):
        return pages, (f"{region}: its older prices are missing, the pages do not end",)
    return pages, ()


def _rows(page: Page) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = page.body.get("SpotPriceHistory") or ()
    return rows


def stretches(
    rows: Iterable[Any], region: str, machines: Machines, zones: Mapping[str, str], now: datetime
) -> Iterator[PastPrice | Skip]:
    """Each price of each zone and type with the instants between which it stood.

    Rows come in any order. A row that repeats the price before it makes no new stretch; of two
    prices at one instant the higher counts, as it does for the price of now.

    Args:
        zones: the account's zone names -> stable zone ids, for rows that carry only the name.
    """
    series: dict[tuple[str | None, str], dict[datetime, PricedOffer]] = {}
    for raw in rows:
        offer = spot_offer(raw, region, machines, zones, now)
        if isinstance(offer, Skip):
            yield offer
        elif offer.priced_at is not None:
            told = series.setdefault((offer.zone, offer.instance_type), {})
            rival = told.get(offer.priced_at, offer)
            told[offer.priced_at] = max(offer, rival, key=lambda one: one.price.micros)
    for told in series.values():
        yield from _held(sorted(told.items()))


def _held(changes: Sequence[tuple[datetime, PricedOffer]]) -> Iterator[PastPrice]:
    """The stretches of one series, whose changes are in order. The last one is open."""
    steps = [
        (at, offer)
        for number, (at, offer) in enumerate(changes)
        if number == 0 or offer.price != changes[number - 1][1].price
    ]
    ends = [at for at, _ in steps[1:]]
    for (at, offer), end in zip(steps, [*ends, None], strict=True):
        yield PastPrice(offer, at, end)
