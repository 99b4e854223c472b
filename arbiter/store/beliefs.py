"""Keeping what was learnt of the pools of spot machines."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from arbiter.spot.beliefs import Beliefs, from_plain, to_plain
from arbiter.store.tables import belief

NAME = "spot"


def read_beliefs(connection: Connection) -> Beliefs:
    """What is believed now; nothing yet in a new database."""
    body = connection.execute(select(belief.c.body).where(belief.c.name == NAME)).scalar()
    return Beliefs() if body is None else from_plain(json.loads(body))


def save_beliefs(connection: Connection, beliefs: Beliefs, now: datetime) -> None:
    """Put these in the place of what was believed."""
    connection.execute(delete(belief).where(belief.c.name == NAME))
    body = json.dumps(to_plain(beliefs), sort_keys=True)
    connection.execute(insert(belief).values(name=NAME, body=body, updated_at=now))
