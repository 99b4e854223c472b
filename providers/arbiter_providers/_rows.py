"""Reading an answer of JSON: the page as a whole first, then row by row.

A page of another shape is no answer; one row of another shape harms no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from arbiter.errors import BadAnswer
from arbiter.provider import PricedOffer, Skip
from arbiter.quality import Malformed, malformed

_T = TypeVar("_T")
_R = TypeVar("_R")


def open_page(what: str, body: object, decode: Callable[[bytes | str], _T]) -> _T:
    """A page as its API promises it.

    Args:
        what: the page in words ("lambda: the list of images"), for the error.
        decode: a msgspec decoder of the page, its rows raw.

    Raises:
        BadAnswer: not text, not JSON, or JSON of another shape.
    """
    if not isinstance(body, bytes | str):
        raise BadAnswer(f"{what} is not text")
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"{what} has another shape: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(what, body) from error


def not_json(what: str, body: object) -> BadAnswer:
    """The error for an answer that is no JSON: a page for people is told from half an answer."""
    start = body.lstrip()[:1] if isinstance(body, bytes | str) else b""
    if start in (b"<", "<"):
        hint = "a proxy or a page of maintenance may have answered; look at the endpoint"
        return BadAnswer(f"{what} is not JSON but HTML or XML", hint)
    return BadAnswer(f"{what} is not JSON, or breaks off")


def read_row(raw: msgspec.Raw, decode: Callable[[Any], _T], read: Callable[[_T], _R]) -> _R | Skip:
    """What one row says, or the Skip of a row that cannot be right."""
    try:
        return read(decode(raw))
    except Malformed as error:
        return malformed(str(error), bytes(raw))
    except msgspec.MsgspecError as error:
        return malformed(f"row of the wrong shape: {error}", bytes(raw))
    except (ArithmeticError, UnicodeDecodeError, RecursionError):
        return malformed("row that cannot be read", bytes(raw))


def once(offers: Iterable[PricedOffer]) -> tuple[list[PricedOffer], list[Skip]]:
    """The offers without those that come again, and a malformed Skip for each of these.

    Of two prices for one offer neither is known to be the right one: the dearer is kept, so that
    a slip is never a bargain.
    """
    kept: dict[tuple[object, ...], PricedOffer] = {}
    skips: list[Skip] = []
    for offer in offers:
        where = (offer.tier, offer.region, offer.zone)
        which = (offer.instance_type, offer.purchase, offer.price.currency)
        known = kept.setdefault(where + which, offer)
        if known is offer:
            continue
        skips.append(malformed("offer that comes twice", f"{offer.instance_type} {offer.region}"))
        if known.price < offer.price:
            kept[where + which] = offer
    return list(kept.values()), skips
