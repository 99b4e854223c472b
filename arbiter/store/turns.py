"""How each provider's polling stands, for whoever asks from another process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from arbiter.store.tables import meta

_PREFIX = "polling "


@dataclass(frozen=True, slots=True)
class Turn:
    """Where the daemon is with one provider.

    Attributes:
        circuit: "closed", "open" (failed so often that it is left alone for a while) or
            "half_open" (one poll now decides).
        failures: polls that failed in a row.
        next_at: when it is polled next; None while it is being polled.
        polling_since: when the poll that goes on began; None between two polls.
        asked_until: the provider asked to be left alone until then.
        note: how far the poll that goes on has come.
    """

    provider: str
    circuit: str = "closed"
    failures: int = 0
    next_at: datetime | None = None
    polling_since: datetime | None = None
    asked_until: datetime | None = None
    note: str = ""


_INSTANTS = ("next_at", "polling_since", "asked_until")


def write_turn(connection: Connection, turn: Turn) -> None:
    """Note how a provider's polling stands, in place of what was noted before."""
    facts = asdict(turn)
    for name in _INSTANTS:
        facts[name] = facts[name] and facts[name].isoformat()
    insert_of = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    statement = insert_of(meta).values(
        key=f"{_PREFIX}{turn.provider}", value=json.dumps(facts, sort_keys=True)
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["key"], set_={"value": statement.excluded.value}
        )
    )


def turns(connection: Connection) -> dict[str, Turn]:
    """Every provider that a daemon has polled, by name."""
    rows = connection.execute(
        select(meta.c.value).where(meta.c.key.startswith(_PREFIX, autoescape=True))
    )
    found = {}
    for (value,) in rows:
        facts = json.loads(value)
        for name in _INSTANTS:
            facts[name] = facts[name] and datetime.fromisoformat(facts[name])
        found[facts["provider"]] = Turn(**facts)
    return found
