"""What a poll brings again, recognised by identity: most of it is not even looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arbiter.difference import moved
from arbiter.provider import PricedOffer

SeriesKey = tuple[str, str, str, str, str, str]
"""(tier, region, zone or "", instance type, purchase, currency) within one provider."""


class News(NamedTuple):
    """How a poll differs from the one before.

    Attributes:
        fresh: offers that are not the very objects of the last poll; of several for one series
            the last counts.
        vanished: series that the last poll had and this one has not.
    """

    fresh: Mapping[SeriesKey, PricedOffer]
    vanished: frozenset[SeriesKey]


class Brought:
    """The offers of the last poll.

    Providers keep the offers of rows that have not changed, so that an unchanged one is the same
    object again: a set of integers tells these apart, where comparing would hash six texts each.
    """

    def __init__(self) -> None:
        self._offers: dict[SeriesKey, PricedOffer] = {}
        self._keys: dict[int, SeriesKey] = {}  # by identity: `_offers` keeps the objects alive
        self._last: Sequence[PricedOffer] = ()

    def take(self, offers: Sequence[PricedOffer]) -> News:
        """Remember the offers of a poll; returns what is new about them."""
        fresh = self._in_their_places(offers)
        self._last = tuple(offers)
        if fresh is not None:
            self._replace(set(fresh), fresh)
            return News(fresh, frozenset())
        known = self._keys
        present = set(map(id, offers))
        fresh = {key_of(offer): offer for offer in offers if id(offer) not in known}
        missing = {known[one] for one in known.keys() - present}
        if any(key in self._offers and key not in missing for key in fresh):
            # A series twice, once as it was: only their order says which one counts.
            fresh = {key_of(offer): offer for offer in offers}
            missing = set(self._offers)
        self._replace(missing, fresh)
        return News(fresh, frozenset(missing - fresh.keys()))

    def _in_their_places(
        self, offers: Sequence[PricedOffer]
    ) -> dict[SeriesKey, PricedOffer] | None:
        """What is fresh, where each stands where its series stood; None where that is not so."""
        if not len(offers) == len(self._last) == len(self._offers):
            return None
        places = moved(self._last, offers)
        fresh = {key_of(offers[place]): offers[place] for place in places}
        stood = [self._keys.get(id(self._last[place])) for place in places]
        return fresh if stood == list(fresh) else None

    def _replace(self, missing: set[SeriesKey], fresh: Mapping[SeriesKey, PricedOffer]) -> None:
        for key in missing:
            del self._keys[id(self._offers.pop(key))]
        self._offers.update(fresh)
        self._keys.update((id(offer), key) for key, offer in fresh.items())


def key_of(offer: PricedOffer) -> SeriesKey:
    """The series that an offer is a price of."""
    zone, currency = offer.zone or "", offer.price.currency
    return offer.tier, offer.region, zone, offer.instance_type, offer.purchase, currency
