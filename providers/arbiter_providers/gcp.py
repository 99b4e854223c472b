"""GCP: spot and on-demand prices of GPU machines per region, their past, and their availability.

The Cloud Billing Catalog lists the prices of parts, which are added up to machines. With
credentials and a project, Compute Engine says which machines there are and where, how often spot
machines were lost lately, and how likely one is to be had; without, tables stand in for the first
two. Prices hold for a region, and so does an offer: a launch may take any of its zones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from arbiter.clock import Clock, SystemClock
from arbiter.domain import Purchase
from arbiter.errors import BadAnswer, MissingCredentials, ProviderError, SettingsError
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
from arbiter.quality import Malformed, malformed, read_price
from arbiter_providers import gcp_advice as advice
from arbiter_providers._http import Http
from arbiter_providers._regions import european_regions
from arbiter_providers._rhythm import LONGEST_S, Rhythm, wanted
from arbiter_providers.gcp_account import KEY, Account, Login, logins
from arbiter_providers.gcp_api import Compute, all_pages, explain
from arbiter_providers.gcp_machines import (
    FILTER,
    MACHINES,
    Catalogue,
    Machine,
    next_list,
    read_catalogue,
)
from arbiter_providers.gcp_skus import ELSEWHERE, PriceList, next_page, read_price_list

BILLING, COMPUTE = "https://cloudbilling.googleapis.com", "https://compute.googleapis.com"

SKUS = "/v1/services/6F81-5844-456A/skus"
"""The price list of Compute Engine. Of an id that does not exist, the list is empty."""

SOURCE = "gcp:skus"

PRICES, MACHINE_TYPES, ACCELERATOR_TYPES = "skus", "machine-types", "accelerator-types"
PREEMPTION, CAPACITY, PRICE_HISTORY = "preemption-rates", "capacity", "price-history"

LISTS_EVERY = timedelta(hours=1)
SIGNALS_EVERY_S = 3600.0
SIGNALS_WITHIN = timedelta(seconds=60)
"""Time that one round of signals may take, and with it delay the prices."""

_PURCHASES = (Purchase.SPOT, Purchase.ON_DEMAND)


class Gcp:
    """Prices of GCP's GPU machines under Linux.

    `settings.endpoint` takes the place of both of Google's hosts, and needs no key of its own;
    `settings.regions` limits what is kept, and is by default every region, for the list has them
    all; signals and past prices, which are asked for one by one, are by default those of Europe.
    `settings.options`: `api_key_env` and `access_token_env`, names of the variables with an API
    key or an access token; `project`; `signals`, false to ask for none; `signals_every_s`.

    Raises:
        SettingsError: `signals_every_s` is not a number of seconds.
    """

    name = "gcp"

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._account = Account(settings)
        self._only = frozenset(settings.regions)
        self._lists: tuple[Page, ...] = ()
        self._listing = Rhythm(self._clock, LISTS_EVERY)
        self._signalling = Rhythm(self._clock, _signals_every(settings))
        # Offers of the last poll: one that has not changed stays the same object.
        self._known: dict[tuple[str, str, Purchase], PricedOffer] = {}

    # --- asking -------------------------------------------------------------------------------

    def fetch(self, progress: Progress) -> Fetched:
        """The whole price list, and what the project's credentials open.

        Raises:
            MissingCredentials: there is neither a key nor credentials.
            ProviderError: the price list did not come.
        """
        key, credentials, degraded = logins(self._account)
        opened = key or credentials
        if opened is None and self._settings.endpoint is None:
            hint = f"export {KEY}=..., or gcloud auth application-default login"
            raise MissingCredentials("gcp: no API key and no credentials are set", hint)
        with self._http(opened) as http:
            pages, cut = self._prices(http, progress)
        if cut is not None:
            degraded.append(f"the price list broke off: {cut.message}")
        project = self._account.project
        if credentials is None and (self._settings.endpoint is None or project is None):
            return Fetched(tuple(pages), tuple(degraded))
        if project is None:
            degraded.append("machine types and signals: no project; set options.project")
            return Fetched(tuple(pages), tuple(degraded))
        with self._http(credentials, hurried=True) as http:
            more, notes = self._project(http, project, progress)
        return Fetched((*pages, *more), (*degraded, *notes))

    def _prices(self, http: Http, progress: Progress) -> tuple[list[Page], ProviderError | None]:
        bodies, cut = all_pages(
            http,
            self._base(BILLING) + SKUS,
            {"pageSize": "5000", "currencyCode": "USD"},
            lambda body: next_page(body)[1],
            lambda number: progress(f"price list, page {number}"),
        )
        if not any(next_page(body)[0] for body in bodies):
            raise BadAnswer("gcp: the price list is empty", "check providers.gcp.endpoint")
        return [Page(PRICES, "", body) for body in bodies], cut

    def _project(
        self, http: Http, project: str, progress: Progress
    ) -> tuple[list[Page], list[str]]:
        """What one project's credentials open: lists each hour, signals at their own pace."""
        compute = Compute(http, self._base(COMPUTE), project, self._clock)
        if self._listing.due:
            try:
                self._lists = _listed(compute, progress)
                self._listing.succeeded()
            except ProviderError as error:
                self._listing.failed("machine types by an older list or table", error)
        pages = list(self._lists)
        if wanted(self._settings) and self._signalling.due:
            pages += self._signals(compute, progress)
        return pages, [*self._listing.notes, *self._signalling.notes]

    def _signals(self, compute: Compute, progress: Progress) -> list[Page]:
        pairs = self._pairs()
        catalogue, _ = _catalogue(self._lists)
        rates = compute.advise(
            advice.HISTORY,
            pairs,
            lambda pair: advice.ask_history(pair[1].name, "PREEMPTION"),
            progress,
            within=SIGNALS_WITHIN / 2,
        )
        capacity = compute.advise(
            advice.CAPACITY,
            pairs,
            lambda pair: advice.ask_capacity(pair[1].name, catalogue.zones_of(pair[1], pair[0])),
            progress,
            within=SIGNALS_WITHIN / 2,
        )
        failure = rates.failure or capacity.failure
        if failure is None:
            self._signalling.succeeded()
        else:
            self._signalling.failed("signals", failure)
        return [
            Page(feed, "", said.body)
            for feed, said in ((PREEMPTION, rates), (CAPACITY, capacity))
            if said.answers
        ]

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        """The spot prices of the past year, of every machine in every region; needs credentials.

        Raises:
            MissingCredentials: there are no credentials, or there is no project.
            ProviderError: not one answer came.
        """
        _, credentials, degraded = logins(self._account)
        project = self._account.project
        if credentials is None and self._settings.endpoint is None:
            hint = "gcloud auth application-default login"
            raise MissingCredentials("gcp: past prices need credentials", hint)
        if project is None:
            hint = "set providers.gcp.options.project"
            raise MissingCredentials("gcp: past prices are asked for by a project", hint)
        with self._http(credentials) as http:
            compute = Compute(http, self._base(COMPUTE), project, self._clock)
            if not self._lists:
                try:
                    self._lists = _listed(compute, progress)
                except ProviderError as error:
                    degraded.append(f"machine types by the built-in table: {error.message}")
            said = compute.advise(
                advice.HISTORY,
                self._pairs(),
                lambda pair: advice.ask_history(pair[1].name, "PRICE"),
                progress,
            )
        if said.failure is not None:
            if not said.answers:
                raise said.failure
            degraded.append(f"past prices broke off: {said.failure.message}")
        body = {**said.body, "since": since.isoformat(), "until": until.isoformat()}
        return Fetched((*self._lists, Page(PRICE_HISTORY, "", body)), tuple(degraded))

    # --- reading ------------------------------------------------------------------------------

    def machine(self, instance_type: str) -> tuple[str, int] | None:
        """GPU and count of a machine type, by the built-in table."""
        found = MACHINES.get(instance_type)
        return None if found is None else (found.gpu, found.gpu_count)

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """The machines whose parts all have a price, where their GPU is.

        Raises:
            BadAnswer: a page is not JSON, or not an answer of its API.
        """
        feeds = _by_feed(fetched.pages)
        prices = read_price_list(feeds.get(PRICES, ()), self._counts, now)
        catalogue, skips = _catalogue(fetched.pages)
        signals, kinds, unread = _signals(feeds, now)
        offers: list[PricedOffer] = []
        left_out: list[Skip] = [*prices.skips, *skips, *unread]
        for found in _machines(prices, catalogue):
            if isinstance(found, Skip):
                left_out.append(found)
            else:
                offers.append(found)
        self._known = {_key(one): self._same(one) for one in offers}
        whole = prices.whole and catalogue.whole
        covered = frozenset((r, p) for r in prices.regions for p in _PURCHASES if whole)
        return Parsed(tuple(self._known.values()), left_out, covered, signals, kinds)

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        """The past prices, of the machines of the same answers.

        Raises:
            BadAnswer: a page is not an answer of its API.
        """
        catalogue, skips = _catalogue(fetched.pages)
        prices: list[PastPrice] = []
        for body in _by_feed(fetched.pages).get(PRICE_HISTORY, ()):
            for found in advice.past_prices(body, catalogue, now):
                if isinstance(found, Skip):
                    skips.append(found)
                elif self._counts(found.offer.region):
                    prices.append(found)
                else:
                    skips.append(ELSEWHERE)
        return ParsedHistory(tuple(prices), tuple(skips))

    # --- its own ------------------------------------------------------------------------------

    def _http(self, login: Login | None, *, hurried: bool = False) -> Http:
        """A client that shows who asks. In a hurry, it is for what must not delay the prices."""
        settings = self._settings
        if hurried:
            settings = replace(
                settings,
                timeout_s=min(settings.timeout_s, LONGEST_S),
                max_attempts=min(settings.max_attempts, 2),
            )
        return Http(
            self.name,
            settings,
            headers=login.headers if login else None,
            credentials=login.what if login else None,
            explain=explain,
            clock=self._clock,
        )

    def _base(self, public: str) -> str:
        return (self._settings.endpoint or public).rstrip("/")

    def _pairs(self) -> list[tuple[str, Machine]]:
        regions = self._settings.regions or european_regions(self.name)
        return _catalogue(self._lists)[0].pairs(regions)

    def _counts(self, region: str) -> bool:
        """Whether a region is kept."""
        return region in self._only if self._only else region != "global"

    def _same(self, offer: PricedOffer) -> PricedOffer:
        last = self._known.get(_key(offer))
        return last if last == offer else offer


