"""What a price must be before it is believed. One place, used for every provider.

`read_price` judges a single figure, `screen` judges it against its neighbours in the same poll.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if value == 0:
        raise Malformed("price is 0")
    if value < 0:
        raise Malformed("price is negative")
    if value < LOWEST:
        raise Malformed(f"price is below {LOWEST} an hour")
    if value > HIGHEST:
        raise Malformed(f"price is above {HIGHEST} an hour")
    return Price.of(value, currency)


def screen(offers: Sequence[PricedOffer]) -> tuple[list[PricedOffer], list[PricedOffer]]:
    """Separate the offers whose price is out of all proportion to their peers'.

    Peers are the offers of one poll with the same GPU, purchase and currency. Where there are at
    least `PEERS` of them, a price per GPU-hour above `FACTOR` times their median, or below its
    `FACTOR`th part, is a slip of units or of the decimal point. Spot markets stay well within:
    the widest spread seen between zones is fivefold.

    Returns:
        The offers kept, and the others, each in their order.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for offer in offers:
        price = offer.price
        peers = groups.setdefault((offer.gpu, offer.purchase, price.currency), [])
        peers.append(price.micros // offer.gpu_count)
    limits = {key: _limits(peers) for key, peers in groups.items()}
    wild = {key for key, peers in groups.items() if _reaches_outside(peers, limits[key])}
    if not wild:
        return list(offers), []
    kept: list[PricedOffer] = []
    implausible: list[PricedOffer] = []
    for offer in offers:
        key = (offer.gpu, offer.purchase, offer.price.currency)
        low, high = limits[key]
        per_gpu = offer.price.micros // offer.gpu_count
        is_wild = key in wild and not low <= per_gpu <= high
        (implausible if is_wild else kept).append(offer)
    return kept, implausible


def _limits(peers: list[int]) -> tuple[int, int]:
    if len(peers) < PEERS:
        return min(peers), max(peers)
    ordered = sorted(peers)
    median = ordered[len(ordered) // 2]
    return -(-median // FACTOR), median * FACTOR


def _reaches_outside(peers: list[int], limits: tuple[int, int]) -> bool:
    return min(peers) < limits[0] or max(peers) > limits[1]
