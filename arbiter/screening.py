"""What of a poll is plausible by itself, without a look at the past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arbiter.difference import moved
from arbiter.gate import FAR_FROM_PEERS, WORTHLESS, Doubt, series_key
from arbiter.provider import PricedOffer, Signal, Skip
from arbiter.quality import Peers, are_names, malformed

UNNAMED = "a name is empty, too long or not text"

_SHARE = 8  # where more than one in so many offers has changed, all are looked at anew


class Screened(NamedTuple):
    """What a provider brought, what is plausible of it by itself, and what is not.

    Attributes:
        unnamed: rows of which not even the name can be stored.
    """

    offers: Sequence[PricedOffer]
    kept: Sequence[PricedOffer]
    left_out: Sequence[Doubt]
    unnamed: Sequence[Skip] = ()


class Screening:
    """Screens the polls of one provider; the same objects are not judged twice."""

    def __init__(self) -> None:
        self._last = Screened((), (), ())
        self._peers = Peers(())

    def screen(self, offers: Sequence[PricedOffer]) -> Screened:
        """The offers that are plausible, and the others."""
        last, offers = self._last, tuple(offers)
        if len(offers) != len(last.offers):
            self._last = self._anew(offers)
            return self._last
        places = moved(last.offers, offers)
        if not places:
            return last
        come = [offers[place] for place in places]
        many = _SHARE * len(places) > len(offers)
        odd = many or last.left_out or last.unnamed
        if odd or not all(_is_worth(one) and is_named(one) for one in come):
            self._last = self._anew(offers)
        else:
            self._peers.follow([last.offers[place] for place in places], come)
            self._last = _screened(self._peers, offers, offers)
        return self._last

    def _anew(self, offers: Sequence[PricedOffer]) -> Screened:
        named = list(filter(is_named, offers))
        sound = list(filter(_is_worth, named))
        self._peers = Peers(sound)
        screened = _screened(self._peers, named, sound)
        if len(named) == len(offers):
            return screened._replace(offers=offers)
        unnamed = [malformed(UNNAMED, one) for one in offers if not is_named(one)]
        return screened._replace(offers=offers, unnamed=unnamed)


def _screened(
    peers: Peers, offers: Sequence[PricedOffer], sound: Sequence[PricedOffer]
) -> Screened:
    kept, implausible = peers.screen(sound)
    left_out = [Doubt(series_key(offer), offer, FAR_FROM_PEERS) for offer in implausible]
    if len(sound) < len(offers):  # a provider that breaks its contract
        worthless = (one for one in offers if not _is_worth(one))
        left_out += [Doubt(series_key(offer), offer, WORTHLESS) for offer in worthless]
    return Screened(offers, kept, left_out)


def _is_worth(offer: PricedOffer) -> bool:
    return offer.price.micros > 0 and offer.gpu_count > 0


def is_named(offer: PricedOffer) -> bool:
    """Whether what an offer is called can be stored."""
    zone = offer.region if offer.zone is None else offer.zone
    return are_names(offer.tier, offer.region, zone, offer.instance_type, offer.gpu)


def storable(signals: Sequence[Signal]) -> Sequence[Signal]:
    """The signals that can be stored: themselves, where all of them can."""
    kept = [one for one in signals if _can_be_stored(one)]
    return signals if len(kept) == len(signals) else kept


def _can_be_stored(signal: Signal) -> bool:
    texts = (signal.kind, signal.unit, signal.region, signal.instance_type)
    return are_names(*texts, *filter(None, (signal.zone, signal.text)))