def _listed(compute: Compute, progress: Progress) -> tuple[Page, ...]:
    """The project's machine types and GPUs in all zones.

    Raises:
        ProviderError: they did not come, or not of all zones: by half a list machines would seem
            to be gone that are only not listed.
    """
    progress("machine types")
    machines = compute.listed("machineTypes", {"filter": FILTER}, next_list)
    accelerators = compute.listed("acceleratorTypes", {}, next_list)
    pages = (
        *(Page(MACHINE_TYPES, "", body) for body in machines),
        *(Page(ACCELERATOR_TYPES, "", body) for body in accelerators),
    )
    if not _catalogue(pages)[0].whole:
        raise BadAnswer("gcp: some zones did not say what they have")
    return pages


def _by_feed(pages: Iterable[Page]) -> dict[str, list[object]]:
    feeds: dict[str, list[object]] = {}
    for page in pages:
        feeds.setdefault(page.feed, []).append(page.body)
    return feeds


def _catalogue(pages: Iterable[Page]) -> tuple[Catalogue, list[Skip]]:
    feeds = _by_feed(pages)
    return read_catalogue(feeds.get(MACHINE_TYPES, ()), feeds.get(ACCELERATOR_TYPES, ()))


def _machines(prices: PriceList, catalogue: Catalogue) -> Iterator[PricedOffer | Skip]:
    """Every machine in every region that has prices, as spot and on demand."""
    for region in sorted(prices.regions):
        for name in sorted(catalogue.machines):
            machine = catalogue.machines[name]
            for purchase in _PURCHASES:
                yield _offer(prices, catalogue, machine, region, purchase)


