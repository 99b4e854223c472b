"""A real vLLM behind the real gateway: moved under streams, and taken away without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from realvllm.environment import NoVllm, made_before

from arbiter.assemble import make_routing
from arbiter.chaos.load import CUT, OK, Clients
from arbiter.chaos.worker import make_chaos_loop
from arbiter.chaos.world import KEY, MODEL, SERVICE, World
from arbiter.domain import Offer, Place, Purchase, Replica, ReplicaState, Service
from arbiter.errors import GatewayError
from arbiter.executors.base import LaunchSpec
from arbiter.executors.local import LocalExecutor
from arbiter.free_port import free_port
from arbiter.gateway import binary
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.orders import Destination
from arbiter.policy import Policy
from arbiter.profiles import Profile, Variant, load_profile, profile_names
from arbiter.render import TaskInputs, arguments
from arbiter.settings import FleetSettings, Settings
from arbiter.store import fleet
from arbiter.store.engine import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

SERVE = Path(__file__).parent / "realvllm" / "serve.py"
STREAMS = 16
TOKENS = 400
START_S = 600.0  # of a server on a busy machine; 60 to 120 on a quiet one


@pytest.fixture(scope="module")
def vllm() -> Path:
    """The folder of the environment."""
    try:
        return made_before()
    except NoVllm as error:
        pytest.skip(str(error))


@dataclass(frozen=True, slots=True)
class RealWorld(World):
    """The world of a chaos run, whose machines run vLLM."""

    vllm: Path = Path()

    @property
    def settings(self) -> Settings:
        """With the patience that real servers need."""
        made = World.settings.fget(self)  # type: ignore[attr-defined]
        deadline = FleetSettings(launch_deadline_s=START_S, leave_s=1.0)
        return replace(made, fleet=deadline, gateway=replace(made.gateway, drain_s=60.0))

    def policy(self) -> Policy:
        """Three servers on two cores are slow to answer, and are not to be replaced for it."""
        return replace(World.policy(self), unhealthy_s=120)

    def executor(self) -> LocalExecutor:
        """The machines."""

        def command(spec: LaunchSpec, folder: Path) -> list[str]:
            return [sys.executable, str(SERVE), str(self.vllm), spec.model, str(folder / "port")]

        return LocalExecutor(self.folder / "machines", command=command, drain_s=90.0)

    def profile(self) -> Profile:
        """The model that is served."""
        found = load_profile(MODEL)
        return replace(found, serving=replace(found.serving, drain_s=120, start_s=int(START_S)))


@pytest.fixture
def world(
    vllm: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealWorld]:
    try:
        binary.find()
    except GatewayError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("ARBITER_API_KEY", KEY)
    port = free_port()
    made = RealWorld(tmp_path_factory.mktemp("v"), port, restless=False, vllm=vllm)
    yield made
    EnvoyGateway(made.settings.gateway_dir, tuple, port=port).stop()
    executor = made.executor()
    for cluster in executor.standing():
        executor.reclaim(cluster)
        executor.terminate(cluster)


class Fleet:
    """The loop, and what it brought about."""

    def __init__(self, world: RealWorld) -> None:
        self._world = world
        self.store = Store(world.settings.database_url)
        with self.store.begin() as connection:
            fleet.add_service(connection, Service(SERVICE, MODEL, 2), datetime.now(UTC))
        self.loop = make_chaos_loop(
            world, self.store, world.folder / "log", make_routing(world.settings)
        )

    def replicas(self) -> dict[str, Replica]:
        with self.store.read() as connection:
            found = fleet.replicas(connection, self._world.atlas, SERVICE)
        return {one.cluster: one for one in found}

    def tick_until(self, true: Callable[[dict[str, Replica]], bool], what: str) -> None:
        """Tick until the replicas are so."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            self.loop.tick()
            if true(self.replicas()):
                return
            time.sleep(0.5)
        pytest.fail(f"not in time: {what}\n{self._told()}")

    def _told(self) -> str:
        logs = self._world.folder.glob("machines/*/log")
        told = [
            (self._world.folder / "log").read_text(),
            *(log.read_text()[-2000:] for log in logs),
        ]
        return f"{self.replicas()}\n" + "\n".join(told)


