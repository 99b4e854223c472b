"""Prices over time as columns, the shape in which a chart draws them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from arbiter.api.shapes import HistorySeries, HistoryShape
from arbiter.api.sources import Parts
from arbiter.domain import Offer
from arbiter.errors import ArbiterError
from arbiter.money import MICROS
from arbiter.prices.chosen import Market, choose
from arbiter.prices.question import Question, Window
from arbiter.sovereignty import Rule


class _Stretch(NamedTuple):
    """One price in USD and for how long it stood within the window: epoch seconds."""

    since: int
    until: int
    micros: int


def history(parts: Parts, offers: Sequence[Offer], now: datetime, span: timedelta) -> HistoryShape:
    """The prices of these offers over the last `span`, aligned on every instant of a change."""
    end = int(now.timestamp())
    window = Window(int((now - span).timestamp()), end + 1)  # what stands now, stands this second
    with parts.store.read() as connection:
        market = Market(connection, parts.atlas, Rule(), now + timedelta(seconds=1))
        found = [_stretches(market, offer, window) for offer in offers]
    instants = {at for one in found for row in one for at in (row.since, row.until)}
    times = sorted({end} | {at for at in instants if at <= end})
    series = [
        HistorySeries(_label(offer), _column(one, times))
        for offer, one in zip(offers, found, strict=True)
    ]
    return HistoryShape(parts.simulated, times, series)


def _label(offer: Offer) -> str:
    return f"{offer.where} {offer.gpu_count}x {offer.gpu} {offer.purchase}"


def _stretches(market: Market, offer: Offer, window: Window) -> list[_Stretch]:
    """How one offer's price went; nothing where none is known, or none in dollars."""
    try:
        chosen = choose(market, _question(offer, window))
    except ArbiterError:
        return []
    steps = chosen.steps
    zones = [line.zone for line in chosen.lines]
    columns = (steps.line.tolist(), steps.begin.tolist(), steps.end.tolist(), steps.micros.tolist())
    rows = zip(*columns, strict=True)
    return sorted(
        _Stretch(begin, end, micros)
        for line, begin, end, micros in rows
        if zones[line] == (offer.zone or "")
    )


def _question(offer: Offer, window: Window) -> Question:
    return Question(
        window,
        providers=(offer.provider,),
        regions=(offer.region,),
        zones=(offer.zone,) if offer.zone else (),
        tiers=(offer.tier,),
        instance_types=(offer.instance_type,),
        purchase=offer.purchase,
        currency="USD",
        per="instance",
    )


def _column(prices: Sequence[_Stretch], times: Sequence[int]) -> list[float | None]:
    """The price in USD at each of the times; floats are for drawing only."""
    column: list[float | None] = []
    at = 0
    for instant in times:
        while at < len(prices) and prices[at].until <= instant:
            at += 1
        standing = at < len(prices) and prices[at].since <= instant
        column.append(prices[at].micros / MICROS if standing else None)
    return column
