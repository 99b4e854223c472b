"""Letting old rows go, as the settings say: a little at a time, and never what is still needed.

Price changes go only when the daily rollup has them, when they have ended, and never a series'
newest; decisions stay for ever, and what they were decided on goes; of polls, every provider's
newest of each state stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from arbiter.settings import RetentionSettings
from arbiter.store.engine import Store
from arbiter.store.instants import EPOCH_2000
from arbiter.store.prices import alone
from arbiter.store.rollups import DAY_S
from arbiter.store.served import SPAN_S
from arbiter.store.tables import (
    decision,
    event,
    meta,
    poll,
    price_change,
    price_day,
    replica_counters,
)
from arbiter.store.tables import served as spans

KEPT_SINCE = "prices_kept_since"
"""In `meta`: epoch seconds; price changes that ended before it may have been deleted."""

AT_ONCE = 2_000
"""Rows that go in one transaction."""

BLOBS_AT_ONCE = 50
"""Decisions whose inputs go in one transaction: they are large."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How much went."""

    prices: int = 0
    decision_inputs: int = 0
    polls: int = 0
    events: int = 0
    served: int = 0


def kept_since(connection: Connection) -> int:
    """The first instant since which every price change is kept; 0 where none was deleted."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == KEPT_SINCE)).scalar()
    return int(found) if found else 0


def let_go(store: Store, settings: RetentionSettings, now: datetime) -> Removed:
    """Delete what is older than the settings keep, in many small transactions.

    It may be ended at any instant, and goes on where it was the next time.

    Raises:
        StoreError: the database failed; what went before stays gone.
    """

    def before(days: int) -> datetime:
        return now - timedelta(days=days)

    prices = inputs = polls = events = 0
    if settings.prices_days is not None:
        prices = _prices(store, int(before(settings.prices_days).timestamp()) // DAY_S * DAY_S)
    if settings.decisions_inputs_days is not None:
        oldest = before(settings.decisions_inputs_days)
        inputs = _repeated(store, lambda connection: _empty_inputs(connection, oldest))
    if settings.polls_days is not None:
        last = select(func.max(poll.c.id)).group_by(poll.c.provider, poll.c.state)
        old = and_(
            poll.c.finished_at < before(settings.polls_days),
            poll.c.id.not_in(last.scalar_subquery()),
        )
        polls = _repeated(store, lambda connection: _delete(connection, poll, old))
    if settings.events_days is not None:
        past = event.c.at < before(settings.events_days)
        events = _repeated(store, lambda connection: _delete(connection, event, past))
    served = 0
    if settings.served_days is not None:
        ended = int(before(settings.served_days).timestamp()) - SPAN_S
        served = _repeated(store, lambda connection: _served(connection, ended))
    with store.begin() as connection:
        connection.execute(delete(replica_counters).where(replica_counters.c.at < before(1)))
    return Removed(prices, inputs, polls, events, served)


def _repeated(store: Store, step: Callable[[Connection], int]) -> int:
    """Take a step, each in its own transaction, until there is nothing left to do."""
    total = 0
    while True:
        with store.begin() as connection:
            done = step(connection)
        total += done
        if not done:
            return total


def _delete(connection: Connection, table: Table, old: ColumnElement[bool]) -> int:
    ids = connection.execute(select(table.c.id).where(old).order_by(table.c.id).limit(AT_ONCE))
    found = [{"b_id": one} for one in ids.scalars()]
    if found:
        connection.execute(delete(table).where(table.c.id == bindparam("b_id")), found)
    return len(found)


def _served(connection: Connection, ended: int) -> int:
    """Delete what servers made in spans that began before an instant."""
    one = spans.c
    rows = connection.execute(
        select(one.cluster, one.since).where(one.since < ended).limit(AT_ONCE)
    ).all()
    if rows:
        connection.execute(
            delete(spans).where(
                one.cluster == bindparam("b_cluster"), one.since == bindparam("b_since")
            ),
            [{"b_cluster": cluster, "b_since": since} for cluster, since in rows],
        )
    return len(rows)


def _empty_inputs(connection: Connection, oldest: datetime) -> int:
    """Empty the inputs of old decisions, but for the one that stands for its service."""
    later = decision.alias("later")
    stands = ~exists().where(later.c.service == decision.c.service, later.c.at > decision.c.at)
    ids = connection.execute(
        select(decision.c.id)
        .where(decision.c.at < oldest, func.length(decision.c.inputs) > 0, ~stands)
        .limit(BLOBS_AT_ONCE)
    )
    found = [{"b_id": one} for one in ids.scalars()]
    if found:
        statement = update(decision).where(decision.c.id == bindparam("b_id")).values(inputs=b"")
        connection.execute(statement, found)
    return len(found)


# --- prices ---------------------------------------------------------------------------------------


def _prices(store: Store, cutoff: int) -> int:
    """Delete the price changes that ended before a midnight."""
    total, place = 0, (0, -1)  # of the last that went
    while True:
        with store.begin() as connection:
            alone(connection)
            rows = connection.execute(_old(place, cutoff)).all()
            if not rows:
                return total
            _note(connection, cutoff)
            connection.execute(
                delete(price_change).where(
                    price_change.c.series_id == bindparam("b_id"),
                    price_change.c.valid_from == bindparam("b_from"),
                ),
                [{"b_id": series_id, "b_from": since} for series_id, since in rows],
            )
        total += len(rows)
        place = rows[-1][0], rows[-1][1]


def _old(place: tuple[int, int], cutoff: int) -> Any:
    """The next price changes that may go, behind a place in the table."""
    change, newer = price_change.c, price_change.alias("newer")
    built_until = (
        select((func.max(price_day.c.day) + 1) * DAY_S - EPOCH_2000)  # as the column counts
        .where(price_day.c.series_id == change.series_id)
        .scalar_subquery()
    )
    is_not_newest = exists().where(
        newer.c.series_id == change.series_id, newer.c.valid_from > change.valid_from
    )
    series_id, since = place
    behind = or_(
        change.series_id > series_id,
        and_(change.series_id == series_id, change.valid_from > since),
    )
    return (
        select(change.series_id, change.valid_from)
        .where(behind, change.valid_to <= cutoff, change.valid_to <= built_until, is_not_newest)
        .order_by(change.series_id, change.valid_from)
        .limit(AT_ONCE)
    )


def _note(connection: Connection, cutoff: int) -> None:
    """Remember since when prices are whole, before any of them goes."""
    if kept_since(connection) >= cutoff:
        return
    connection.execute(delete(meta).where(meta.c.key == KEPT_SINCE))
    connection.execute(insert(meta).values(key=KEPT_SINCE, value=str(cutoff)))
