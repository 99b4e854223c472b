"""What a price must be before it is believed. One place, used for every provider.

`read_price` judges a single figure, `screen` judges it against its neighbours in the same poll.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

from arbiter.money import Price
from arbiter.provider import PricedOffer, Skip

LOWEST = Decimal("0.001")
"""Currency units per machine-hour. The cheapest GPU machine ever listed costs ten times more."""

HIGHEST = Decimal(100_000)
"""Currency units per machine-hour. The dearest GPU machine costs a few hundred."""

FACTOR = 100
"""How far from the median of its peers a price may lie, either way."""

PEERS = 5
"""With fewer peers than this a median says nothing."""


LONGEST = 200
"""Characters of a name. The longest of any provider has some forty."""

_NOT_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What no database takes, or no line of a report: control characters and halves of characters."""


class Malformed(ValueError):
    """A row that cannot be right; its text is the countable reason of the Skip."""


def malformed(reason: str, row: object) -> Skip:
    """The Skip of a row that cannot be right, with its beginning as the sample."""
    text = row[:480].decode("utf-8", "replace") if isinstance(row, bytes) else str(row)
    return Skip(reason[:80], malformed=True, sample=text[:120])


def read_price(amount: object, currency: str = "USD") -> Price:
    """The price of one row.

    Args:
        amount: Decimal, int or text; a float is refused, for it has already lost digits.

    Raises:
        Malformed: not a number, not finite, zero, negative, or beyond `LOWEST` and `HIGHEST`.
    """
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise Malformed("price is not a number")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise Malformed("price is not a number") from None
    if not value.is_finite():
        raise Malformed("price is not a number")
    if LOWEST <= value <= HIGHEST:
        return Price.of(value, currency)
    if value == 0:
        raise Malformed("price is 0")
    if value < 0:
        raise Malformed("price is negative")
    if value < LOWEST:
        raise Malformed(f"price is below {LOWEST} an hour")
    raise Malformed(f"price is above {HIGHEST} an hour")


def are_names(*texts: str) -> bool:
    """Whether texts can be stored and shown as names: not empty, of one line, of bounded length."""
    if not all(texts):
        return False
    joined = "".join(texts)
    if len(joined) <= LONGEST and joined.isprintable():  # as nearly all are: a poll has thousands
        return True
    return max(map(len, texts)) <= LONGEST and _NOT_TEXT.search(joined) is None


def screen(offers: Sequence[PricedOffer]) -> tuple[list[PricedOffer], list[PricedOffer]]:
    """Separate the offers whose price is out of all proportion to their peers'.

    Peers are the offers of one poll with the same GPU, purchase and currency. Where there are at
    least `PEERS` of them, a price per GPU-hour above `FACTOR` times their median, or below its
    `FACTOR`th part, is a slip of units or of the decimal point. Spot markets stay well within:
    the widest spread seen between zones is fivefold.

    Returns:
        The offers kept, and the others, each in their order.
    """
    return Peers(offers).screen(offers)


_Kind = tuple[str, str, str]  # GPU, purchase, currency


class Peers:
    """The prices per GPU of one poll, by what they are compared with; each kind is sorted."""

    def __init__(self, offers: Iterable[PricedOffer]) -> None:
        self._prices: dict[_Kind, list[int]] = {}
        for offer in offers:
            price = offer.price
            prices = self._prices.setdefault((offer.gpu, offer.purchase, price.currency), [])
            prices.append(price.micros // offer.gpu_count)
        for prices in self._prices.values():
            prices.sort()
        self._wild = {kind for kind, prices in self._prices.items() if _reaches_outside(prices)}

    def follow(self, gone: Iterable[PricedOffer], come: Iterable[PricedOffer]) -> None:
        """Become the peers of a poll in which these offers stand in the place of those."""
        touched = set()
        for offer in gone:
            kind, price = _per_gpu(offer)
            prices = self._prices[kind]
            del prices[bisect_left(prices, price)]
            touched.add(kind)
        for offer in come:
            kind, price = _per_gpu(offer)
            insort(self._prices.setdefault(kind, []), price)
            touched.add(kind)
        for kind in touched:
            if not self._prices[kind]:
                del self._prices[kind]
            is_wild = kind in self._prices and _reaches_outside(self._prices[kind])
            (self._wild.add if is_wild else self._wild.discard)(kind)

    def screen(self, offers: Sequence[PricedOffer]) -> tuple[list[PricedOffer], list[PricedOffer]]:
        """As the function `screen`, of the offers that these are the prices of."""
        if not self._wild:
            return list(offers), []
        limits = {kind: _limits(self._prices[kind]) for kind in self._wild}
        kept: list[PricedOffer] = []
        implausible: list[PricedOffer] = []
        for offer in offers:
            kind, price = _per_gpu(offer)
            low, high = limits.get(kind, (price, price))
            (kept if low <= price <= high else implausible).append(offer)
        return kept, implausible


def _per_gpu(offer: PricedOffer) -> tuple[_Kind, int]:
    price = offer.price
    return (offer.gpu, offer.purchase, price.currency), price.micros // offer.gpu_count


def _limits(ordered: Sequence[int]) -> tuple[int, int]:
    if len(ordered) < PEERS:
        return ordered[0], ordered[-1]
    median = ordered[len(ordered) // 2]
    return -(-median // FACTOR), median * FACTOR


def _reaches_outside(ordered: Sequence[int]) -> bool:
    low, high = _limits(ordered)
    return ordered[0] < low or ordered[-1] > high
