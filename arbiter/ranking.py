"""The order of preference among candidates. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import groupby
from operator import itemgetter

from arbiter.domain import Candidate, Offer


def ranked(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """By `rank`; names are only made where nothing else tells two apart."""
    rows = [(*_worth(one), one) for one in candidates]
    # One stable sort for each part, the last part first: many equal tuples are slow to compare.
    rows.sort(key=itemgetter(2))
    rows.sort(key=itemgetter(1))
    rows.sort(key=itemgetter(0))
    found: list[Candidate] = []
    for _, equal in groupby(rows, key=itemgetter(2, 1, 0)):
        alike = [row[3] for row in equal]
        if len(alike) > 1:
            alike.sort(key=_name_of)
        found += alike
    return tuple(found)


def rank(candidate: Candidate) -> tuple[Decimal, bool, int, tuple[str, ...]]:
    """The order of preference: cost per token, then price, then name, so that ties are settled.

    At the same cost what bears a mark comes last: on-demand before spot without a discount.
    """
    return (*_worth(candidate), _name(candidate.quote.offer))


def _name(offer: Offer) -> tuple[str, ...]:
    """What identifies it, without the cost of making its key."""
    zone = offer.zone or "-"
    return (offer.provider, offer.tier, offer.region, zone, offer.instance_type, offer.purchase)


def _name_of(candidate: Candidate) -> tuple[str, ...]:
    return _name(candidate.quote.offer)


def _worth(candidate: Candidate) -> tuple[Decimal, bool, int]:
    price = candidate.quote.price
    return candidate.usd_per_mtok, bool(candidate.marks), price.micros if price else 0
