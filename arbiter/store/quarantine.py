"""What could not be believed: kept with the reason, never used to decide.

One row per provider, region, purchase and reason, which is updated while it stands. Once it has
ended it is the record of what was doubted, for how long, and whether it was believed in the end.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from arbiter.store.tables import quarantine

KEPT = timedelta(days=90)
"""For how long the record of an ended doubt is kept."""

MOST_ROWS = 2000
"""Rows of one case that are kept: more of the same would say nothing more."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """An offer as it came, and what is known of its series.

    Attributes:
        price_micros: as it came; first_micros: as it was when the doubt began.
        known_micros: what it cost before, None where that is not known.
        seen_at: when that price was last seen to stand, epoch seconds; None where it does not.
        since: when the doubt began, epoch seconds; polls: how many have brought it since.
    """

    tier: str
    region: str
    zone: str
    instance_type: str
    purchase: str
    currency: str
    gpu: str
    gpu_count: int
    source: str
    price_micros: int
    first_micros: int
    known_micros: int | None
    seen_at: int | None
    since: int
    polls: int


@dataclass(frozen=True, slots=True)
class Case:
    """What was doubted in one part of a provider for one reason.

    Attributes:
        region, purchase: "" where it is the whole answer.
        polls: how many in a row brought it.
        offers: how many prices it is about.
        rows: as they came; samples of text where the answer could not be read.
        ended_at: None while it stands.
    """

    provider: str
    region: str
    purchase: str
    reason: str
    first_at: datetime
    last_at: datetime
    polls: int
    offers: int
    rows: tuple[HeldRow, ...] = ()
    samples: tuple[str, ...] = ()
    ended_at: datetime | None = None
    id: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What is unique among the cases of a provider that stand."""
        return self.region, self.purchase, self.reason


def cases(
    connection: Connection,
    provider: str | None = None,
    *,
    ended: bool = False,
    limit: int | None = None,
) -> list[Case]:
    """What stands, or what has ended, newest first."""
    query = select(quarantine).order_by(quarantine.c.id.desc()).limit(limit)
    held = quarantine.c.ended_at.is_not(None) if ended else quarantine.c.ended_at.is_(None)
    query = query.where(held)
    if provider is not None:
        query = query.where(quarantine.c.provider == provider)
    return [_case(row) for row in connection.execute(query).mappings()]


def held_back(connection: Connection) -> Counter[str]:
    """Provider -> how many prices stand in quarantine."""
    rows = connection.execute(
        select(quarantine.c.provider, func.sum(quarantine.c.offers))
        .where(quarantine.c.ended_at.is_(None))
        .group_by(quarantine.c.provider)
    )
    return Counter({row[0]: int(row[1]) for row in rows})


def update_cases(
    connection: Connection, before: Sequence[Case], after: Sequence[Case], now: datetime
) -> list[Case]:
    """Write what has begun, what goes on and what has ended; returns what stands, with its ids."""
    known = {case.key: case for case in before}
    standing = []
    for case in after:
        old = known.pop(case.key, None)
        standing.append(_begin(connection, case) if old is None else _go_on(connection, old, case))
    if known:
        connection.execute(
            update(quarantine)
            .where(quarantine.c.id.in_([case.id for case in known.values()]))
            .values(ended_at=now)
        )
    return standing


def note_believed(connection: Connection, case: Case, now: datetime) -> None:
    """Leave the record of prices that stood so long that they are believed now."""
    _insert(connection, replace(case, last_at=now, ended_at=now))
    old = quarantine.c.ended_at < now - KEPT
    connection.execute(delete(quarantine).where(old))


def _begin(connection: Connection, case: Case) -> Case:
    return replace(case, id=_insert(connection, case))


def _go_on(connection: Connection, old: Case, case: Case) -> Case:
    changes: dict[str, Any] = {"last_at": case.last_at, "polls": case.polls, "offers": case.offers}
    if (old.rows, old.samples) != (case.rows, case.samples):
        changes["body"] = _packed(case)
    connection.execute(update(quarantine).where(quarantine.c.id == old.id).values(**changes))
    return replace(case, id=old.id)


def _insert(connection: Connection, case: Case) -> int:
    statement = (
        insert(quarantine)
        .values(
            provider=case.provider,
            region=case.region,
            purchase=case.purchase,
            reason=case.reason,
            first_at=case.first_at,
            last_at=case.last_at,
            polls=case.polls,
            offers=case.offers,
            body=_packed(case),
            ended_at=case.ended_at,
        )
        .returning(quarantine.c.id)
    )
    return int(connection.execute(statement).scalar_one())


def _packed(case: Case) -> bytes:
    rows: Iterable[Any] = [asdict(row) for row in case.rows] or [
        {"sample": sample} for sample in case.samples
    ]
    return zlib.compress(json.dumps(list(rows)[:MOST_ROWS], sort_keys=True).encode())


def _case(row: RowMapping) -> Case:
    body: list[dict[str, Any]] = json.loads(zlib.decompress(row["body"]))
    rows = tuple(HeldRow(**one) for one in body if "sample" not in one)
    samples = tuple(one["sample"] for one in body if "sample" in one)
    return Case(
        row["provider"],
        row["region"],
        row["purchase"],
        row["reason"],
        row["first_at"],
        row["last_at"],
        row["polls"],
        row["offers"],
        rows,
        samples,
        row["ended_at"],
        row["id"],
    )
