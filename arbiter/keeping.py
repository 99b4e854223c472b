"""The daemon's long chores on the price history: a provider's past, and what is let go."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from arbiter.backfill import backfill_once
from arbiter.clock import Clock
from arbiter.errors import ProviderError
from arbiter.provider import Provider
from arbiter.settings import RetentionSettings
from arbiter.store.engine import Store
from arbiter.store.polls import last_polls
from arbiter.store.retention import let_go

FIRST_BACKFILL_S = 120.0
BACKFILL_S = 3600.0
"""Seconds between two looks for a provider whose past is not filled in yet."""

FIRST_LET_GO_S = 900.0
LET_GO_S = 86_400.0


class Keeping:
    """Both chores may be abandoned at any instant: what is not finished is done again.

    Args:
        tell: gets a line for what was done, and one for each new reason why it was not.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        store: Store,
        clock: Clock,
        retention: RetentionSettings,
        tell: Callable[[str], None],
    ) -> None:
        self._providers = tuple(providers)
        self._store, self._clock, self._retention, self._tell = store, clock, retention, tell
        self._told: dict[str, str] = {}

    def backfill(self) -> None:
        """Ask for the past of every provider that answers and was not asked for it yet.

        Raises:
            StoreError: the database failed; what is not done is done again.
        """
        with self._store.read() as connection:
            answering = {row.provider for row in last_polls(connection) if row.state != "failed"}
        for provider in self._providers:
            if provider.name in answering:
                self._backfill(provider)

    def let_go(self) -> None:
        """Delete what the settings keep no longer.

        Raises:
            StoreError: the database failed; the rest goes the next time.
        """
        let_go(self._store, self._retention, self._clock.now())

    def _backfill(self, provider: Provider) -> None:
        try:
            filled = backfill_once(provider, self._store, self._clock, lambda _note: None)
        except ProviderError as error:
            line = f"{provider.name}: its past prices did not come: {error}"
            if self._told.get(provider.name) != line:
                self._tell(line)
            self._told[provider.name] = line
        else:
            if filled is not None:
                self._tell(f"{provider.name}: {filled.written.rows} past prices were filled in")
