"""What is held back, a line for each reason: the same words in `poll`, `status` and the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from arbiter.gate import Part
from arbiter.money import Price
from arbiter.store.quarantine import HeldRow

NAMED = 3
"""So many places are named in a line; of more only the number."""


def places(parts: Sequence[Part]) -> str:
    """Regions with the way of purchase: "eu-west-1 spot, eu-west-2 spot and 4 more"."""
    named = ", ".join(f"{region} {purchase}" for region, purchase in parts[:NAMED])
    more = len(parts) - NAMED
    return f"{named} and {more} more" if more > 0 else named


def single_lines(held: Iterable[tuple[str, HeldRow]]) -> list[str]:
    """A line for each reason, which names the first few prices.

    Args:
        held: reason and price.
    """
    by_reason: dict[str, list[HeldRow]] = defaultdict(list)
    for reason, row in held:
        by_reason[reason].append(row)
    lines = []
    for reason, rows in sorted(by_reason.items()):
        named = ", ".join(map(_price, rows[:NAMED]))
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        count = "1 price" if len(rows) == 1 else f"{len(rows)} prices"
        lines.append(f"{count} held back, {reason}: {named}{more}")
    return lines


def _price(row: HeldRow) -> str:
    now = Price(row.price_micros, row.currency)
    was = f", was {Price(row.known_micros, row.currency)}" if row.known_micros else ""
    where = "/".join(one for one in (row.region, row.zone) if one)
    return f"{row.instance_type} {row.purchase} in {where} at {now}{was}"
