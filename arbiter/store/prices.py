"""Writing prices: a row per change, an interval per row, a heartbeat per poll.

A poll that changes nothing writes one heartbeat and no price row. The comparison runs against a
`PriceBook` in memory, so that twelve thousand unchanged quotes cost a dict lookup each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, update

from arbiter.domain import Purchase
from arbiter.provider import PricedOffer
from arbiter.screening import Screening
from arbiter.store import price_rows, rollups
from arbiter.store.brought import Brought, SeriesKey
from arbiter.store.polls import PollRow, last_polls, write_poll
from arbiter.store.remembered import note_corrections
from arbiter.store.tables import poll, price_change, price_import, price_now, series

__all__ = ["PollRow", "PriceBook", "last_polls", "write_poll"]

Facts = tuple[str, int, str]
"""What a series is said to be: GPU, GPU count, source."""

_AT_ONCE = 10_000  # values in one IN list: SQLite takes 32,766
_WRITING_LOCK = 7_462_002  # PostgreSQL advisory lock: one writer of prices at a time


class Standing(NamedTuple):
    """The price of a series as it stands: id, micros, and since when (epoch seconds)."""

    series_id: int
    micros: int
    valid_from: int


class PriceBook:
    """The standing prices of one provider, kept in memory between polls.

    Another process may write too (a poll typed beside the daemon, an import that names new series),
    so the book knows the last poll and the last import that it has seen, and reads itself anew when
    the database has gone on.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.forget()

    def forget(self) -> None:
        """Believe nothing any more: the next poll reads the database. For after an error."""
        self._poll_id: int | None = -1
        self._import_id: int | None = None
        self._standing: dict[SeriesKey, Standing] = {}
        self._ids: dict[SeriesKey, int] = {}
        self._facts: dict[SeriesKey, Facts] = {}
        self._brought = Brought()
        self._absent: set[SeriesKey] = set()  # what stands and the last poll did not bring
        self._last: tuple[object, object] = (None, None)
        self.screening = Screening()

    def refresh(self, connection: Connection) -> None:
        """Read the standing prices, if the database has gone on without us.

        From here to the end of the transaction no other one writes prices.
        """
        alone(connection)
        mine = select(func.max(poll.c.id)).where(poll.c.provider == self.provider)
        newest_import = select(func.max(price_import.c.id))
        last, imported = connection.execute(
            select(mine.scalar_subquery(), newest_import.scalar_subquery())
        ).one()
        if last == self._poll_id and imported == self._import_id:
            return
        rows = connection.execute(
            select(
                series.c.tier,
                series.c.region,
                series.c.zone,
                series.c.instance_type,
                series.c.purchase,
                series.c.currency,
                series.c.id,
                series.c.gpu,
                series.c.gpu_count,
                series.c.source,
                price_now.c.price_micros,
                price_now.c.valid_from,
            )
            .outerjoin(price_now, price_now.c.series_id == series.c.id)
            .where(series.c.provider == self.provider)
        ).all()
        self._ids = {row[:6]: row[6] for row in rows}
        self._facts = {row[:6]: row[7:10] for row in rows}
        self._standing = {
            row[:6]: Standing(row[6], row[10], row[11]) for row in rows if row[10] is not None
        }
        self._poll_id, self._import_id = last, imported
        self._brought, self._last = Brought(), (None, None)
        self._absent = set(self._standing)

    def record(
        self,
        connection: Connection,
        offers: Sequence[PricedOffer],
        covered: frozenset[tuple[str, Purchase]],
        row: PollRow,
    ) -> PollRow:
        """Write what changed, close what is gone, and leave the heartbeat.

        Of several offers for one series the last counts. A sequence that is passed a second time
        must not have been changed in between. Returns the row as written, with the
        counts of changes and withdrawals. When the transaction is lost, `forget` must be called.
        """
        self.refresh(connection)
        seen_at = int(row.finished_at.timestamp())
        changes = withdrawn = 0
        if offers is not self._last[0] or covered != self._last[1]:
            changes, withdrawn = self._compare(connection, offers, covered, seen_at)
        self._last = offers, covered
        parts = sorted((region, purchase.value) for region, purchase in covered)
        price_rows.see(connection, [(self.provider, *part, seen_at) for part in parts])
        written = replace(row, offers=len(offers), changes=changes, withdrawn=withdrawn)
        self._poll_id = write_poll(connection, written)
        return written

    def _compare(
        self,
        connection: Connection,
        offers: Sequence[PricedOffer],
        covered: frozenset[tuple[str, Purchase]],
        seen_at: int,
    ) -> tuple[int, int]:
        """Write the differences; returns how many prices changed, and how many are gone."""
        standing, facts = self._standing, self._facts
        fresh, vanished = self._brought.take(offers)
        changed: dict[SeriesKey, PricedOffer] = {}
        renamed: dict[SeriesKey, PricedOffer] = {}
        for key, offer in fresh.items():
            known = standing.get(key)
            if known is None or known.micros != offer.price.micros:
                changed[key] = offer
            if facts.get(key) != (offer.gpu, offer.gpu_count, offer.source):
                renamed[key] = offer
        absent = (self._absent | vanished) - fresh.keys()
        gone = {key for key in absent if (key[1], key[4]) in covered}
        self._absent = absent - gone
        self._write_facts(connection, renamed)
        self._write_changes(connection, changed, seen_at)
        self._withdraw(connection, gone, seen_at)
        return len(changed), len(gone)

    def _write_changes(
        self, connection: Connection, changed: Mapping[SeriesKey, PricedOffer], seen_at: int
    ) -> None:
        if not changed:
            return
        returned = self._ended(connection, [k for k in changed if k not in self._standing])
        opened: list[price_rows.Opened] = []
        for key, offer in changed.items():
            series_id, known = self._ids[key], self._standing.get(key)
            priced_at = int(offer.priced_at.timestamp()) if offer.priced_at else None
            since = _since(priced_at, known, returned.get(key), seen_at)
            micros = offer.price.micros
            before = None if known is None else known.valid_from
            opened.append(price_rows.Opened(series_id, since, micros, priced_at, before))
            self._standing[key] = Standing(series_id, micros, since)
        price_rows.change(connection, opened)
        # What a provider dates back to another day changes days that are rolled up already.
        today = seen_at - seen_at % rollups.DAY_S
        rollups.forget(
            connection, {one.series_id: one.since for one in opened if one.since < today}
        )

    def _ended(self, connection: Connection, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
        """For series that were withdrawn and are back: when their last interval ended."""
        named = {self._ids[key]: key for key in keys}
        ids, ended = list(named), {}
        for start in range(0, len(ids), _AT_ONCE):
            rows = connection.execute(
                select(price_change.c.series_id, func.max(price_change.c.valid_to))
                .where(price_change.c.series_id.in_(ids[start : start + _AT_ONCE]))
                .group_by(price_change.c.series_id)
            )
            ended.update({named[series_id]: end for series_id, end in rows if end is not None})
        return ended

    def _write_facts(self, connection: Connection, offers: Mapping[SeriesKey, PricedOffer]) -> None:
        """Name new series, and correct what a series is said to be where that has changed."""
        if not offers:
            return
        known = [
            {
                "b_id": self._ids[key],
                "gpu": offer.gpu,
                "gpu_count": offer.gpu_count,
                "source": offer.source,
            }
            for key, offer in offers.items()
            if key in self._ids
        ]
        if known:
            connection.execute(update(series).where(series.c.id == bindparam("b_id")), known)
            note_corrections(connection)
        self._name(connection, {key: one for key, one in offers.items() if key not in self._ids})
        self._facts.update(
            (key, (offer.gpu, offer.gpu_count, offer.source)) for key, offer in offers.items()
        )

    def _name(self, connection: Connection, new: Mapping[SeriesKey, PricedOffer]) -> None:
        if not new:
            return
        first = (connection.execute(select(func.max(series.c.id))).scalar() or 0) + 1
        self._ids.update(zip(new, count(first)))
        connection.execute(
            insert(series),
            [
                {
                    "id": self._ids[key],
                    "provider": self.provider,
                    "tier": key[0],
                    "region": key[1],
                    "zone": key[2],
                    "instance_type": key[3],
                    "purchase": key[4],
                    "currency": key[5],
                    "gpu": offer.gpu,
                    "gpu_count": offer.gpu_count,
                    "source": offer.source,
                }
                for key, offer in new.items()
            ],
        )

    def _withdraw(self, connection: Connection, gone: Iterable[SeriesKey], seen_at: int) -> None:
        rows = [self._standing.pop(key) for key in gone]
        price_rows.close(
            connection,
            [
                price_rows.Closed(max(seen_at, one.valid_from + 1), one.series_id, one.valid_from)
                for one in rows
            ],
        )
        price_rows.fall(connection, [one.series_id for one in rows])


def alone(connection: Connection) -> None:
    """Until the end of the transaction nobody else writes prices: on SQLite its lock sees to it."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_WRITING_LOCK)))


def _since(priced_at: int | None, known: Standing | None, ended: int | None, seen_at: int) -> int:
    """When a new price began: as the provider says, but never inside an earlier interval."""
    since = seen_at if priced_at is None else min(priced_at, seen_at)
    if known is not None and since <= known.valid_from:
        return max(seen_at, known.valid_from + 1)
    if ended is not None and since < ended:
        return max(seen_at, ended)
    return since
