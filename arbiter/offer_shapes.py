"""Offers as people read them, and as JSON-ready dicts. Pure, and quick to import.

Money is Decimal (a decimal string in JSON) with its currency in the key, times are aware UTC, and
what is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from arbiter.calibration import ESTIMATE, Evidence
from arbiter.domain import Candidate, Offer, Quote, RefusedOffer
from arbiter.money import Price

Dict = dict[str, Any]


def offer_dict(
    quote: Quote,
    usd_per_mtok: Decimal | None = None,
    tokens_per_s: Decimal | None = None,
    marks: Sequence[str] = (),
    evidence: Evidence = ESTIMATE,
) -> Dict:
    """An offer with its price and marks, and with its score where a model was sized on it."""
    place = quote.offer.place
    return _what_and_where(quote.offer) | {
        "price_usd_hour": usd(quote.price),
        "usd_per_mtok": usd_per_mtok,
        "tokens_per_s": tokens_per_s,
        "observed_at": quote.observed_at,
        "operator": place.operator,
        "operator_country": place.operator_country,
        "marks": list(marks),
        "rate_basis": None if tokens_per_s is None else evidence.basis.value,
        "rate_factor": None if tokens_per_s is None else evidence.factor,
        "rate_busy_s": None if tokens_per_s is None else evidence.busy_s,
        "rate_seen_at": evidence.seen_at,
    }


def candidate_dict(candidate: Candidate) -> Dict:
    """An offer that passed every rule."""
    return offer_dict(
        candidate.quote,
        candidate.usd_per_mtok,
        candidate.tokens_per_s,
        candidate.marks,
        candidate.evidence,
    )


def refused_dict(refused: RefusedOffer) -> Dict:
    """An offer that a rule left out."""
    return _what_and_where(refused.offer) | {"rule": refused.rule, "reason": refused.reason}


def _what_and_where(offer: Offer) -> Dict:
    return {
        "provider": offer.provider,
        "region": offer.region,
        "zone": offer.zone,
        "country": offer.place.country,
        "instance_type": offer.instance_type,
        "gpu": offer.gpu,
        "gpu_count": offer.gpu_count,
        "purchase": offer.purchase.value,
    }


def usd(price: Price | None) -> Decimal | None:
    """The amount of a price in USD; None for another currency, which is not converted here."""
    return price.amount if price is not None and price.currency == "USD" else None


def machine(offer: Offer) -> str:
    """What is rented: "g6.12xlarge L4:4 spot"."""
    return f"{offer.instance_type} {offer.gpu}:{offer.gpu_count} {offer.purchase}"


def age(now: datetime, then: datetime) -> str:
    """How long ago, in the largest unit that tells enough: "40 s", "12 min", "3 h", "5 d"."""
    seconds = int((now - then) / timedelta(seconds=1))
    if seconds < 0:
        return "ahead"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def by_rule(counts: Mapping[str, int]) -> str:
    """Refusals counted: "12 by country_outside_eu, 3 by stale"."""
    return ", ".join(f"{count} by {rule}" for rule, count in counts.items())
