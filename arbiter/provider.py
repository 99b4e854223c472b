"""What a price source must be: `fetch()` does the I/O, `parse()` is pure.

A provider is one file in providers/arbiter_providers, one recording, one line in the registry.
`arbiter.testing.ProviderContract` checks all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from arbiter.domain import Purchase
from arbiter.money import Price
from arbiter.provider_settings import ProviderSettings as ProviderSettings


@dataclass(frozen=True, slots=True)
class Page:
    """One answer as it came, with what was asked.

    Attributes:
        feed: which of the provider's feeds ("retail-prices", "spot-price-history").
        region: the region that was asked for, or "" when the feed is not per region.
        body: the raw answer: bytes of JSON or CSV, or the SDK's decoded dict.
    """

    feed: str
    region: str
    body: Any


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything that one poll brought, and what it failed to bring.

    Attributes:
        pages: the answers.
        degraded: reasons why something is missing ("eu-south-1: not enabled on the account").
            The poll as a whole still counts; what is missing is simply not covered.
        notes: what people should know of all that this source brings ("list prices of an age that
            is not told"). Nothing is missing, and nobody could mend it.
    """

    pages: tuple[Page, ...]
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PricedOffer:
    """One row of a provider, normalised.

    Attributes:
        price: per hour, whole instance; always known and above zero: a row without a price is
            a Skip.
        priced_at: when the provider says the price took effect, or None where it does not say.
        country: ISO code as the provider's API states it, or None. It never overrides the
            region table; it is evidence for regions that the table does not have.
    """

    tier: str
    region: str
    zone: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: Purchase
    price: Price
    priced_at: datetime | None = None
    source: str = ""
    country: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """How likely capacity is, or how likely it is lost, as one provider puts it. Never a price.

    Two kinds never compare: each keeps the provider's own unit. What a provider does not say is
    no signal at all; an absent row is never stored as 0.

    Attributes:
        kind: which figure ("placement_score", "interruption_band", "eviction_rate",
            "preemption_rate", "obtainability", "stock", "capacity_listed"): a short word, the
            same for every provider that gives the same sort of figure.
        unit: what `low` and `high` count, in words ("1..10", "share of instances in 30 days",
            "percent per hour over 28 days", "gpus"); stored and shown beside the figure.
        low, high: the bounds of the figure; equal where it is one number, None on the side that
            the provider leaves open or where it gives only a word.
        text: the provider's own word for it ("5-10%", "Low", "HIGH"), or "".
        region: as in `PricedOffer`.
        zone: None where the figure holds for the whole region.
        purchase: which purchase it is about, or None where it is about the hardware.
        observed_at: when the provider says it was measured, or None where it does not say.
    """

    kind: str
    unit: str
    region: str
    zone: str | None
    instance_type: str
    purchase: Purchase | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    text: str = ""
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PastPrice:
    """A price that stood for a while, from a provider's own history.

    Attributes:
        offer: what was priced; its `price` is the price of that time.
        valid_from: the first instant of the price, aware UTC.
        valid_to: the first instant at which it no longer held, or None where it stood until the
            next row of the same series (or still stands).
    """

    offer: PricedOffer
    valid_from: datetime
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that was left out on purpose, or because it cannot be right.

    Attributes:
        reason: short and countable ("not a GPU", "price is 0", "row without armSkuName").
        malformed: True when the row should not look like this: these are reported to the user.
        sample: at most 120 characters of the row.
    """

    reason: str
    malformed: bool = False
    sample: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of `parse()`.

    Attributes:
        covered: (region, purchase) pairs that the pages show completely: an offer known there
            and not in `offers` is no longer sold. Never a pair whose pages were cut short.
        signals: what the same answers say of availability.
        signal_kinds: the kinds that the pages show completely: a signal of such a kind that is
            known and not in `signals` no longer holds.
    """

    offers: Sequence[PricedOffer]
    skips: Sequence[Skip] = ()
    covered: frozenset[tuple[str, Purchase]] = frozenset()
    signals: Sequence[Signal] = ()
    signal_kinds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ParsedHistory:
    """The result of `parse_history()`: past prices in any order, and what was left out."""

    prices: Sequence[PastPrice]
    skips: Sequence[Skip] = ()


Progress = Callable[[str], None]
"""Called with a short note ("eu-west-1, page 3") while a fetch runs."""


@runtime_checkable
class Provider(Protocol):
    """A price source. Instances are cheap; everything heavy is imported inside `fetch`."""

    name: str

    def fetch(self, progress: Progress) -> Fetched:
        """Ask the provider. All of the I/O is here, none of the interpretation.

        Raises:
            ProviderError: nothing usable came back. One region that fails among others is a
                line in `Fetched.degraded` instead.
        """
        ...

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:
        """Interpret the answers. Pure: the same input gives the same output.

        Raises:
            BadAnswer: a page is not what the API promises (HTML, half a page of JSON).
        """
        ...


@runtime_checkable
class MachineProvider(Provider, Protocol):
    """A provider that knows what its instance types are without being asked over the network."""

    def machine(self, instance_type: str) -> tuple[str, int] | None:
        """GPU (a name of the vocabulary) and number of GPUs of an instance type.

        None where the type is not known, has no GPU, or only a part of one.
        """
        ...


@runtime_checkable
class HistoryProvider(Provider, Protocol):
    """A provider that also tells its past: AWS 90 days, Azure 90 days, GCP a year."""

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        """Ask for the prices that stood between two instants (aware UTC), as far back as it goes.

        Raises:
            ProviderError: nothing usable came back.
        """
        ...

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        """Interpret the answers. Pure, as `parse()` is.

        Raises:
            BadAnswer: a page is not what the API promises.
        """
        ...
