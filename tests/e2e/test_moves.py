"""A service that is moved, frozen, and left without spot, on the real SkyPilot: nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
from commands import MODEL, QUICK, answer, chat, daemon, eventually, healthy, run
from simaws.market import ZONES
from simaws.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

EUROPE = [region for region in ZONES if region.startswith("eu-")]
RESTLESS = {
    "ARBITER_POLICY__MAX_SPARES": "0",
    "ARBITER_POLICY__MIN_STAY_S": "1",
    "ARBITER_POLICY__UNHEALTHY_S": "6",
    "ARBITER_PROVIDERS__AWS__INTERVAL_S": "5",
}
SOON_ON_DEMAND = {"ARBITER_POLICY__FALLBACK_AFTER": "1"}


class Asking:
    """Asks an endpoint again and again.

    Attributes:
        failures: what went wrong.
    """

    def __init__(self, endpoint: str) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self) -> Iterator[Asking]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            try:
                chat(self._endpoint)
                self.answered += 1
            except (OSError, ValueError, HTTPError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")


def test_moves_a_frozen_machine_and_no_spot_at_all(
    world: World, arbiter_environment: Mapping[str, str], tmp_path: Path
) -> None:
    environment = {**arbiter_environment, **QUICK, **RESTLESS}
    log = tmp_path / "daemon.log"

    def stands_in(region: str, purchase: str = "spot") -> dict[str, object] | None:
        """The replica that answers, once it is the only machine and in this region."""
        seen = healthy(environment)
        if seen is None or (seen["region"], seen["purchase"]) != (region, purchase):
            return None
        return seen if len(world.instances()) == 1 else None

    def arrives(region: str, why: str, purchase: str = "spot") -> dict[str, object]:
        found: dict[str, object] = eventually(
            lambda: stands_in(region, purchase), 500, lambda: f"{why}\n{log.read_text()}"
        )
        return found

    run(environment, "launch", MODEL, "--name", "chat", seconds=600)
    (seen,) = answer(environment, "status", "chat")["services"]
    endpoint = seen["endpoint"].removesuffix("/v1")
    asking = Asking(endpoint)
    with daemon(environment, log), asking.running():
        # a price falls: it moves there, make before break, and the API server is killed; where that
        # loses the launch, another zone of the same price is next
        world.market.set_spot("eu-central-1", "g6.xlarge", "0.1000")
        eventually(lambda: len(_replicas(environment)) == 2, 120, "the launch was asked for")
        world.stop_api_server()
        world.start_api_server()
        moved = arrives("eu-central-1", "it moved to the cheaper place")
        assert asking.failures == []
        assert asking.answered > 20

        # the machine stands still, and EC2 calls it running
        (machine,) = world.instances()
        world.freeze(machine)
        eventually(
            lambda: (now := healthy(environment)) and now["cluster"] != moved["cluster"],
            500,
            lambda: f"another machine answers\n{log.read_text()}",
        )
        eventually(lambda: not _stands(world, machine), 200, "the frozen one was ended")
        assert asking.answered > 40

    environment |= SOON_ON_DEMAND
    with daemon(environment, log):
        # no spot anywhere: on demand, after one refusal
        world.set_full({region: ["g6.xlarge:spot"] for region in EUROPE})
        (machine,) = world.instances()
        world.reclaim(machine)
        arrives("eu-north-1", "it fell back to on-demand", purchase="on_demand")
        chat(endpoint)

        run(environment, "down", "chat")
        assert world.instances() == []

        # a service that is taken back while its machine is being launched
        world.set_full({})
        run(environment, "launch", MODEL, "--name", "hasty", "--no-wait")
        eventually(lambda: _replicas(environment, "hasty"), 60, "the launch was asked for")
        run(environment, "down", "hasty")
        assert world.instances() == []
    assert world.instances() == []


def _replicas(environment: Mapping[str, str], service: str = "chat") -> list[object]:
    (seen,) = answer(environment, "status", service)["services"]
    found: list[object] = seen["replicas"]
    return found


def _stands(world: World, machine: Mapping[str, object]) -> bool:
    return machine["InstanceId"] in {one["InstanceId"] for one in world.instances()}
