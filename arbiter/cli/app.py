"""What every command is given. Imports nothing of weight."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is not worth its time here
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from arbiter.clock import Clock
    from arbiter.regions import Atlas
    from arbiter.settings import Settings
    from arbiter.store.engine import Store


class App:
    """Settings, region table and clock, each made when it is first asked for.

    Args:
        clock: where the time comes from; None is the machine's.

    Attributes:
        config: the settings file that was named, or None.
        debug: errors are shown with their traceback.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.config: str | None = None
        self.debug = False
        self._clock = clock
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force.

        Raises:
            SettingsError: they are malformed.
        """
        if self._settings is None:
            from pathlib import Path

            from arbiter.settings import load_settings

            self._settings = load_settings(Path(self.config) if self.config else None)
        return self._settings

    @property
    def atlas(self) -> Atlas:
        """The region table."""
        from arbiter.regions import load_atlas

        return load_atlas()

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""
        if self._clock is None:
            from arbiter.clock import SystemClock

            self._clock = SystemClock()
        return self._clock

    @property
    def now(self) -> Callable[[], datetime]:
        """The present instant, aware, UTC."""
        return self.clock.now

    def open_store(self) -> Store:
        """The database, of the right schema.

        Raises:
            StoreError: it cannot be used.
        """
        from arbiter.store.engine import Store

        return Store(self.settings.database_url)
