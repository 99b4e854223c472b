"""Whether a connection that waited in the pool still leads to its server, mostly without asking it.

A server that ends closes its side, which the kernel knows: something can be read where nothing is
due. To ask the server each time takes as long as to answer a small question.
"""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

QUIET_S = 60
"""Seconds of rest after which the server is asked all the same: a firewall that drops a connection
tells nobody."""

_RESTED_SINCE = "arbiter_rested_since"


def watch(engine: Engine) -> None:
    """Look at every connection of the engine's pool before it is used again."""

    def rest(_connection: object, record: Any) -> None:
        record.info[_RESTED_SINCE] = time.monotonic()

    def use(connection: Any, record: Any, _proxy: object) -> None:
        since = record.info.get(_RESTED_SINCE)
        if since is None:  # a new one
            return
        if time.monotonic() - since < QUIET_S and not _can_be_read(connection):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", use)


def _can_be_read(connection: Any) -> bool:
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
