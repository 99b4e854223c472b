"""What goes wrong and lasts: journaled when it begins, not again while it stays the same."""

from __future__ import annotations

from collections.abc import Callable

from arbiter.clock import Clock
from arbiter.store import journal
from arbiter.store.engine import Store

Key = tuple[str, str | None, str | None]


class Troubles:
    """The troubles that stand. A new program tells those that still stand once more.

    Args:
        tell: gets every sentence that is journaled.
    """

    def __init__(self, store: Store, clock: Clock, tell: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._tell = tell
        self._standing: dict[Key, str] = {}

    @property
    def standing(self) -> tuple[str, ...]:
        """The sentence of each, in the order in which they began."""
        return tuple(self._standing.values())

    def count(self, kind: str, service: str | None) -> int:
        """How many of a kind stand for a service."""
        return sum(1 for key in list(self._standing) if key[:2] == (kind, service))

    def note(
        self, kind: str, sentence: str, service: str | None = None, cluster: str | None = None
    ) -> None:
        """Journal a trouble, unless the same one stands already.

        Raises:
            StoreError: it cannot be written; then it does not count as told.
        """
        key = (kind, service, cluster)
        if self._standing.get(key) == sentence:
            return
        with self._store.begin() as connection:
            journal.add_event(
                connection,
                self._clock.now(),
                kind,
                sentence,
                service=service,
                cluster=cluster,
            )
        self._standing[key] = sentence
        self._tell(sentence)

    def over(self, kind: str, service: str | None = None, cluster: str | None = None) -> bool:
        """The trouble has ended; whether it stood."""
        return self._standing.pop((kind, service, cluster), None) is not None
