"""Prices over time as columns, the shape in which a chart draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from arbiter.api.shapes import HistorySeries, HistoryShape
from arbiter.api.sources import Parts
from arbiter.domain import Offer, OfferKey
from arbiter.money import MICROS
from arbiter.store.history import Stretch, stretches


def history(parts: Parts, offers: Sequence[Offer], now: datetime, span: timedelta) -> HistoryShape:
    """The prices of these offers over the last `span`, aligned on every instant of a change."""
    since = now - span
    keys = [offer.key for offer in offers]
    with parts.store.read() as connection:
        found = stretches(connection, keys, since)
    begin, end = int(since.timestamp()), int(now.timestamp())
    times = _times(found, begin, end)
    series = [HistorySeries(_label(offer), _column(found[offer.key], times)) for offer in offers]
    return HistoryShape(parts.simulated, times, series)


def _label(offer: Offer) -> str:
    return f"{offer.where} {offer.gpu_count}x {offer.gpu} {offer.purchase}"


def _times(found: Mapping[OfferKey, Sequence[Stretch]], begin: int, end: int) -> list[int]:
    """Every instant at which a price changed, and the end."""
    instants = {end}
    for prices in found.values():
        for stretch in prices:
            instants.add(max(begin, stretch.since))
            if stretch.until is not None:
                instants.add(min(end, stretch.until))
    return sorted(instant for instant in instants if begin <= instant <= end)


def _column(prices: Sequence[Stretch], times: Sequence[int]) -> list[float | None]:
    """The price in USD at each of the times; floats are for drawing only."""
    column: list[float | None] = []
    at = 0
    for instant in times:
        while at < len(prices) and (until := prices[at].until) is not None and until <= instant:
            at += 1
        standing = at < len(prices) and prices[at].since <= instant
        column.append(prices[at].micros / MICROS if standing else None)
    return column