def all_answer(replicas: dict[str, Replica]) -> bool:
    return len(replicas) == 2 and all(
        one.state is ReplicaState.HEALTHY for one in replicas.values()
    )


def newcomers(now: dict[str, Replica], before: dict[str, Replica]) -> list[Replica]:
    """Those that were not there before and have an address."""
    return [one for name, one in now.items() if name not in before and one.endpoint]


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def status_of(url: str, key: str | None = None) -> int:
    """The status of a question for the models."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with urlopen(Request(f"{url}/models", headers=headers), timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_a_move_under_streams_loses_nothing_and_a_reclaim_only_what_had_begun(
    world: RealWorld,
) -> None:
    moved = Fleet(world)
    gateway = EnvoyGateway(world.settings.gateway_dir, tuple, port=world.port)
    moved.tick_until(all_answer, "two servers answer")
    before = moved.replicas()

    # the key is asked for at both doors, and the stable one opens for the client's
    for one in before.values():
        assert status_of(f"{one.endpoint}/v1") == 401
    stable = gateway.endpoint(SERVICE)
    assert (status_of(stable), status_of(stable, KEY)) == (401, 200)

    # make before break, by order; the clients come when the new server is about to answer, for
    # until then they would only take the processor from it
    moved.loop.move(SERVICE, Destination("azure"), write=True)
    moved.tick_until(lambda now: bool(newcomers(now, before)), "the new machine is up")
    (new,) = newcomers(moved.replicas(), before)
    wait_until(lambda: answers(f"{new.endpoint}/health"), "the new server has started", START_S)
    clients = Clients(world.port, STREAMS, tokens=TOKENS)
    clients.start()
    wait_until(lambda: len(clients.outcomes) >= STREAMS, "streams run")
    moved.tick_until(
        lambda now: all_answer(now) and any(one.offer.provider == "azure" for one in now.values()),
        "one of them was moved, and its old machine is gone",
    )
    outcomes = clients.stop()
    lost = [one for one in outcomes if one.what != OK]
    assert not lost, lost[:5]
    assert len(outcomes) >= 2 * STREAMS
    after = moved.replicas()
    (gone,) = set(before) - set(after)
    assert gone not in world.executor().standing()

    # one of the two is taken: nobody but the gateway is there to notice
    taken = sorted(after)[0]
    clients = Clients(world.port, STREAMS, tokens=TOKENS)
    clients.start()
    wait_until(lambda: gateway.active(SERVICE, taken) >= 4, "streams run on the machine")
    assert world.executor().reclaim(taken)
    at = time.time()
    seen = len(clients.outcomes)
    wait_until(lambda: len(clients.outcomes) >= seen + 2 * STREAMS, "the others go on")
    outcomes = clients.stop()
    lost = [one for one in outcomes if one.what != OK]
    assert all(one.what == CUT and one.began < at for one in lost), lost[:5]
    assert len(lost) <= STREAMS
    moved.store.close()


def test_vllm_takes_every_flag_that_a_profile_makes(vllm: Path) -> None:
    place = Place("aws", "eu-north-1")
    offer = Offer(
        "aws", "standard", "eu-north-1", None, "p5.48xlarge", "H100", 8, Purchase.SPOT, place
    )
    asked: list[tuple[Profile, Variant]] = [
        (profile, variant)
        for profile in map(load_profile, profile_names())
        for variant in profile.variants
    ]
    lines = [
        [variant.repository, *arguments(TaskInputs(profile, variant, offer, "c-1", "o", "s", {}))]
        for profile, variant in asked
    ]
    parsed = subprocess.run(
        [str(vllm / "venv" / "bin" / "python"), str(SERVE.with_name("parse.py"))],
        env={**os.environ, "VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stderr[-2000:]
    for (profile, variant), taken in zip(asked, json.loads(parsed.stdout), strict=True):
        assert taken["model_tag"] == variant.repository
        assert taken["served_model_name"] == [profile.name]
        assert taken["max_model_len"] == profile.workload.context
        assert taken["max_num_seqs"] == profile.workload.concurrency
        assert taken["tensor_parallel_size"] == 8
        assert taken["shutdown_timeout"] == profile.serving.drain_s


def wait_until(true: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.05)
