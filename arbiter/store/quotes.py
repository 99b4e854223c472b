"""Reading the quotes that stand now: the path of `arbiter offers`, so it imports very little.

The same plain SQL runs on a bare driver connection (the command line, which cannot afford
SQLAlchemy's import) and inside the daemon. SQL here has no parameters and no dialect.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from weakref import finalize

from arbiter.calibration import Rates, rates_of
from arbiter.domain import Offer, OfferKey, Place, Purchase, Quote, Refusal
from arbiter.errors import StoreError
from arbiter.money import Price
from arbiter.regions import Atlas
from arbiter.store import SCHEMA
from arbiter.store.quick_rates import in_dollars

Rows = Iterable[Sequence[Any]]
Query = Callable[[str], Rows]
"""Runs one SQL text without parameters and returns its rows."""

STANDING = """
SELECT s.provider, s.tier, s.region, s.gpu, s.gpu_count, s.zone, s.instance_type, s.purchase,
       s.currency, n.price_micros, n.priced_at, s.source
FROM price_now n
JOIN series s ON s.id = n.series_id
ORDER BY s.id
"""

COVERAGE = "SELECT provider, region, purchase, seen_at FROM coverage"
"""Joined in Python: a dict lookup costs a fifth of the database's search per row."""

HELD = "SELECT provider, body FROM quarantine WHERE ended_at IS NULL"
"""What is held back: the last good prices of these series were seen before their region was."""

LAST_POLLS = """
SELECT p.provider, p.state, p.reasons FROM poll p
JOIN (SELECT provider, MAX(id) AS id FROM poll GROUP BY provider) m ON m.id = p.id
ORDER BY p.provider
"""

LATEST_REFUSALS = """
SELECT offer_key, at, until, failures, reason, lost FROM refusal ORDER BY id DESC LIMIT 1000
"""

RATES = "SELECT body FROM belief WHERE name = 'rates'"

Refuse = Callable[[Offer], tuple[str, str] | None]
_Kind = tuple[str, str, str, str, int]  # provider, tier, region, GPU, how many of it
_PLACE, _MACHINE = itemgetter(0, 1, 2), itemgetter(3, 4)

_PURCHASES = {purchase.value: purchase for purchase in Purchase}


def read_quotes(query: Query, atlas: Atlas, kinds: Kinds | None = None) -> list[Quote]:
    """Every price that stands, joined with the facts of its region, in dollars where that is known.

    Args:
        kinds: leave out the kinds of machine that it refuses; it counts them.
    """
    instants: dict[int, datetime] = {}
    places = _Places(atlas)
    # Coverage first: a price that is written between the two reads only looks older than it is.
    seen = {(row[0], row[1], row[2]): row[3] for row in query(COVERAGE)}
    rows = query(STANDING)
    quotes = []
    for (
        provider, tier, region, gpu, gpu_count, zone, instance_type, purchase,
        currency, micros, priced_at, source,
    ) in rows if kinds is None else kinds.pass_on(rows, places):  # fmt: skip
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
    return in_dollars(query, _aged(quotes, list(query(HELD)), instants))


def _aged(
    quotes: list[Quote], held: Sequence[Sequence[Any]], instants: dict[int, datetime]
) -> list[Quote]:
    """The quotes, those whose present price is doubted as old as when they were last seen."""
    if not held:
        return quotes
    import zlib
    from dataclasses import replace

    seen_at: dict[OfferKey, int] = {}
    for provider, body in held:
        for row in json.loads(zlib.decompress(body)):
            if row.get("seen_at") is not None:
                places = row["tier"], row["region"], row["zone"] or None, row["instance_type"]
                key = OfferKey(provider, *places, _PURCHASES[row["purchase"]])
                seen_at[key] = row["seen_at"]
    for index, quote in enumerate(quotes):
        seen = seen_at.get(quote.offer.key)
        if seen is not None and quote.observed_at.timestamp() > seen:
            quotes[index] = replace(quote, observed_at=_instant(instants, seen))
    return quotes


