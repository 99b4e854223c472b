"""AWS: spot prices per zone and on-demand prices per region.

With credentials, as boto3 finds them, everything comes from the account's own APIs. Without, two
public feeds stand in: spot prices of whole regions, with no word on their age, and the price list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, ProviderError
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Progress, ProviderSettings, Skip
from arbiter_providers import aws_account, aws_on_demand, aws_spot
from arbiter_providers._regions import european_regions
from arbiter_providers.aws_public import PublicFeeds
from arbiter_providers.aws_types import Machines, described

_ROWS = {
    "instance-types": "InstanceTypes",
    "availability-zones": "AvailabilityZones",
    "spot-price-history": "SpotPriceHistory",
    "products": "PriceList",
    "price-list": "rows",
}
"""Feed -> the key under which its rows stand."""


class Aws:
    """Prices of AWS's GPU machines under Linux.

    `settings.endpoint` (or AWS_ENDPOINT_URL) stands in for all of AWS, the public feeds
    included. `settings.options`: `profile`, a profile of the AWS configuration; `cache_dir`, a
    folder for the public price lists.
    """

    name = "aws"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._public = PublicFeeds(settings, self._clock)

    def fetch(self, progress: Progress) -> Fetched:
        """The account's prices, or the public ones where there are no credentials.

        Raises:
            BadCredentials: every region refused the credentials that are set.
            ProviderError: nothing usable came back.
        """
        regions = self._settings.regions or european_regions(self.name)
        session = aws_account.session(self._settings)
        if session is None:
            return Fetched(*self._public.fetch(regions, progress))
        account = aws_account.Account(session, self._settings, self._clock)
        try:
            return Fetched(*account.fetch(regions, progress))
        except BadAnswer as refusal:
            return self._without_account(refusal, regions, progress)

    def _without_account(
        self, refusal: BadAnswer, regions: Sequence[str], progress: Progress
    ) -> Fetched:
        """The public feeds where the account's APIs do not exist, as on a stand-in without them."""
        try:
            pages, degraded = self._public.fetch(regions, progress)
        except ProviderError:
            raise refusal from None
        return Fetched(pages, (refusal.message, *degraded))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """Every feed's rows, with the GPUs that the account's answer or the table gives them.

        Raises:
            BadAnswer: a page is not what its feed promises.
        """
        rows = _Rows(fetched.pages)
        machines = _machines(rows.of("instance-types"))
        offers: dict[tuple[str, str | None, str, Purchase], PricedOffer] = {}
        skips: list[Skip] = []
        covered: set[tuple[str, Purchase]] = set()
        for region, purchase, found in _read(rows, machines, now):
            if purchase is not None:
                covered.add((region, purchase))
            for one in found:
                if isinstance(one, Skip):
                    skips.append(one)
                else:
                    offers[one.region, one.zone, one.instance_type, one.purchase] = one
        return Parsed(tuple(offers.values()), tuple(skips), frozenset(covered))


_Found = tuple[str, Purchase | None, Iterable[PricedOffer | Skip]]
"""A region, the purchase that it is complete for or None, and what was read."""


class _Rows:
    """The rows of all pages, by feed and region, and which regions are complete."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self.spot_feeds: list[tuple[list[str] | None, bytes | str]] = []
        self._rows: dict[tuple[str, str], list[Any]] = {}
        self._unfinished: dict[tuple[str, str], bool] = {}
        for page in pages:
            if page.feed == "spot-feed":
                self.spot_feeds.append(_spot_feed_body(page.body))
            else:
                self._add(page)

    def of(self, feed: str) -> dict[str, list[Any]]:
        """Region -> the rows of one feed."""
        return {region: rows for (of, region), rows in self._rows.items() if of == feed}

    def complete(self, feed: str, region: str) -> bool:
        """Whether the last page of the feed and region is there."""
        return not self._unfinished.get((feed, region), True)

    def _add(self, page: Page) -> None:
        body = _decoded(page.body)
        key = _ROWS.get(page.feed)
        if key is None or not isinstance(body, Mapping) or not isinstance(body.get(key), list):
            raise BadAnswer(f"aws: a page of {page.feed[:40]} has another shape")
        self._rows.setdefault((page.feed, page.region), []).extend(body[key])
        self._unfinished[page.feed, page.region] = bool(body.get("NextToken"))


def _read(rows: _Rows, machines: Machines, now: datetime) -> Iterator[_Found]:
    zones = {region: _zones(listed) for region, listed in rows.of("availability-zones").items()}
    for region, history in rows.of("spot-price-history").items():
        found = aws_spot.spot_history(history, region, machines, zones.get(region, {}), now)
        # Only AWS's own list of its machines makes the question, and so the answer, complete.
        whole = rows.complete("spot-price-history", region) and rows.complete(
            "instance-types", region
        )
        yield region, Purchase.SPOT if whole else None, found
    for asked, body in rows.spot_feeds:
        for region, sizes in aws_spot.spot_feed(body, machines, asked).items():
            yield region, Purchase.SPOT, sizes
    for feed, read in (
        ("products", aws_on_demand.products),
        ("price-list", aws_on_demand.price_list),
    ):
        for region, listed in rows.of(feed).items():
            whole = feed == "price-list" or rows.complete(feed, region)
            purchase = Purchase.ON_DEMAND if whole else None
            yield region, purchase, read(listed, region, machines, now)


def _machines(listed: Mapping[str, Iterable[Any]]) -> Machines:
    read = [described(item) for items in listed.values() for item in items]
    return dict(one for one in read if one is not None)


def _zones(listed: Iterable[Any]) -> dict[str, str]:
    """Zone names -> stable zone ids."""
    found: dict[str, str] = {}
    for zone in listed:
        if isinstance(zone, Mapping):
            name, zone_id = zone.get("ZoneName"), zone.get("ZoneId")
            if isinstance(name, str) and isinstance(zone_id, str):
                found[name] = zone_id
    return found


def _spot_feed_body(body: Any) -> tuple[list[str] | None, bytes | str]:
    """The regions that were asked for, None meaning all, and the answer."""
    if isinstance(body, bytes | str):
        return None, body
    answer = body.get("answer") if isinstance(body, Mapping) else None
    asked = body.get("regions") if isinstance(body, Mapping) else None
    if not isinstance(answer, bytes | str) or not isinstance(asked, list):
        raise BadAnswer("aws: a page of the public spot feed has another shape")
    return asked, answer


def _decoded(body: Any) -> Any:
    if not isinstance(body, bytes | str):
        return body
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadAnswer("aws: a page is not JSON, or breaks off") from error
