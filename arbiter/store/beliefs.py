"""Keeping what was learnt of the pools of spot machines, and how services are steered.

What changes with every tick has a row of its own.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from arbiter.calibration import Rates, plain_rates, rates_of
from arbiter.spot.beliefs import Beliefs, from_plain, to_plain
from arbiter.spot.goal import Goal
from arbiter.store.tables import belief

NAME = "spot"
RATES = "rates"
GOAL = "goal/"
"""Before a service's name: its goal."""


def read_beliefs(connection: Connection) -> Beliefs:
    """What is believed now; nothing yet in a new database."""
    rows = connection.execute(select(belief.c.name, belief.c.body).order_by(belief.c.name))
    found: dict[str, Any] = {name: json.loads(body) for name, body in rows}
    goals = {name.removeprefix(GOAL): body for name, body in found.items() if name.startswith(GOAL)}
    rates = found.get(RATES, {})
    return from_plain({**found.get(NAME, {"pools": {}}), "goals": goals, "rates": rates})


def save_beliefs(connection: Connection, beliefs: Beliefs, now: datetime) -> None:
    """Put these in the place of what was believed; goals and rates are left as they are."""
    _put(connection, NAME, {**to_plain(beliefs), "goals": {}, "rates": {}}, now)


def save_goal(connection: Connection, service: str, goal: Goal, now: datetime) -> None:
    """Keep how a service is steered."""
    _put(connection, f"{GOAL}{service}", goal._asdict(), now)


def read_rates(connection: Connection) -> Rates:
    """What was measured of machines; nothing yet in a new database."""
    body = connection.execute(select(belief.c.body).where(belief.c.name == RATES)).scalar()
    return {} if body is None else rates_of(json.loads(body))


def save_rates(connection: Connection, rates: Rates, now: datetime) -> None:
    """Keep what was measured of machines."""
    _put(connection, RATES, plain_rates(rates), now)


def _put(connection: Connection, name: str, body: dict[str, Any], now: datetime) -> None:
    connection.execute(delete(belief).where(belief.c.name == name))
    text = json.dumps(body, sort_keys=True)
    connection.execute(insert(belief).values(name=name, body=text, updated_at=now))