def _offer(
    prices: PriceList, catalogue: Catalogue, machine: Machine, region: str, purchase: Purchase
) -> PricedOffer | Skip:
    if not catalogue.stands_in(machine, region):
        return Skip("its GPU is not known to be in the region")
    if purchase is Purchase.ON_DEMAND and not machine.on_demand:
        return Skip("cannot be ordered on demand")
    rate = prices.price(machine, region, purchase)
    if isinstance(rate, str):
        return Skip(rate)
    try:
        price = read_price(rate.amount)
    except Malformed as error:
        return malformed(str(error), f"{machine.name} {purchase} {region}: {rate.amount}")
    return PricedOffer(
        tier="standard",
        region=region,
        zone=None,
        instance_type=machine.name,
        gpu=machine.gpu,
        gpu_count=machine.gpu_count,
        purchase=purchase,
        price=price,
        priced_at=rate.since,
        source=SOURCE,
    )


def _signals(
    feeds: Mapping[str, Sequence[object]], now: datetime
) -> tuple[list[Signal], frozenset[str], list[Skip]]:
    signals: list[Signal] = []
    kinds: set[str] = set()
    skips: list[Skip] = []
    for body in feeds.get(PREEMPTION, ()):
        found, left_out, whole = advice.preemption_rates(body, now)
        signals, skips = signals + found, skips + left_out
        kinds |= {advice.PREEMPTION_RATE} if whole else set()
    for body in feeds.get(CAPACITY, ()):
        found, left_out, whole = advice.obtainability(body)
        signals, skips = signals + found, skips + left_out
        kinds |= {advice.OBTAINABILITY, advice.UPTIME} if whole else set()
    return signals, frozenset(kinds), skips


def _key(offer: PricedOffer) -> tuple[str, str, Purchase]:
    return offer.region, offer.instance_type, offer.purchase


def _signals_every(settings: ProviderSettings) -> timedelta:
    stated = settings.options.get("signals_every_s", SIGNALS_EVERY_S)
    try:
        seconds = Decimal(str(stated))
        if not 0 < seconds <= 315_360_000:
            raise InvalidOperation
    except InvalidOperation:
        where = "providers.gcp.options.signals_every_s"
        raise SettingsError(f"{where} is {stated!r}", "give seconds, as in 3600") from None
    return timedelta(seconds=float(seconds))
