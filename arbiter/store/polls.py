"""The account of every poll: when, how it went, and what it brought."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from arbiter.store.tables import poll


@dataclass(frozen=True, slots=True)
class PollRow:
    """The account of one poll.

    Attributes:
        state: "ok", "degraded" (something is missing) or "failed" (nothing came).
        changes: price rows written; withdrawn: series that are no longer sold.
        skips: reason -> count; malformed: how many rows should not have looked as they did.
        reasons: why it is degraded or failed, and what else to know of what it brought.
        wait_s: seconds for which the provider asked to be left alone; not stored.
    """

    provider: str
    started_at: datetime
    finished_at: datetime
    state: str
    offers: int = 0
    changes: int = 0
    withdrawn: int = 0
    skips: Mapping[str, int] = field(default_factory=dict)
    malformed: int = 0
    reasons: tuple[str, ...] = ()
    wait_s: float | None = field(default=None, compare=False)

    @property
    def aside(self) -> str:
        """The reasons in brackets, to follow a sentence; "" without any."""
        return f" ({'; '.join(self.reasons)})" if self.reasons else ""


def write_poll(connection: Connection, row: PollRow) -> int:
    """Append the account of a poll; returns its id."""
    statement = (
        insert(poll)
        .values(
            provider=row.provider,
            started_at=row.started_at,
            finished_at=row.finished_at,
            state=row.state,
            offers=row.offers,
            changes=row.changes,
            withdrawn=row.withdrawn,
            skipped=sum(row.skips.values()),
            malformed=row.malformed,
            skips=json.dumps(dict(row.skips)),
            reasons=json.dumps(row.reasons),
        )
        .returning(poll.c.id)
    )
    return int(connection.execute(statement).scalar_one())


def last_polls(connection: Connection) -> list[PollRow]:
    """The newest poll of every provider, by name."""
    newest = select(func.max(poll.c.id)).group_by(poll.c.provider).scalar_subquery()
    rows = connection.execute(
        select(poll).where(poll.c.id.in_(newest)).order_by(poll.c.provider)
    ).mappings()
    return [
        PollRow(
            row["provider"],
            row["started_at"],
            row["finished_at"],
            row["state"],
            row["offers"],
            row["changes"],
            row["withdrawn"],
            json.loads(row["skips"]),
            row["malformed"],
            tuple(json.loads(row["reasons"])),
        )
        for row in rows
    ]
