"""A provider's own past into the store: on request, and once on the first contact.

The network is asked before the transaction begins, and all of a history is seen at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from arbiter.clock import Clock
from arbiter.errors import ArbiterError
from arbiter.provider import HistoryProvider, ParsedHistory, PastPrice, Progress, Provider
from arbiter.quality import screen
from arbiter.screening import is_named
from arbiter.store import bulk
from arbiter.store.bulk import Written
from arbiter.store.engine import Store
from arbiter.store.spool import PastPrices
from arbiter.store.tables import meta

AT_MOST = timedelta(days=400)
"""How far back a provider is asked; each tells as much as it has."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""No machine with a GPU was for rent before."""


class NoHistory(ArbiterError):
    """The provider tells no past prices."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a provider's history came to.

    Attributes:
        skips: reason -> rows that were left out, whether they should not have looked as they did
            or were simply none of ours.
        malformed: how many of them should not have looked as they did.
        degraded: why something is missing.
    """

    provider: str
    written: Written
    skips: Mapping[str, int]
    malformed: int
    degraded: tuple[str, ...]


def backfill(
    provider: Provider,
    store: Store,
    clock: Clock,
    progress: Progress,
    since: datetime | None = None,
) -> Backfilled:
    """Ask a provider for its past, and store what is not known yet. It may be repeated.

    Args:
        since: aware; None is as far back as the provider tells.

    Raises:
        NoHistory: it tells none.
        ProviderError: nothing usable came.
        StoreError: the database failed; nothing was written.
    """
    return _backfill(provider, store, clock, progress, since, remember=False)


def backfill_once(
    provider: Provider, store: Store, clock: Clock, progress: Progress
) -> Backfilled | None:
    """Fill in a provider's past, if that has never been done on this database.

    Returns:
        None where it has been done, or where the provider tells no past.

    Raises:
        ProviderError, StoreError: as `backfill`; then it is still to be done.
    """
    if not isinstance(provider, HistoryProvider):
        return None
    with store.read() as connection:
        done = connection.execute(select(meta.c.key).where(meta.c.key == _key(provider))).scalar()
    if done is not None:
        return None
    return _backfill(provider, store, clock, progress, None, remember=True)


def _backfill(
    provider: Provider,
    store: Store,
    clock: Clock,
    progress: Progress,
    since: datetime | None,
    *,
    remember: bool,
) -> Backfilled:
    if not isinstance(provider, HistoryProvider):
        raise NoHistory(
            f"{provider.name} tells no past prices", "its prices are recorded from its first poll"
        )
    now = clock.now()
    fetched = provider.fetch_history(since or now - AT_MOST, now, progress)
    history = provider.parse_history(fetched, clock.now())
    kept, skips, malformed = _screened(history, now)
    progress(f"{len(kept):,} past prices")
    with PastPrices() as past:
        past.extend_prices(provider.name, kept)
        with store.begin() as connection:
            written = bulk.write(connection, past, now, open_until=int(now.timestamp()))
            if remember:
                _remember(connection, provider, now)
    return Backfilled(provider.name, written, skips, malformed, fetched.degraded)


def _screened(
    history: ParsedHistory, now: datetime
) -> tuple[list[PastPrice], Mapping[str, int], int]:
    """The prices to believe, and what was left out: judged as those of a poll are."""
    sound = [_until_now(past, now) for past in history.prices if _is_sound(past, now)]
    believed, _ = screen([past.offer for past in sound])
    kept_ids = {id(offer) for offer in believed}
    kept = [past for past in sound if id(past.offer) in kept_ids]
    reasons = Counter(skip.reason for skip in history.skips)
    wrong = {
        "price, number of GPUs, name or time of a price cannot be": len(history.prices)
        - len(sound),
        "implausible price": len(sound) - len(kept),
    }
    reasons.update({reason: rows for reason, rows in wrong.items() if rows})
    malformed = sum(skip.malformed for skip in history.skips) + sum(wrong.values())
    return kept, dict(reasons), malformed


def _is_sound(past: PastPrice, now: datetime) -> bool:
    offer, begin, end = past.offer, past.valid_from, past.valid_to
    if not EARLIEST <= begin <= now:
        return False
    ends_later = end is None or int(begin.timestamp()) < int(end.timestamp())
    return offer.price.micros > 0 and offer.gpu_count > 0 and ends_later and is_named(offer)


def _until_now(past: PastPrice, now: datetime) -> PastPrice:
    """An end that has not come yet is none."""
    ended = past.valid_to is None or past.valid_to <= now
    return past if ended else replace(past, valid_to=None)


def _key(provider: Provider) -> str:
    return f"backfilled:{provider.name}"


def _remember(connection: Connection, provider: Provider, now: datetime) -> None:
    connection.execute(delete(meta).where(meta.c.key == _key(provider)))
    connection.execute(insert(meta).values(key=_key(provider), value=now.isoformat()))
