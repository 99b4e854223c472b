"""The daemon's chore that keeps the reference rates of currencies up to date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from sqlalchemy import func, select

from arbiter.clock import Clock
from arbiter.errors import ProviderError
from arbiter.prices import ecb
from arbiter.prices.fx import BASE
from arbiter.settings import Settings
from arbiter.store.engine import Store
from arbiter.store.rates import write_rates
from arbiter.store.tables import fx_rate

FIRST_FETCH_S = 90.0
FETCH_S = 21_600.0
"""Seconds between two looks: the bank publishes once on a working day, at about 16:00 CET."""


class RateKeeping:
    """Fetches what has been published since; may be abandoned at any instant.

    Args:
        settings: nothing is fetched where `rates.fetch` is off, or the market is simulated.
        tell: gets a line for each new reason why it could not be done, and one when it can again.
    """

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, tell: Callable[[str], None]
    ) -> None:
        self._store, self._clock, self._tell = store, clock, tell
        self._endpoint = settings.rates.endpoint
        self._fetches = settings.rates.fetch and not settings.simulated
        self._told = ""

    def refresh(self) -> None:
        """Store the rates that are missing: of the newest day, or of 90 where several are.

        Raises:
            StoreError: the database failed; it is done again the next time.
        """
        now = self._clock.now()
        newest, today = self._newest(), now.date()
        if not self._fetches or newest == today:
            return
        span = "day" if newest and today - newest <= timedelta(days=1) else "90d"
        try:
            brought = ecb.parse(ecb.fetch(span, self._endpoint), "the ECB's answer")
        except ProviderError as error:
            line = f"reference rates did not come: {error}"
            if line != self._told:
                self._tell(line)
            self._told = line
            return
        with self._store.begin() as connection:
            write_rates(connection, brought, ecb.SOURCE, now)
        if self._told:
            self._tell("reference rates come again")
        self._told = ""

    def _newest(self) -> date | None:
        with self._store.read() as connection:
            return connection.execute(
                select(func.max(fx_rate.c.day)).where(fx_rate.c.base == BASE)
            ).scalar()
