"""What a price source must be: `fetch()` does the I/O, `parse()` is pure.

A provider is one file in providers/arbiter_providers, one recording, one line in the registry.
`arbiter.testing.ProviderContract` checks all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from arbiter.domain import Purchase
from arbiter.money import Price


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider's settings, as `[providers.<name>]` in arbiter.toml.

    Attributes:
        enabled: polled by the daemon and by `arbiter poll` without names.
        endpoint: base URL that takes the place of the provider's public one.
        regions: region ids to poll; empty means the provider's own default.
        interval_s: seconds between two polls of the daemon.
        timeout_s: seconds that one request may take.
        max_attempts: tries per request before the provider counts as unreachable.
        options: provider-specific keys; secrets only as names of environment variables.
    """

    enabled: bool = True
    endpoint: str | None = None
    regions: tuple[str, ...] = ()
    interval_s: float = 300.0
    timeout_s: float = 30.0
    max_attempts: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)


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
    """

    pages: tuple[Page, ...]
    degraded: tuple[str, ...] = ()


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
    """

    offers: Sequence[PricedOffer]
    skips: Sequence[Skip] = ()
    covered: frozenset[tuple[str, Purchase]] = frozenset()


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
