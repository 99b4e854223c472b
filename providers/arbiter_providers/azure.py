"""Azure: the public retail prices, on-demand and spot, per region. No account is needed.

`GET https://prices.azure.com/api/retail/prices` answers at most 1,000 rows a page, with a link
to the next. Documented at learn.microsoft.com/rest/api/cost-management/retail-prices; its filter
knows `eq`, `and` and `contains`. Spot is a list price there too, valid for about a month. With an
account, eviction rates and past spot prices come from the Resource Graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, ProviderError
from arbiter.provider import (
    Fetched,
    Page,
    Parsed,
    ParsedHistory,
    Progress,
    ProviderSettings,
    Signal,
    Skip,
)
from arbiter_providers import azure_history, azure_signals
from arbiter_providers._http import Http, Rejected
from arbiter_providers._regions import ask_regions, european_regions
from arbiter_providers.azure_pages import Pages
from arbiter_providers.azure_rows import open_page
from arbiter_providers.azure_sizes import gpu_of, size_named

ENDPOINT = "https://prices.azure.com"
PATH = "/api/retail/prices"
FEED = "retail-prices"

WORKERS = 4
"""Regions asked at once: some twenty at a time have been answered with 429."""

MOST_PAGES = 200
"""Pages per region; a region has about twenty without the narrow filter, one or two with it."""


class Azure:
    """Prices of Azure's GPU machines under Linux.

    `settings.endpoint` takes the place of https://prices.azure.com, and of the addresses that
    `options.login_endpoint` and `options.management_endpoint` do not name; `settings.regions`
    limits both what is asked and what is kept, and is by default every European region.
    `options.signals`: false to ask for prices only.
    """

    name = "azure"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._only = frozenset(region.lower() for region in settings.regions)
        self._pages = Pages(self._only)
        self._evictions = azure_signals.EvictionRates(settings, clock or SystemClock())

    def fetch(self, progress: Progress) -> Fetched:
        """Every page of every region.

        Asks for the N series alone first; where that brings nothing at all, as from a stand-in
        that does not know `contains`, asks for all virtual machines.

        Raises:
            ProviderError: no region answered, or none with a single row.
        """
        regions = self._regions
        with Http(self.name, self._settings, clock=self._clock) as http:
            answers, errors = self._ask(http, regions, progress, narrow=True)
            if not _any_row(answers) and _only_rejected(errors):
                answers, errors = self._ask(http, regions, progress, narrow=False)
        if errors and not answers:
            raise next(iter(errors.values()))
        if not _any_row(answers) and not errors:
            raise BadAnswer(f"azure: not one price row for any of {len(regions)} regions")
        degraded = [f"{region}: {error.message}" for region, error in errors.items()]
        degraded += [f"{region}: the pages do not end" for region in _endless(answers)]
        pages = tuple(page for pages in answers.values() for page in pages)
        evictions = self._evictions.fetch(regions)
        return Fetched((*pages, *evictions), (*degraded, *self._evictions.notes))

    def fetch_history(
        self,
        since: datetime,  # noqa: ARG002 (the contract's; Azure tells all of its 90 days or nothing)
        until: datetime,  # noqa: ARG002
        progress: Progress,
    ) -> Fetched:
        """The spot prices of the last 90 days, whatever part of them is asked for.

        Raises:
            MissingCredentials: no account is set.
            ProviderError: nothing came.
        """
        return azure_history.fetch(self._settings, self._regions, self._clock, progress)

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        """Each price with the instants between which it stood.

        Raises:
            BadAnswer: a page is not an answer of the Resource Graph.
        """
        return azure_history.parse(fetched, now)

    def machine(self, instance_type: str) -> tuple[str, int] | None:
        """GPU and count of a size, in any case, by the built-in table."""
        found = gpu_of(size_named(instance_type) or instance_type)
        return None if isinstance(found, str) else found

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """The offers whose price holds now; of several rows for one, the newest.

        A row counts for the region that it names itself, whatever region was asked for: a server
        that ignores the filter does no harm.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of this API.
        """
        graph = [page for page in fetched.pages if page.feed == azure_signals.FEED]
        signals, kinds = azure_signals.read(graph)
        sold = self._pages.read([p for p in fetched.pages if p.feed != azure_signals.FEED], now)
        covered = frozenset(
            (region, purchase)
            for region, more in sold.more.items()
            for purchase in (Purchase.SPOT, Purchase.ON_DEMAND)
            if region and not more
        )
        wrong = [one for one in signals if isinstance(one, Skip)]
        told = [one for one in signals if isinstance(one, Signal)]
        skips = (*sold.skips, *wrong) if wrong else sold.skips
        return Parsed(sold.offers, skips, covered, told, kinds)

    @property
    def _regions(self) -> tuple[str, ...]:
        return tuple(sorted(self._only)) or european_regions(self.name)

    def _ask(
        self, http: Http, regions: Sequence[str], progress: Progress, *, narrow: bool
    ) -> tuple[dict[str, list[Page]], dict[str, ProviderError]]:
        def ask(region: str) -> list[Page]:
            return [Page(FEED, region, body) for body in self._bodies(http, region, narrow)]

        return ask_regions(regions, ask, progress, workers=WORKERS)

    def _bodies(self, http: Http, region: str, narrow: bool) -> Iterator[bytes]:
        """The bodies of one region, until there is no next link, or one that leads nowhere new.

        A link names the real host whatever the endpoint is, so only its query is followed.
        """
        base = (self._settings.endpoint or ENDPOINT).rstrip("/")
        address = base if base.endswith(PATH) else base + PATH
        query = {**_VERSION, "$filter": _filter(region, narrow)}
        asked: list[dict[str, str]] = []
        while query not in asked and len(asked) < MOST_PAGES:
            asked.append(query)
            body = http.get(address, query)
            link = open_page(body)[1]
            yield body
            if not link:
                return
            query = {**_VERSION, **dict(parse_qsl(urlsplit(link).query))}


_VERSION = {"api-version": "2023-01-01-preview", "currencyCode": "USD"}


def _filter(region: str, narrow: bool) -> str:
    parts = [
        "serviceName eq 'Virtual Machines'",
        f"armRegionName eq '{region}'",
        "priceType eq 'Consumption'",
    ]
    if narrow:
        parts.append("contains(armSkuName, 'Standard_N')")
    return " and ".join(parts)


def _any_row(answers: Mapping[str, Sequence[Page]]) -> bool:
    return any(open_page(page.body)[0] for pages in answers.values() for page in pages)


def _only_rejected(errors: Mapping[str, ProviderError]) -> bool:
    return all(isinstance(error, Rejected) and error.status == 400 for error in errors.values())


def _endless(answers: Mapping[str, Sequence[Page]]) -> list[str]:
    return [region for region, pages in answers.items() if open_page(pages[-1].body)[1]]
