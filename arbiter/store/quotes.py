"""Reading the quotes that stand now: the path of `arbiter offers`, so it imports very little.

The same plain SQL runs on a bare driver connection (the command line, which cannot afford
SQLAlchemy's import) and inside the daemon. SQL here has no parameters and no dialect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from arbiter.domain import Offer, OfferKey, Purchase, Quote, Refusal
from arbiter.errors import StoreError
from arbiter.money import Price
from arbiter.regions import Atlas
from arbiter.store import SCHEMA

Rows = Iterable[Sequence[Any]]
Query = Callable[[str], Rows]
"""Runs one SQL text without parameters and returns its rows."""

STANDING = """
SELECT s.provider, s.tier, s.region, s.zone, s.instance_type, s.gpu, s.gpu_count, s.purchase,
       s.currency, n.price_micros, n.priced_at, s.source
FROM price_now n
JOIN series s ON s.id = n.series_id
ORDER BY s.id
"""

COVERAGE = "SELECT provider, region, purchase, seen_at FROM coverage"
"""Joined in Python: a dict lookup costs a fifth of the database's search per row."""

LAST_POLLS = """
SELECT p.provider, p.state, p.reasons FROM poll p
JOIN (SELECT provider, MAX(id) AS id FROM poll GROUP BY provider) m ON m.id = p.id
ORDER BY p.provider
"""

LATEST_REFUSALS = """
SELECT offer_key, at, until, failures, reason, lost FROM refusal ORDER BY id DESC LIMIT 1000
"""

_PURCHASES = {purchase.value: purchase for purchase in Purchase}


def read_quotes(query: Query, atlas: Atlas) -> list[Quote]:
    """Every price that stands, joined with the facts of its region."""
    instants: dict[int, datetime] = {}
    places = _Places(atlas)
    # Coverage first: a price that is written between the two reads only looks older than it is.
    seen = {(row[0], row[1], row[2]): row[3] for row in query(COVERAGE)}
    quotes = []
    for (
        provider, tier, region, zone, instance_type, gpu, gpu_count, purchase,
        currency, micros, priced_at, source,
    ) in query(STANDING):  # fmt: skip
        offer = Offer(
            provider,
            tier,
            region,
            zone or None,
            instance_type,
            gpu,
            gpu_count,
            _PURCHASES[purchase],
            places[provider, region],
        )
        quotes.append(
            Quote(
                offer,
                Price(micros, currency),
                _instant(instants, seen.get((provider, region, purchase), 0)),
                None if priced_at is None else _instant(instants, priced_at),
                source,
            )
        )
    return quotes


def read_refusals(query: Query) -> list[Refusal]:
    """The newest refusals of capacity, oldest first; those that have run out are among them."""
    found = [
        Refusal(OfferKey.parse(key), _aware(at), _aware(until), failures, reason, bool(lost))
        for key, at, until, failures, reason, lost in query(LATEST_REFUSALS)
    ]
    return found[::-1]


def _aware(stored: str | datetime) -> datetime:
    """An instant of the fleet's tables: SQLite keeps it as text in UTC without a zone."""
    instant = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


class _Places(dict[tuple[str, str], Any]):
    """One Place object for each region, looked up once."""

    def __init__(self, atlas: Atlas) -> None:
        super().__init__()
        self._atlas = atlas

    def __missing__(self, key: tuple[str, str]) -> Any:
        place = self[key] = self._atlas.place(*key)
        return place


def _instant(known: dict[int, datetime], seconds: int) -> datetime:
    found = known.get(seconds)
    if found is None:
        found = known[seconds] = datetime.fromtimestamp(seconds, UTC)
    return found


def open_quick(url: str) -> Query:
    """A read-only query function on the bare driver, for one quick answer.

    Raises:
        StoreError: there is no database yet, it is from another version, or it cannot be read.
    """
    if url.startswith("sqlite"):
        query = _sqlite_query(url)
    else:
        query = _postgresql_query(url)
    try:
        found = next(iter(query("SELECT version_num FROM alembic_version")), (None,))[0]
    except Exception as error:
        raise _unready(url, error) from error
    if found != SCHEMA:
        raise OlderSchema(found)
    return query


class OlderSchema(StoreError):
    """The schema is not this arbiter's: the slow path migrates it, or says that it is newer."""

    def __init__(self, found: object) -> None:
        super().__init__(f"the database has schema {found}, this arbiter {SCHEMA}")


def _sqlite_query(url: str) -> Query:
    path = Path(unquote(url.split("///", 1)[-1].split("?", 1)[0]))
    if not path.is_file():
        raise StoreError(f"no prices are stored yet in {path}", "run: arbiter poll")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=15)
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    return lambda sql: connection.execute(sql)


def _postgresql_query(url: str) -> Query:
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise StoreError(
            "the PostgreSQL driver is not installed", "pip install 'arbiter[postgresql]'"
        ) from error
    try:
        connection = psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"))
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"PostgreSQL does not answer: {reason}", "check database_url") from error
    return lambda sql: connection.execute(sql)  # type: ignore[arg-type]


def _unready(url: str, error: Exception) -> StoreError:
    reason = str(error).strip().splitlines()[0]
    if "no such table" in reason or "does not exist" in reason:
        return StoreError("no prices are stored yet", "run: arbiter poll")
    where = url.split("///", 1)[-1] if url.startswith("sqlite") else "the database"
    return StoreError(f"cannot read {where}: {reason}")
