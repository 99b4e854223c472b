"""The SkyPilot in memory that the tests of its executor share."""

from __future__ import annotations

import pytest
from sky_fake import FakeSky, KnownZones

from arbiter.executors.skypilot import SkyPilotExecutor


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def executor(sky: FakeSky) -> SkyPilotExecutor:
    return SkyPilotExecutor(sky, KnownZones())
