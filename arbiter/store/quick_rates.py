"""Prices of other currencies in dollars, by the stored reference rate of the day they were seen.

On the path of `arbiter offers`, and asked of the database only where such a price stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from arbiter.domain import Quote
from arbiter.money import Price

if TYPE_CHECKING:
    from arbiter.prices.fx import Rates

PLANNED_IN = "USD"

REACH = timedelta(days=30)
"""Of prices that were last seen longer before the newest one, no rate is read: they are stale."""

PUBLISHED = """
SELECT currency, day, rate_micros, source FROM fx_rate
WHERE base = 'EUR' AND currency IN ({}) AND day >= '{}' AND day <= '{}'
ORDER BY currency, day
"""

Query = Callable[[str], Iterable[Sequence[Any]]]


def in_dollars(query: Query, quotes: list[Quote]) -> list[Quote]:
    """The quotes, those of other currencies in dollars where a rate is known.

    Such a quote's source tells the price as it is listed, and which rate was used. Where none is
    known the price stays as it is, and a rule refuses it: two currencies are never compared.
    """
    foreign = {quote.price.currency for quote in quotes if quote.price} - {PLANNED_IN}
    if not foreign:
        return quotes
    seen = max(quote.observed_at.date() for quote in quotes if _is_foreign(quote))
    rates = _read(query, foreign, seen)
    return [_converted(quote, rates) if _is_foreign(quote) else quote for quote in quotes]


def _is_foreign(quote: Quote) -> bool:
    return quote.price is not None and quote.price.currency != PLANNED_IN


def _read(query: Query, currencies: Iterable[str], until: date) -> Rates:
    from arbiter.prices.fx import Rates

    # The text has no parameters, on no driver; what is no code could not have a rate either.
    codes = {one for one in currencies if one.isascii() and one.isalpha()} | {PLANNED_IN}
    listed = ", ".join(f"'{one}'" for one in sorted(codes))
    found: dict[str, list[tuple[date, int]]] = {}
    sources = set()
    for currency, day, micros, source in query(PUBLISHED.format(listed, until - REACH, until)):
        day = date.fromisoformat(day) if isinstance(day, str) else day
        found.setdefault(currency, []).append((day, micros))
        sources.add(source)
    return Rates(found, ", ".join(sorted(sources)))


def _converted(quote: Quote, rates: Rates) -> Quote:
    from arbiter.prices.fx import BASE, NoRate

    listed, day = quote.price, quote.observed_at.date()
    if listed is None:
        return quote
    try:
        into, out_of = rates.on(PLANNED_IN, day), rates.on(listed.currency, day)
    except NoRate:
        return quote
    price = Price(listed.micros, PLANNED_IN).times(Decimal(into[1]) / out_of[1])
    oldest = into[0] if listed.currency == BASE else min(into[0], out_of[0])
    told = f"{listed} by the {rates.source} rate of {oldest}"
    return replace(quote, price=price, source=f"{quote.source}; {told}")
