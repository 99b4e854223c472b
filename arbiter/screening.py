"""What of a poll is plausible by itself, without a look at the past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arbiter.difference import moved
from arbiter.gate import FAR_FROM_PEERS, WORTHLESS, Doubt, series_key
from arbiter.provider import PricedOffer
from arbiter.quality import Peers

_SHARE = 8  # where more than one in so many offers has changed, all are looked at anew


class Screened(NamedTuple):
    """What a provider brought, what is plausible of it by itself, and what is not."""

    offers: Sequence[PricedOffer]
    kept: Sequence[PricedOffer]
    left_out: Sequence[Doubt]


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
        if last.left_out or _SHARE * len(places) > len(offers) or not all(map(_is_worth, come)):
            self._last = self._anew(offers)
        else:
            self._peers.follow([last.offers[place] for place in places], come)
            self._last = _screened(self._peers, offers, offers)
        return self._last

    def _anew(self, offers: Sequence[PricedOffer]) -> Screened:
        sound = list(filter(_is_worth, offers))
        self._peers = Peers(sound)
        return _screened(self._peers, offers, sound)


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