class Kinds:
    """Asks the rules once for each kind of machine, and counts the offers that they leave out.

    Args:
        refuse_place: given an offer, the rule that refuses all of its region and tier, and why.
        refuse_machine: the same of its GPU, so many to a machine.

    Attributes:
        left_out: rule -> offers.
    """

    def __init__(self, refuse_place: Refuse, refuse_machine: Refuse) -> None:
        self._refuse_place = refuse_place
        self._refuse_machine = refuse_machine
        self.left_out: dict[str, int] = {}

    def pass_on(self, rows: Rows, places: Mapping[tuple[str, str], Place]) -> Rows:
        """The rows, which begin with their kind, without those of a kind that is refused."""
        rows = list(rows)
        kinds: list[_Kind] = [tuple(row[:5]) for row in rows]
        counts = Counter(kinds)
        by_place = _rules(self._refuse_place, counts, _PLACE, places)
        by_machine = _rules(self._refuse_machine, counts, _MACHINE, places)
        passed = set()
        for kind, count in counts.items():
            rule = by_place[_PLACE(kind)] or by_machine[_MACHINE(kind)]
            if rule is None:
                passed.add(kind)
            else:
                self.left_out[rule] = self.left_out.get(rule, 0) + count
        return [row for row, kind in zip(rows, kinds, strict=True) if kind in passed]


def _rules(
    refuse: Refuse,
    kinds: Iterable[_Kind],
    part: Callable[[_Kind], tuple[Any, ...]],
    places: Mapping[tuple[str, str], Place],
) -> dict[tuple[Any, ...], str | None]:
    """The rule that refuses, or None, by the part of a kind that alone decides it."""
    rules: dict[tuple[Any, ...], str | None] = {}
    for key, kind in {part(kind): kind for kind in kinds}.items():
        provider, tier, region, gpu, gpu_count = kind
        place = places[provider, region]
        offer = Offer(provider, tier, region, None, "", gpu, gpu_count, Purchase.ON_DEMAND, place)
        failed = refuse(offer)
        rules[key] = failed[0] if failed else None
    return rules


def read_refusals(query: Query) -> list[Refusal]:
    """The newest refusals of capacity, oldest first; those that have run out are among them."""
    found = [
        Refusal(OfferKey.parse(key), _aware(at), _aware(until), failures, reason, bool(lost))
        for key, at, until, failures, reason, lost in query(LATEST_REFUSALS)
    ]
    return found[::-1]


def read_rates(query: Query) -> Rates:
    """What was measured of machines."""
    found = next(iter(query(RATES)), None)
    return {} if found is None else rates_of(json.loads(found[0]))


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


class QuickReader:
    """Runs a query on the bare driver; called with SQL, it answers with all of the rows.

    The connection is closed with the reader, at the latest when nobody holds it any more.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.close = finalize(self, connection.close)

    def __call__(self, sql: str) -> list[Sequence[Any]]:
        rows: list[Sequence[Any]] = self._connection.execute(sql).fetchall()
        return rows


def open_quick(url: str) -> QuickReader:
    """A read-only query function on the bare driver, for one quick answer.

    Raises:
        StoreError: there is no database yet, it is from another version, or it cannot be read.
    """
    reader = _sqlite_reader(url) if url.startswith("sqlite") else _postgresql_reader(url)
    try:
        found = next(iter(reader("SELECT version_num FROM alembic_version")), (None,))[0]
    except Exception as error:
        reader.close()
        raise _unready(url, error) from error
    if found != SCHEMA:
        reader.close()
        raise OlderSchema(found)
    return reader


class OlderSchema(StoreError):
    """The schema is not this arbiter's: the slow path migrates it, or says that it is newer."""

    def __init__(self, found: object) -> None:
        super().__init__(f"the database has schema {found}, this arbiter {SCHEMA}")


def _sqlite_reader(url: str) -> QuickReader:
    path = _sqlite_path(url)
    if not path.is_file():
        raise StoreError(f"no prices are stored yet in {path}", "run: arbiter poll")
    try:
        return QuickReader(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=15))
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _sqlite_path(url: str) -> Path:
    return Path(unquote(url.split("///", 1)[-1].split("?", 1)[0])).resolve()


def _postgresql_reader(url: str) -> QuickReader:
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise StoreError(
            "the PostgreSQL driver is not installed", "pip install 'arbiter[postgresql]'"
        ) from error
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    patience = None if "connect_timeout" in url else 10  # seconds
    try:
        connection = psycopg.connect(plain, autocommit=True, connect_timeout=patience)
    except psycopg.Error as error:
        raise StoreError(
            f"PostgreSQL does not answer: {_first_line(error)}", "check database_url"
        ) from None
    # What is written in between two queries must not show in one answer and not in the other.
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return QuickReader(connection)


def _unready(url: str, error: Exception) -> StoreError:
    reason = _first_line(error)
    if "no such table" in reason or "does not exist" in reason:
        return StoreError("no prices are stored yet", "run: arbiter poll")
    where = _sqlite_path(url) if url.startswith("sqlite") else "the database"
    if "not a database" in reason:
        return StoreError(f"{where} is not a database", "move the file away and poll again")
    return StoreError(f"cannot read {where}: {reason}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
