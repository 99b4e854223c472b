"""What providers say of capacity and interruption: a row per change, a heartbeat per poll.

Each kind keeps its own unit; two kinds never compare. What a provider does not say is no row: an
absent figure is never 0. As with prices, the age of a signal is that of the last poll that showed
its kind whole, unless the provider itself says when it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from arbiter.domain import Purchase
from arbiter.provider import Parsed, Signal
from arbiter.store.tables import signal, signal_coverage

SignalKey = tuple[str, str, str, str, str]
"""(kind, region, zone or "", instance type, purchase or "") within one provider."""

Facts = tuple[str, float | None, float | None, str, int | None]
"""(unit, low, high, the provider's own word, when it was measured in epoch seconds)."""

_KEY = (
    signal.c.kind,
    signal.c.region,
    signal.c.zone,
    signal.c.instance_type,
    signal.c.purchase,
)
_FACTS = (signal.c.unit, signal.c.low, signal.c.high, signal.c.text, signal.c.observed_at)
_Row = Any  # of a query for _KEY, _FACTS, id and valid_from
_AT_ONCE = 10_000  # values in one IN list: SQLite takes 32,766


@dataclass(frozen=True, slots=True)
class StandingSignal:
    """A signal as it stands.

    Attributes:
        signal: what the provider said.
        valid_from: when arbiter first saw it so.
        seen_at: when it was last seen so; its age counts from `measured_at`.
    """

    provider: str
    signal: Signal
    valid_from: datetime
    seen_at: datetime

    @property
    def measured_at(self) -> datetime:
        """When the figure was measured as far as is known: as the provider says, or last seen."""
        return self.signal.observed_at or self.seen_at


def write_signals(connection: Connection, provider: str, parsed: Parsed, now: datetime) -> int:
    """Write the signals that changed, end those that no longer hold, and leave the heartbeat.

    Of several signals for one key the last counts. A kind that the poll did not show whole is left
    as it is, but for the figures that came. Returns how many rows began.
    """
    if not parsed.signals and not parsed.signal_kinds:
        return 0
    seconds = int(now.timestamp())
    found = {_key(one): _facts(one) for one in parsed.signals}
    kinds = parsed.signal_kinds | {key[0] for key in found}
    standing = _standing(connection, provider, kinds)
    changed = {
        key: facts
        for key, facts in found.items()
        if key not in standing or not _is_same(facts, standing[key])
    }
    remeasured = [
        {"b_id": standing[key].id, "b_at": facts[4]}
        for key, facts in found.items()
        if key not in changed and facts[4] != standing[key].observed_at
    ]
    gone = [key for key in standing.keys() - found.keys() if key[0] in parsed.signal_kinds]
    _remeasure(connection, remeasured)
    _end(
        connection, [standing[key] for key in (*gone, *(changed.keys() & standing.keys()))], seconds
    )
    _begin(connection, provider, changed, standing, seconds)
    beat(connection, provider, parsed.signal_kinds, now)
    return len(changed)


def standing(
    connection: Connection,
    *,
    provider: str | None = None,
    kind: str | None = None,
    region: str | None = None,
    instance_type: str | None = None,
) -> list[StandingSignal]:
    """The signals that stand, narrowed to what is named, in order of provider, kind and place."""
    query = (
        select(signal, signal_coverage.c.seen_at)
        .outerjoin(
            signal_coverage,
            (signal_coverage.c.provider == signal.c.provider)
            & (signal_coverage.c.kind == signal.c.kind),
        )
        .where(signal.c.valid_to.is_(None))
        .order_by(signal.c.provider, *_KEY)
    )
    wanted = {"provider": provider, "kind": kind, "region": region, "instance_type": instance_type}
    for name, value in wanted.items():
        if value is not None:
            query = query.where(signal.c[name] == value)
    return [_read(row) for row in connection.execute(query).mappings()]


def history(
    connection: Connection, provider: str, kind: str, since: datetime
) -> list[tuple[Signal, datetime, datetime | None]]:
    """What one kind said since an instant: each signal with when it began and ended to hold."""
    begin = int(since.timestamp())
    rows = connection.execute(
        select(signal)
        .where(signal.c.provider == provider, signal.c.kind == kind)
        .where(signal.c.valid_to.is_(None) | (signal.c.valid_to >= begin))
        .order_by(*_KEY, signal.c.valid_from)
    ).mappings()
    return [
        (_signal(row), _instant(row["valid_from"]), _instant_or_none(row["valid_to"]))
        for row in rows
    ]


def _key(one: Signal) -> SignalKey:
    purchase = one.purchase.value if one.purchase else ""
    return one.kind, one.region, one.zone or "", one.instance_type, purchase


def _facts(one: Signal) -> Facts:
    low, high = one.low, one.high
    return (
        one.unit,
        None if low is None else float(low),
        None if high is None else float(high),
        one.text,
        None if one.observed_at is None else int(one.observed_at.timestamp()),
    )


def _is_same(facts: Facts, row: _Row) -> bool:
    """When it was measured is no change: a figure that is measured anew every hour may stand."""
    return facts[:4] == (row.unit, row.low, row.high, row.text)


def _standing(connection: Connection, provider: str, kinds: Iterable[str]) -> dict[SignalKey, _Row]:
    rows: Iterable[Any] = connection.execute(
        select(*_KEY, *_FACTS, signal.c.id, signal.c.valid_from)
        .where(signal.c.provider == provider, signal.c.valid_to.is_(None))
        .where(signal.c.kind.in_(sorted(kinds)))
    )
    return {(row[0], row[1], row[2], row[3], row[4]): row for row in rows}


def _remeasure(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.exec_driver_sql(
            "UPDATE signal SET observed_at = :b_at WHERE id = :b_id"
            if connection.dialect.name == "sqlite"
            else "UPDATE signal SET observed_at = %(b_at)s WHERE id = %(b_id)s",
            list(rows),
        )


def _end(connection: Connection, rows: Sequence[_Row], seconds: int) -> None:
    """Close what no longer holds; never before it began."""
    ids = [row.id for row in rows if row.valid_from < seconds]
    for start in range(0, len(ids), _AT_ONCE):
        connection.execute(
            update(signal)
            .where(signal.c.id.in_(ids[start : start + _AT_ONCE]))
            .values(valid_to=seconds)
        )
    for row in rows:
        if row.valid_from >= seconds:  # of the same second, or the clock was set back
            connection.execute(
                update(signal).where(signal.c.id == row.id).values(valid_to=row.valid_from + 1)
            )


def _begin(
    connection: Connection,
    provider: str,
    changed: Mapping[SignalKey, Facts],
    standing: Mapping[SignalKey, _Row],
    seconds: int,
) -> None:
    if not changed:
        return
    rows = []
    for (kind, region, zone, instance_type, purchase), facts in changed.items():
        before = standing.get((kind, region, zone, instance_type, purchase))
        unit, low, high, text, observed_at = facts
        rows.append(
            {
                "provider": provider,
                "kind": kind,
                "region": region,
                "zone": zone,
                "instance_type": instance_type,
                "purchase": purchase,
                "unit": unit,
                "low": low,
                "high": high,
                "text": text,
                "observed_at": observed_at,
                "valid_from": max(seconds, before.valid_from + 1) if before else seconds,
            }
        )
    connection.execute(insert(signal), rows)


def beat(connection: Connection, provider: str, kinds: Iterable[str], now: datetime) -> None:
    """Note that these kinds were seen whole, and so that what stands of them still holds."""
    seconds = int(now.timestamp())
    rows = [{"provider": provider, "kind": kind, "seen_at": seconds} for kind in sorted(kinds)]
    if not rows:
        return
    insert_of = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    statement = insert_of(signal_coverage)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["provider", "kind"], set_={"seen_at": statement.excluded.seen_at}
        ),
        rows,
    )


def _read(row: RowMapping) -> StandingSignal:
    began, seen = row["valid_from"], row["seen_at"]
    return StandingSignal(
        row["provider"],
        _signal(row),
        _instant(began),
        _instant(began if seen is None else max(began, seen)),
    )


def _signal(row: RowMapping) -> Signal:
    return Signal(
        row["kind"],
        row["unit"],
        row["region"],
        row["zone"] or None,
        row["instance_type"],
        Purchase(row["purchase"]) if row["purchase"] else None,
        _decimal(row["low"]),
        _decimal(row["high"]),
        row["text"],
        _instant_or_none(row["observed_at"]),
    )


def _decimal(figure: float | None) -> Decimal | None:
    """The figure as the provider wrote it: the shortest decimal of the stored number."""
    return None if figure is None else Decimal(repr(figure)).normalize()


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _instant_or_none(seconds: int | None) -> datetime | None:
    return None if seconds is None else _instant(seconds)
