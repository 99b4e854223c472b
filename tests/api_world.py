"""A small arbiter with a past, for the tests of what is said over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import httpx
from fastapi import FastAPI
from ready_database import ready_sqlite

from arbiter.api.app import create_app
from arbiter.api.metrics import Metrics
from arbiter.api.sources import Parts, Sources
from arbiter.assemble import policy_of, stored_quotes
from arbiter.domain import Action, Purchase, Service
from arbiter.executors.base import LaunchSpec
from arbiter.executors.fake import FakeExecutor
from arbiter.health import Health, Probe
from arbiter.ingest import poll_provider
from arbiter.profiles import Profile, load_profile
from arbiter.pulse import Pulse
from arbiter.reconcile import Loop, Tools
from arbiter.regions import load_atlas
from arbiter.settings import Settings
from arbiter.store import fleet
from arbiter.store.engine import Store
from arbiter.store.prices import PriceBook
from arbiter.testing import FakeClock, FakeProvider, priced

SERVICE = "llama8b"


class Serving:
    """A health check that believes everything but what it is told not to."""

    def __init__(self) -> None:
        self.silent: set[str] = set()

    def check(self, probes: Mapping[str, Probe]) -> Mapping[str, Health]:
        return {
            cluster: Health(cluster not in self.silent, "no answer (simulated)")
            for cluster in probes
        }


class Client:
    """Asks the application in this process, without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers)

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            base = "http://127.0.0.1:8400"
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return await client.request(method, path, headers=headers)

        return anyio.run(ask)


@dataclass
class World:
    """The parts, to change things and see what is answered."""

    store: Store
    clock: FakeClock
    pulse: Pulse
    executor: FakeExecutor
    provider: FakeProvider
    loop: Loop
    sources: Sources
    metrics: Metrics
    client: Client
    health: Serving

    def poll(self) -> None:
        row = poll_provider(
            self.provider, self.store, PriceBook(self.provider.name), self.clock, lambda _: None
        )
        self.metrics.polled(row)

    def launch(self, replicas: int = 1) -> None:
        with self.store.begin() as connection:
            fleet.add_service(connection, Service(SERVICE, SERVICE, replicas), self.clock.now())
        for _ in range(3):
            self.tick()

    def tick(self) -> None:
        self.pulse.started("tick", self.clock.now())
        self.loop.tick()
        self.pulse.ended("tick", self.clock.now())
        self.clock.advance(5)


def make_world(folder: Path, *, simulated: bool = False, names: tuple[str, ...] = ()) -> World:
    store, clock, pulse = Store(ready_sqlite(folder / "arbiter.db")), FakeClock(), Pulse()
    settings = Settings(data_dir=folder, executor="local", simulated=simulated)
    atlas, executor = load_atlas(), FakeExecutor(immediate=True)
    policy, profile = partial(policy_of, settings), load_profile
    quotes, health = stored_quotes(store, atlas), Serving()
    loop = Loop(
        Tools(
            store=store,
            executor=executor,
            health=health,
            clock=clock,
            atlas=atlas,
            policy=policy,
            profile=profile,
            spec=_spec,
            quotes=quotes,
            not_launchable={},
            tell=lambda _: None,
        )
    )
    sources = Sources(
        Parts(
            store=store,
            atlas=atlas,
            clock=clock,
            pulse=pulse,
            quotes=quotes,
            policy=policy,
            profile=profile,
            preview=loop.preview,
            not_launchable={},
            tick_s=10,
            simulated=simulated,
        ),
        fresh_s=0,
    )
    pulse.known("tick", clock.now())
    metrics = Metrics(sources)
    client = Client(create_app(sources, metrics, names))
    provider = FakeProvider("aws", MARKET)
    return World(store, clock, pulse, executor, provider, loop, sources, metrics, client, health)


MARKET = (
    priced("eu-north-1", "0.30", zone="eun1-az1"),
    priced("eu-north-1", "0.85", purchase=Purchase.ON_DEMAND),
    priced("eu-central-1", "0.44", zone="euc1-az2"),
    priced("eu-west-2", "0.10", zone="euw2-az2"),  # London: cheaper, and refused
)


def _spec(action: Action, service: Service, profile: Profile, owner: str) -> LaunchSpec:
    assert action.offer is not None
    return LaunchSpec(
        cluster=action.cluster,
        owner=owner,
        service=service.name,
        offer=action.offer,
        price=action.price,
        task="",
        port=8000,
        model=profile.name,
    )
