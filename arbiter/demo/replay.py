"""A market played back on the present, as if it happened now.

Second `begin` of the market is laid on the instant at which the replay was started, and from there
it runs at a speed of its own, for ever: after its end the market begins again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from arbiter.clock import Clock
from arbiter.demo.market import Event, Market
from arbiter.domain import OfferKey, Purchase
from arbiter.errors import BadAnswer
from arbiter.money import Price, decimal_string
from arbiter.provider import Fetched, Page, Parsed, PricedOffer, Progress

FEED = "market"


@dataclass(frozen=True, slots=True)
class Replay:
    """Where a market stands at an instant.

    Attributes:
        started_at: the instant that second `begin` of the market is laid on, aware.
        speed: seconds of the market in a second of the present.
    """

    market: Market
    started_at: datetime
    speed: float = 1.0
    begin: float = 0.0

    def __post_init__(self) -> None:
        if not self.speed > 0 or self.begin < 0:
            raise ValueError("a replay needs a speed above zero and a beginning of at least zero")

    def seconds_at(self, now: datetime) -> float:
        """The second of the market; before the start of the replay, its beginning."""
        return self._run(now) % self.market.seconds

    def closed_at(self, now: datetime) -> frozenset[OfferKey]:
        """The offers that have no capacity now."""
        return self.market.closed_at(self.seconds_at(now))

    def events_between(self, after: datetime, until: datetime) -> list[Event]:
        """What happened later than `after` and not later than `until`, in order.

        A span that is longer than the market tells of the last round only.
        """
        length = self.market.seconds
        first, last = self._run(after), self._run(until)
        first = max(first, last - length)
        if first // length == last // length:
            return self.market.events_between(first % length, last % length)
        return [
            *self.market.events_between(first % length, length),
            *self.market.events_between(-1, last % length),
        ]

    def standing_at(self, provider: str, now: datetime) -> list[tuple[PricedOffer, datetime]]:
        """What the provider sells now, and since when at that price."""
        run = self._run(now)
        round_began = run - run % self.market.seconds
        return [
            (offer, min(now, self._instant(round_began + since)))
            for offer, since in self.market.standing_at(provider, run - round_began)
        ]

    def _run(self, now: datetime) -> float:
        """Seconds of the market since its very first second, over all rounds."""
        elapsed = (now - self.started_at).total_seconds()
        return self.begin + max(0.0, elapsed) * self.speed

    def _instant(self, run: float) -> datetime:
        return self.started_at + timedelta(seconds=(run - self.begin) / self.speed)


class ReplayProvider:
    """Implements `arbiter.provider.Provider` with the replay of a market.

    Args:
        name: which of the market's providers it stands in for ("aws").
    """

    def __init__(self, name: str, replay: Replay, clock: Clock) -> None:
        if name not in replay.market.providers:
            known = ", ".join(replay.market.providers)
            raise ValueError(f"the market {replay.market.name} has no {name}, only {known}")
        self.name = name
        self._replay = replay
        self._clock = clock

    def fetch(self, progress: Progress) -> Fetched:
        """What stands on the market now, as one page of JSON."""
        progress(f"{self.name}, simulated market {self._replay.market.name}")
        standing = self._replay.standing_at(self.name, self._clock.now())
        body = {
            "simulated": True,
            "market": self._replay.market.name,
            "offers": [_row(offer, since) for offer, since in standing],
        }
        return Fetched((Page(FEED, "", json.dumps(body).encode()),))

    def parse(self, fetched: Fetched, now: datetime) -> Parsed:  # noqa: ARG002 (the contract's)
        """The offers of the page; it shows all that is sold in the regions that it names."""
        offers = [offer for page in fetched.pages for offer in self._offers(page)]
        covered = frozenset((offer.region, offer.purchase) for offer in offers)
        return Parsed(offers, covered=covered)

    def _offers(self, page: Page) -> list[PricedOffer]:
        try:
            return [_offer(row) for row in json.loads(page.body)["offers"]]
        except (ValueError, TypeError, KeyError, ArithmeticError) as failure:
            raise BadAnswer(
                f"{self.name}: not a page of a simulated market: {failure!r}"[:200]
            ) from failure


def _row(offer: PricedOffer, since: datetime) -> dict[str, Any]:
    return {
        "tier": offer.tier,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "purchase": offer.purchase,
        "usd_hour": decimal_string(offer.price.amount),
        "since": since.isoformat(),
        "source": offer.source,
    }


def _offer(row: Mapping[str, Any]) -> PricedOffer:
    return PricedOffer(
        tier=row["tier"],
        region=row["region"],
        zone=row["zone"],
        instance_type=row["instance_type"],
        gpu=row["gpu"],
        gpu_count=row["gpu_count"],
        purchase=Purchase(row["purchase"]),
        price=Price.of(Decimal(row["usd_hour"])),
        priced_at=datetime.fromisoformat(row["since"]).astimezone(UTC),
        source=row["source"],
    )
