"""What several of these tests stand on: SkyPilot in memory, and an empty database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ready_database import ready_sqlite
from sky_fake import FakeSky, KnownZones

from arbiter.executors.skypilot import SkyPilotExecutor
from arbiter.store.engine import Store


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def executor(sky: FakeSky) -> SkyPilotExecutor:
    return SkyPilotExecutor(sky, KnownZones())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database that was migrated and holds nothing."""
    opened = Store(ready_sqlite(tmp_path / "arbiter.db"))
    yield opened
    opened.close()
