"""A planned move under 64 concurrent streams through the gateway: none fails, none is cut."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from arbiter.assemble import make_routing
from arbiter.chaos.load import OK, Clients
from arbiter.chaos.worker import make_chaos_loop
from arbiter.chaos.world import KEY, MODEL, SERVICE, World
from arbiter.domain import ReplicaState, Service
from arbiter.errors import GatewayError
from arbiter.gateway import binary
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.orders import Destination
from arbiter.reconcile import Loop
from arbiter.store import fleet
from arbiter.store.engine import Store

STREAMS = 64


@pytest.fixture
def world(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    try:
        binary.find()
    except GatewayError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("ARBITER_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("m")
    made = World(folder, port, tokens_per_second=15.0, restless=False, drain_s=20)
    yield made
    EnvoyGateway(made.settings.gateway_dir, tuple, port=port).stop()
    executor = made.executor()
    for cluster in executor.standing():
        executor.reclaim(cluster)
        executor.terminate(cluster)


class Ticking:
    """Ticks the loop until something holds."""

    def __init__(self, world: World, store: Store) -> None:
        self.loop: Loop = make_chaos_loop(
            world, store, world.folder / "log", make_routing(world.settings)
        )
        self._world, self._store = world, store

    def states(self) -> dict[str, ReplicaState]:
        with self._store.read() as connection:
            found = fleet.replicas(connection, self._world.atlas, SERVICE)
        return {one.cluster: one.state for one in found}

    def until(self, wanted: int, without: frozenset[str] = frozenset()) -> None:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            self.loop.tick()
            states = self.states()
            healthy = [one for one, state in states.items() if state is ReplicaState.HEALTHY]
            if len(healthy) == wanted == len(states) and not without & set(states):
                return
            time.sleep(0.1)
        raise AssertionError(
            f"not in time: {self.states()}\n{(self._world.folder / 'log').read_text()}"
        )


def test_a_move_under_streams_loses_nothing(world: World) -> None:
    store = Store(world.settings.database_url)
    with store.begin() as connection:
        fleet.add_service(connection, Service(SERVICE, MODEL, 1), datetime.now(UTC))
    ticking = Ticking(world, store)
    # 3 s each: longer than a server that is ended has left.
    clients = Clients(world.port, STREAMS, tokens=45)
    ticking.until(1)
    (old,) = ticking.states()
    clients.start()
    time.sleep(1.0)
    ticking.loop.move(SERVICE, Destination("azure"), write=True)
    ticking.until(1, without=frozenset({old}))
    time.sleep(1.0)
    outcomes = clients.stop()
    store.close()
    lost = [one for one in outcomes if one.what != OK]
    assert not lost, lost[:5]
    assert len(outcomes) >= 2 * STREAMS
    assert threading.active_count() < STREAMS
