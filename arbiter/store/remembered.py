"""What questions need besides prices, remembered from one to the next until somebody changes it.

Twelve thousand series take longer to read than their prices at an instant, and hardly ever change:
a poll names a new one now and then, and corrects what an old one is said to be still more seldom.
When each part was last seen changes with every poll, and with nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Transaction, delete, insert, select

from arbiter.store import driver
from arbiter.store.lines import Line, Lines, Part
from arbiter.store.tables import meta

CORRECTED = "series_corrected"
"""The key in `meta` of how often what is said of series was corrected."""

_MOST = 32  # questions whose series are remembered; the series themselves are shared

_STATE = """
SELECT (SELECT MAX(id) FROM series), (SELECT value FROM meta WHERE key = 'series_corrected'),
       (SELECT MAX(id) FROM poll)
"""
_COVERAGE = "SELECT provider, region, purchase, seen_at FROM coverage"


def chosen_lines(connection: Connection, asked: Hashable, read: Callable[[], Lines]) -> Lines:
    """What `read` returns, or has returned for the same question since a series last changed.

    Args:
        connection: in a transaction that has changed no series itself.
        asked: all that the answer depends on besides what is stored.
    """
    return _memory_of(connection.engine).lines(_state_of(connection), asked, read)


def last_seen(connection: Connection) -> Mapping[Part, int]:
    """When each part of a provider was last polled whole, epoch seconds.

    Args:
        connection: in a transaction that has recorded no poll itself.
    """
    return _memory_of(connection.engine).seen(_state_of(connection), connection)


def note_corrections(connection: Connection) -> None:
    """Whoever changes a row of `series` says so, or questions go on with what it was.

    New rows need no note. Writers of series wait for each other: see `prices.alone`.
    """
    times = connection.execute(select(meta.c.value).where(meta.c.key == CORRECTED)).scalar()
    connection.execute(delete(meta).where(meta.c.key == CORRECTED))
    connection.execute(insert(meta).values(key=CORRECTED, value=str(int(times or 0) + 1)))


class _State(NamedTuple):
    """What a transaction found: by this it knows whether anything has changed."""

    newest_series: int | None
    corrected: str | None
    newest_poll: int | None


class _Memory:
    """The series of the last questions to one database, and when its parts were last seen."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: tuple[int | None, str | None] = (None, None)
        self._answers: OrderedDict[Hashable, Lines] = OrderedDict()
        self._shared: dict[int, Line] = {}
        self._seen: tuple[int | None, Mapping[Part, int]] = (None, {})

    def lines(self, state: _State, asked: Hashable, read: Callable[[], Lines]) -> Lines:
        """The series of a question."""
        now = state[:2]
        with self._lock:
            if now != self._state:
                self._state = now
                self._answers.clear()
                self._shared.clear()
            known = self._answers.get(asked)
            if known is not None:
                self._answers.move_to_end(asked)
                return known
        found = read()
        with self._lock:
            if now == self._state:
                found = Lines(self._shared.setdefault(line.id, line) for line in found)
                self._answers[asked] = found
                if len(self._answers) > _MOST:
                    self._answers.popitem(last=False)
        return found

    def seen(self, state: _State, connection: Connection) -> Mapping[Part, int]:
        """When each part was last seen."""
        poll, seen = self._seen
        if poll is None or poll != state.newest_poll:
            found = driver.rows(connection, _COVERAGE)
            seen = {(row[0], row[1], row[2]): row[3] for row in found}
            self._seen = state.newest_poll, seen
        return seen


_memories: WeakKeyDictionary[Engine, _Memory] = WeakKeyDictionary()
_states: WeakKeyDictionary[Transaction, _State] = WeakKeyDictionary()
_making = Lock()


def _memory_of(engine: Engine) -> _Memory:
    with _making:
        return _memories.setdefault(engine, _Memory())


def _state_of(connection: Connection) -> _State:
    """The state that the connection's transaction has found first."""
    transaction = connection.get_transaction()
    with _making:
        known = None if transaction is None else _states.get(transaction)
    if known is None:
        known = _State(*driver.row(connection, _STATE))
        transaction = connection.get_transaction()
        if transaction is not None:
            with _making:
                _states[transaction] = known
    return known
