"""Reading how the price of single offers went."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from arbiter.domain import OfferKey, Purchase
from arbiter.store.tables import price_change, series


class Stretch(NamedTuple):
    """One price and for how long it stood: epoch seconds; `until` None while it stands."""

    since: int
    until: int | None
    micros: int


def stretches(
    connection: Connection, keys: Sequence[OfferKey], since: datetime, currency: str = "USD"
) -> dict[OfferKey, list[Stretch]]:
    """The prices that stood at or after an instant, in order; the first may be older than it."""
    if not keys:
        return {}
    named = or_(*(_is(key) for key in keys))
    begin = int(since.timestamp())
    change = price_change.c
    rows = connection.execute(
        select(series, change.valid_from, change.valid_to, change.price_micros)
        .join(price_change, change.series_id == series.c.id)
        .where(named, series.c.currency == currency)
        .where(or_(change.valid_to.is_(None), change.valid_to >= begin))
        .order_by(change.valid_from)
    ).mappings()
    found: dict[OfferKey, list[Stretch]] = {key: [] for key in keys}
    for row in rows:
        key = OfferKey(
            row["provider"],
            row["tier"],
            row["region"],
            row["zone"] or None,
            row["instance_type"],
            Purchase(row["purchase"]),
        )
        found[key].append(Stretch(row["valid_from"], row["valid_to"], row["price_micros"]))
    return found


def _is(key: OfferKey) -> ColumnElement[bool]:
    return and_(
        series.c.provider == key.provider,
        series.c.tier == key.tier,
        series.c.region == key.region,
        series.c.zone == (key.zone or ""),
        series.c.instance_type == key.instance_type,
        series.c.purchase == key.purchase.value,
    )
