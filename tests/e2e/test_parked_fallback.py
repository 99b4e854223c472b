"""A fallback that is parked while spot serves, and started while it does not, by SkyPilot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import MODEL, QUICK, answer, chat, daemon, eventually, healthy, run
from simaws.market import ZONES
from simaws.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

NO_SPOT = {region: ["g6.xlarge:spot"] for region in ZONES if region.startswith("eu-")}
PARKING = {
    "ARBITER_POLICY__PARKED": "1",
    "ARBITER_POLICY__MAX_SPARES": "0",
    "ARBITER_POLICY__MIN_STAY_S": "1",
    "ARBITER_POLICY__FALLBACK_AFTER": "1",
    "ARBITER_POLICY__FALLBACK_WINDOW_S": "60",
    "ARBITER_POLICY__REFUSAL_S": "5",
    "ARBITER_POLICY__REFUSAL_MAX_S": "5",
    "ARBITER_PROVIDERS__AWS__INTERVAL_S": "5",
}


def test_a_fallback_is_parked_and_started_again(
    world: World, arbiter_environment: Mapping[str, str], tmp_path: Path
) -> None:
    environment = {**arbiter_environment, **QUICK, **PARKING}
    log = tmp_path / "daemon.log"

    def serves(purchase: str) -> dict[str, Any] | None:
        """The replica that answers, once its machine is the only one that runs."""
        seen = healthy(environment)
        if seen is None or seen["purchase"] != purchase:
            return None
        return seen if len(world.instances()) == 1 else None

    def comes(purchase: str, why: str) -> dict[str, Any]:
        found: dict[str, Any] = eventually(
            lambda: serves(purchase), 400, lambda: f"{why}\n{log.read_text()}"
        )
        return found

    world.set_full(NO_SPOT)
    run(environment, "launch", MODEL, "--name", "chat", seconds=600)
    (bought,) = world.instances()
    first = comes("on_demand", "there is no spot")
    (seen,) = answer(environment, "status", "chat")["services"]
    endpoint = seen["endpoint"].removesuffix("/v1")

    with daemon(environment, log):
        world.set_full({})
        comes("spot", "spot is back, and serves")
        (parked,) = world.instances(stopped=True)
        assert parked["InstanceId"] == bought["InstanceId"]
        eventually(
            lambda: sorted(one["state"] for one in _replicas(environment)) == ["healthy", "parked"],
            120,
            "it is known to be stopped",
        )

        world.set_full(NO_SPOT)
        (spot,) = world.instances()
        world.reclaim(spot)
        started = comes("on_demand", "the parked machine was started")
        assert started["cluster"] == first["cluster"]
        (again,) = world.instances()
        assert again["InstanceId"] == bought["InstanceId"]
        chat(endpoint)
        print(log.read_text())

        run(environment, "down", "chat")
    assert world.instances() == []
    assert world.instances(stopped=True) == []


def _replicas(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    (seen,) = answer(environment, "status", "chat")["services"]
    found: list[dict[str, Any]] = seen["replicas"]
    return found
