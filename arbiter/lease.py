"""One arbiter acts on a database at a time: a lease row that its holder renews."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from arbiter.clock import Clock
from arbiter.store.engine import Store
from arbiter.store.tables import lease

LASTS = timedelta(seconds=60)
"""Longer than any pause of a healthy holder, and short enough to wait for a dead one."""


class Lease:
    """The right to act on this database.

    Args:
        name: what the right is about; every holder of the same name excludes the others.
    """

    def __init__(self, store: Store, clock: Clock, name: str = "act") -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def acquire(self) -> bool:
        """Take or renew the lease; False while another holder's stands.

        A holder on this machine whose process is gone does not count.
        """
        now = self._clock.now()
        with self._store.begin() as connection:
            row = self._row(connection)
            if row is None:
                connection.execute(
                    insert(lease).values(
                        name=self._name, holder=self.holder, expires_at=now + LASTS
                    )
                )
                return True
            holder, expires_at = row
            # A lease further ahead than any can be was written before the clock moved back.
            valid = now < expires_at <= now + 2 * LASTS
            if holder != self.holder and valid and not _is_dead(holder):
                return False
            connection.execute(
                update(lease)
                .where(lease.c.name == self._name)
                .values(holder=self.holder, expires_at=now + LASTS)
            )
            return True

    def holder_now(self) -> str | None:
        """Who holds the lease now, or None."""
        with self._store.begin() as connection:
            row = self._row(connection)
        if row is None or row[1] <= self._clock.now() or _is_dead(row[0]):
            return None
        return row[0]

    def release(self) -> None:
        """Give the lease back, if it is ours."""
        with self._store.begin() as connection:
            connection.execute(
                delete(lease).where(lease.c.name == self._name, lease.c.holder == self.holder)
            )

    def _row(self, connection: Connection) -> tuple[str, datetime] | None:
        query = select(lease.c.holder, lease.c.expires_at).where(lease.c.name == self._name)
        if connection.dialect.name == "postgresql":
            query = query.with_for_update()
        row = connection.execute(query).first()
        return None if row is None else (row[0], row[1])


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this machine that does not run any more."""
    host, pid, _ = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
