"""Names by which the simulated executors look up what is arranged for a place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from arbiter.domain import OfferKey

Arranged = TypeVar("Arranged")


def names(key: OfferKey) -> tuple[str, ...]:
    """Everything that may name an offer's place, the narrowest first.

    The whole offer key; then zone, region and provider as "aws/eu-north-1/eun1-az1", each first
    with the purchase ("aws/eu-north-1:spot"), then for every purchase.
    """
    parts = [part for part in (key.provider, key.region, key.zone) if part]
    wider = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return (str(key), *(name for place in wider for name in (f"{place}:{key.purchase}", place)))


def arranged(arrangements: Mapping[str, Arranged], key: OfferKey) -> Arranged | None:
    """What is arranged for the offer under its narrowest name, or None."""
    for name in names(key):
        if name in arrangements:
            return arrangements[name]
    return None
