"""Where an executor can launch at all."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from arbiter.launchable import SKYPILOT, not_launchable
from arbiter.regions import load_atlas


def test_every_known_cloud_is_either_launched_on_or_refused_with_a_reason() -> None:
    refused = not_launchable("skypilot")
    for provider in load_atlas().providers():
        assert (provider in SKYPILOT) is not (provider in refused)
    assert all(refused.values())
    assert {"ovh", "scaleway", "verda", "vast"} <= set(refused)


def test_a_tier_can_be_refused_where_its_cloud_is_not() -> None:
    refused = not_launchable("skypilot")
    assert "runpod/community" in refused
    assert "runpod" not in refused


def test_skypilot_has_the_clouds_that_are_launched_on_and_opens_ports_there() -> None:
    """Read from its source: importing it takes seconds and writes to the user's home."""
    skypilot = find_spec("sky")
    if skypilot is None or skypilot.origin is None:
        pytest.skip("needs SkyPilot: make install")
    clouds = Path(skypilot.origin).parent / "clouds"
    files = {"lambda": "lambda_cloud"}
    for name in (*SKYPILOT, "verda"):
        source = (clouds / f"{files.get(name, name)}.py").read_text(encoding="utf-8")
        refuses_ports = "CloudImplementationFeatures.OPEN_PORTS:" in source
        assert refuses_ports is (name == "verda"), name


def test_the_local_executor_stands_in_for_every_cloud() -> None:
    assert not not_launchable("local")
