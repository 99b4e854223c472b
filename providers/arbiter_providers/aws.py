"""AWS: spot prices per zone and on-demand prices per region, signals, and the past of spot.

With credentials, as boto3 finds them, everything comes from the account's own APIs. Without, two
public feeds stand in: spot prices of whole regions, with no word on their age, and the price list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, MissingCredentials, ProviderError
from arbiter.provider import (
    Fetched,
    Page,
    Parsed,
    ParsedHistory,
    PastPrice,
    PricedOffer,
    Progress,
    ProviderSettings,
    Signal,
    Skip,
)
from arbiter.typed import decode
from arbiter_providers import aws_account, aws_history, aws_on_demand, aws_signals, aws_spot
from arbiter_providers._regions import european_regions
from arbiter_providers._rows import not_json
from arbiter_providers.aws_public import PublicFeeds
from arbiter_providers.aws_types import TYPES, Machines, described

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
    folder for the public price lists; `signals`, false to ask for prices only.
    """

    name = "aws"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._public = PublicFeeds(settings, self._clock)
        self._signals = aws_signals.Signals(settings, self._clock)

    def fetch(self, progress: Progress) -> Fetched:
        """The account's prices, or the public ones where there are no credentials; and signals.

        Raises:
            BadCredentials: every region refused the credentials that are set.
            ProviderError: nothing usable came back.
        """
        session = aws_account.session(self._settings)
        with ThreadPoolExecutor(1) as beside:
            advisor = beside.submit(self._signals.advisor)
            pages, degraded = self._prices(session, progress)
            scores = self._scores(session, pages)
            return Fetched((*pages, *advisor.result(), *scores), (*degraded, *self._signals.notes))

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        """The spot prices between two instants, up to 90 days back. Asks for an account.

        Raises:
            MissingCredentials: there are no credentials.
            ProviderError: no region answered.
        """
        session = aws_account.session(self._settings)
        if session is None:
            raise MissingCredentials(
                "aws: past spot prices are told to accounts only", "set AWS credentials"
            )
        account = aws_account.Account(session, self._settings, self._clock)
        now = self._clock.now()
        return Fetched(*aws_history.fetch(account, self._regions, since, until, now, progress))

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        """Each price of each zone and type, with the instants between which it stood.

        Raises:
            BadAnswer: a page is not what its feed promises.
        """
        rows = _Rows(fetched.pages)
        machines = _machines(rows.of("instance-types"))
        zones = {region: _zones(one) for region, one in rows.of("availability-zones").items()}
        found = [
            one
            for region, history in rows.of("spot-price-history").items()
            for one in aws_history.stretches(history, region, machines, zones.get(region, {}), now)
        ]
        return ParsedHistory(
            [one for one in found if isinstance(one, PastPrice)],
            [one for one in found if isinstance(one, Skip)],
        )

    def machine(self, instance_type: str) -> tuple[str, int] | None:
        """GPU and count of an instance type, by the built-in table."""
        return TYPES.get(instance_type)

    @property
    def _regions(self) -> tuple[str, ...]:
        return self._settings.regions or european_regions(self.name)

    def _prices(self, session: Any, progress: Progress) -> aws_history.Answers:
        if session is None:
            return self._public.fetch(self._regions, progress)
        account = aws_account.Account(session, self._settings, self._clock)
        try:
            return account.fetch(self._regions, progress)
        except BadAnswer as refusal:
            return self._without_account(refusal, progress)

    def _scores(self, session: Any, pages: Sequence[Page]) -> tuple[Page, ...]:
        """For the regions that the account has just used."""
        used = {page.region for page in pages if page.feed == "spot-price-history"}
        if session is None or not used:
            return ()
        return self._signals.scores(session, [one for one in self._regions if one in used])

    def _without_account(self, refusal: BadAnswer, progress: Progress) -> aws_history.Answers:
        """The public feeds where the account's APIs do not exist, as on a stand-in without them."""
        try:
            pages, degraded = self._public.fetch(self._regions, progress)
        except ProviderError:
            raise refusal from None
        return pages, (refusal.message, *degraded)

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
        signals, kinds = aws_signals.read(rows.signals, machines, self._regions)
        return Parsed(
            tuple(offers.values()),
            (*skips, *(one for one in signals if isinstance(one, Skip))),
            frozenset(covered),
            [one for one in signals if isinstance(one, Signal)],
            kinds,
        )


_Found = tuple[str, Purchase | None, Iterable[PricedOffer | Skip]]
"""A region, the purchase that it is complete for or None, and what was read."""


class _Rows:
    """The rows of all pages, by feed and region, and which regions are complete."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self.spot_feeds: list[tuple[list[str] | None, bytes | str]] = []
        self.signals: list[Page] = []
        self._rows: dict[tuple[str, str], list[Any]] = {}
        self._unfinished: dict[tuple[str, str], bool] = {}
        for page in pages:
            if page.feed == "spot-feed":
                self.spot_feeds.append(_spot_feed_body(page.body))
            elif page.feed in (aws_signals.ADVISOR_FEED, aws_signals.SCORES_FEED):
                self.signals.append(page)
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
        for region, (whole, sizes) in aws_spot.spot_feed(body, machines, asked).items():
            yield region, Purchase.SPOT if whole else None, sizes
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
        return decode(body, object)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise not_json("aws: a page", body) from error
