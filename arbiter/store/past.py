"""What one provider's prices were: what the quality gate compares a poll with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, func, or_, select

from arbiter.domain import Purchase
from arbiter.gate import Part, SeriesKey
from arbiter.money import Price
from arbiter.provider import PricedOffer
from arbiter.store.tables import coverage, poll, price_change, price_now, series

REMEMBERED = timedelta(days=90)
"""A price that last stood longer ago than this says nothing of today's."""

_T = TypeVar("_T")
_AT_ONCE = 10_000  # values in one IN list: SQLite takes 32,766
_KEY = (
    series.c.tier,
    series.c.region,
    series.c.zone,
    series.c.instance_type,
    series.c.purchase,
    series.c.currency,
)


class SeriesPast(NamedTuple):
    """One series: its lowest and highest price of 90 days, and what stands, as it was sold."""

    lowest: int | None
    highest: int | None
    standing: PricedOffer | None


def newest_poll(connection: Connection, provider: str) -> int | None:
    """The number of the provider's newest poll, whoever made it."""
    query = select(func.max(poll.c.id)).where(poll.c.provider == provider)
    return connection.execute(query).scalar()


def last_prices(connection: Connection, provider: str, now: datetime) -> dict[SeriesKey, int]:
    """The last price of every series that stood within the remembered time, in micros."""
    since = int((now - REMEMBERED).timestamp())
    ended = (
        select(price_change.c.series_id, func.max(price_change.c.valid_from).label("valid_from"))
        .where(price_change.c.valid_to >= since)
        .where(price_change.c.series_id.not_in(select(price_now.c.series_id)))
        .group_by(price_change.c.series_id)
        .subquery()
    )
    gone = (
        select(*_KEY, price_change.c.price_micros)
        .join(price_change, price_change.c.series_id == series.c.id)
        .join(
            ended,
            (ended.c.series_id == price_change.c.series_id)
            & (ended.c.valid_from == price_change.c.valid_from),
        )
        .where(series.c.provider == provider)
    )
    standing = (
        select(*_KEY, price_now.c.price_micros)
        .join(price_now, price_now.c.series_id == series.c.id)
        .where(series.c.provider == provider)
    )
    found: dict[SeriesKey, int] = {}
    for query in (gone, standing):
        found.update((row[:6], row[6]) for row in connection.execute(query))
    return found


def standing_parts(connection: Connection, provider: str) -> dict[Part, int]:
    """How many prices stand in each region and purchase."""
    rows = connection.execute(
        select(series.c.region, series.c.purchase, func.count())
        .join(price_now, price_now.c.series_id == series.c.id)
        .where(series.c.provider == provider)
        .group_by(series.c.region, series.c.purchase)
    )
    return {(row[0], row[1]): row[2] for row in rows}


def seen(connection: Connection, provider: str) -> dict[Part, int]:
    """When each part of the provider was last seen whole, in epoch seconds."""
    rows = connection.execute(
        select(coverage.c.region, coverage.c.purchase, coverage.c.seen_at).where(
            coverage.c.provider == provider
        )
    )
    return {(row[0], row[1]): row[2] for row in rows}


def series_pasts(
    connection: Connection, provider: str, keys: Sequence[SeriesKey], now: datetime
) -> dict[SeriesKey, SeriesPast]:
    """What is remembered of a few series."""
    named = _named(connection, provider, keys)
    ids = list(named)
    ranges = _ranges(connection, ids, int((now - REMEMBERED).timestamp()))
    prices: dict[int, int] = {}
    for some in _chunks(ids):
        query = select(price_now.c.series_id, price_now.c.price_micros)
        prices.update(
            (row[0], row[1])
            for row in connection.execute(query.where(price_now.c.series_id.in_(some)))
        )
    found = {}
    for series_id, (key, facts) in named.items():
        micros = prices.get(series_id)
        standing = None if micros is None else _offer(key, facts, micros)
        lowest, highest = ranges.get(series_id, (None, None))
        found[key] = SeriesPast(lowest, highest, standing)
    return found


def peer_prices(
    connection: Connection, offers: Iterable[PricedOffer]
) -> Mapping[tuple[str, str, str], list[tuple[str, SeriesKey, int]]]:
    """Standing prices per GPU at all providers, for every kind of the offers.

    Returns:
        (GPU, purchase, currency) -> (provider, series, micros per GPU) of each.
    """
    kinds = {(one.gpu, str(one.purchase), one.price.currency) for one in offers}
    found: dict[tuple[str, str, str], list[tuple[str, SeriesKey, int]]] = defaultdict(list)
    for kind in kinds:
        rows = connection.execute(
            select(series.c.provider, *_KEY, price_now.c.price_micros, series.c.gpu_count)
            .join(price_now, price_now.c.series_id == series.c.id)
            .where(series.c.gpu == kind[0], series.c.gpu_count > 0)
            .where(series.c.purchase == kind[1], series.c.currency == kind[2])
        )
        found[kind] = [(row[0], row[1:7], row[7] // row[8]) for row in rows]
    return found


def _named(
    connection: Connection, provider: str, keys: Sequence[SeriesKey]
) -> dict[int, tuple[SeriesKey, tuple[str, int, str]]]:
    """Series by id, with GPU, GPU count and source."""
    wanted, types = set(keys), list({key[3] for key in keys})
    found = {}
    for some in _chunks(types):
        rows = connection.execute(
            select(series.c.id, *_KEY, series.c.gpu, series.c.gpu_count, series.c.source)
            .where(series.c.provider == provider)
            .where(series.c.instance_type.in_(some))
        )
        found.update({row[0]: (row[1:7], row[7:10]) for row in rows if row[1:7] in wanted})
    return found


def _ranges(connection: Connection, ids: Sequence[int], since: int) -> dict[int, tuple[int, int]]:
    change = price_change.c
    found: dict[int, tuple[int, int]] = {}
    for some in _chunks(ids):
        rows = connection.execute(
            select(change.series_id, func.min(change.price_micros), func.max(change.price_micros))
            .where(change.series_id.in_(some))
            .where(or_(change.valid_to.is_(None), change.valid_to >= since))
            .group_by(change.series_id)
        )
        found.update({row[0]: (row[1], row[2]) for row in rows})
    return found


def _offer(key: SeriesKey, facts: tuple[str, int, str], micros: int) -> PricedOffer:
    gpu, gpu_count, source = facts
    tier, region, zone, instance_type, purchase, currency = key
    return PricedOffer(
        tier,
        region,
        zone or None,
        instance_type,
        gpu,
        gpu_count,
        Purchase(purchase),
        Price(micros, currency),
        None,
        source,
    )


def _chunks(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
