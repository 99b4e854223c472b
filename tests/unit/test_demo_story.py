"""The shipped market gives the demo its story: a loss, a return, a cheaper place, a fallback."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arbiter.demo.market import Market
from arbiter.domain import Offer, Quote
from arbiter.market import sift
from arbiter.policy import Policy
from arbiter.profiles import load_profile
from arbiter.regions import load_atlas
from arbiter.resources import resource_dir
from arbiter.sovereignty import Level, Rule

MARKET = Market.load(resource_dir("data") / "demo")
ATLAS = load_atlas()
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def cheapest(hours: float) -> tuple[str, str]:
    """Where a 70B model is cheapest under the EU rule, among what has capacity then."""
    seconds = hours * 3600
    quotes = []
    for provider in MARKET.providers:
        for sold in MARKET.offers_at(provider, seconds):
            offer = Offer(
                provider=provider,
                tier=sold.tier,
                region=sold.region,
                zone=sold.zone,
                instance_type=sold.instance_type,
                gpu=sold.gpu,
                gpu_count=sold.gpu_count,
                purchase=sold.purchase,
                place=ATLAS.place(provider, sold.region),
            )
            quotes.append(Quote(offer, sold.price, NOW))
    policy = Policy(sovereignty=Rule(level=Level.EU))
    closed = MARKET.closed_at(seconds)
    for candidate in sift(NOW, quotes, load_profile("llama70b-awq"), policy).candidates:
        offer = candidate.quote.offer
        if offer.key not in closed:
            return offer.where, offer.purchase
    raise AssertionError("nothing is left")


@pytest.mark.parametrize(
    ("hours", "where", "purchase"),
    [
        (0, "azure/northeurope", "spot"),
        (2, "azure/francecentral", "spot"),  # the first place was reclaimed
        (3.6, "azure/northeurope", "spot"),  # and came back
        (6, "azure/italynorth", "spot"),  # a new month, new prices
        (10, "azure/northeurope", "on_demand"),  # no spot anywhere
        (11, "azure/italynorth", "spot"),
        (20, "azure/northeurope", "spot"),  # a second place was reclaimed
        (22, "azure/italynorth", "spot"),
    ],
)
def test_the_cheapest_place_moves_as_the_story_wants(
    hours: float, where: str, purchase: str
) -> None:
    assert cheapest(hours) == (where, purchase)
