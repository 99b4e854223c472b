"""Where an executor can launch at all."""

from __future__ import annotations

from arbiter.launchable import SKYPILOT, not_launchable
from arbiter.regions import load_atlas


def test_every_known_cloud_is_either_launched_on_or_refused_with_a_reason() -> None:
    refused = not_launchable("skypilot")
    for provider in load_atlas().providers():
        assert (provider in SKYPILOT) is not (provider in refused)
    assert all(refused.values())
    assert {"ovh", "scaleway"} <= set(refused)


def test_the_local_executor_stands_in_for_every_cloud() -> None:
    assert not not_launchable("local")
