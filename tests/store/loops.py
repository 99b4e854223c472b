"""A loop over a real store, with a fake executor and a health check that is told what to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from arbiter.counters import Counters
from arbiter.domain import Action, Purchase, Quote, Service
from arbiter.executors.base import Executor, LaunchSpec, Notice
from arbiter.executors.fake import FakeExecutor
from arbiter.gateway.fake import FakeGateway
from arbiter.health import SILENCE, Health, Probe
from arbiter.inventory import Inventories, no_inventories
from arbiter.money import Price
from arbiter.policy import Policy
from arbiter.profiles import Profile, load_profile
from arbiter.reconcile import Loop, Tools
from arbiter.regions import load_atlas
from arbiter.routing import Routing
from arbiter.settings import FleetSettings
from arbiter.store import fleet
from arbiter.store.engine import Store
from arbiter.testing import FakeClock

ATLAS = load_atlas()


class ToldHealth:
    """Everything serves, except what is named in `sick`."""

    def __init__(self) -> None:
        self.sick: dict[str, str] = {}
        self.notices: dict[str, Notice] = {}
        self.asked: list[dict[str, Probe]] = []

    def check(self, probes: Mapping[str, Probe]) -> Mapping[str, Health]:
        self.asked.append(dict(probes))
        return {
            cluster: Health(
                False, self.sick[cluster], answers=not self.sick[cluster].startswith(SILENCE)
            )
            if cluster in self.sick
            else Health(True, notice=self.notices.get(cluster))
            for cluster in probes
        }


class ToldCounters:
    """Servers tell what they are told to; one of which nothing is told does not tell."""

    def __init__(self) -> None:
        self.tells: dict[str, Counters] = {}
        self.asked: list[dict[str, str]] = []

    def read(self, endpoints: Mapping[str, str], now: datetime) -> Mapping[str, Counters]:
        self.asked.append(dict(endpoints))
        told = {one: self.tells[one] for one in endpoints if one in self.tells}
        return {cluster: replace(counters, at=now) for cluster, counters in told.items()}


def standing_offer(region: str, zone: str | None, purchase: Purchase):  # type: ignore[no-untyped-def]
    from arbiter.domain import Offer

    return Offer(
        "aws", "standard", region, zone, "g6.xlarge", "L4", 1, purchase, ATLAS.place("aws", region)
    )


@dataclass
class Bench:
    """One service's world: prices, machines, servers and the clock, all in the test's hands."""

    store: Store
    executor: Executor = field(default_factory=lambda: FakeExecutor(immediate=True))
    health: ToldHealth = field(default_factory=ToldHealth)
    counters: ToldCounters = field(default_factory=ToldCounters)
    clock: FakeClock = field(default_factory=lambda: FakeClock(datetime(2026, 11, 1, tzinfo=UTC)))
    policy: Policy = field(default_factory=Policy)
    prices: dict[tuple[str, str | None, Purchase], str] = field(
        default_factory=lambda: {
            ("eu-north-1", "eun1-az1", Purchase.SPOT): "0.30",
            ("eu-west-1", "euw1-az1", Purchase.SPOT): "0.40",
            ("eu-west-2", "euw2-az1", Purchase.SPOT): "0.10",
            ("eu-north-1", None, Purchase.ON_DEMAND): "0.90",
        }
    )
    told: list[str] = field(default_factory=list)
    gateway: FakeGateway | None = None
    fleet: FleetSettings = field(default_factory=FleetSettings)
    inventories: Inventories = no_inventories

    def __post_init__(self) -> None:
        self.loop = Loop(
            Tools(
                store=self.store,
                executor=self.executor,
                health=self.health,
                clock=self.clock,
                atlas=ATLAS,
                policy=lambda _service: self.policy,
                profile=lambda name: _quick(load_profile(name)),
                spec=_spec,
                quotes=self.quotes,
                not_launchable={},
                tell=self.told.append,
                routing=Routing(self.gateway, "k"),
                fleet=self.fleet,
                counters=self.counters,
                inventories=self.inventories,
                monotonic=lambda: self.clock.now().timestamp(),
            )
        )

    def quotes(self) -> Sequence[Quote]:
        now = self.clock.now()
        return [
            Quote(standing_offer(*where), Price.of(price), now, None, "test")
            for where, price in self.prices.items()
        ]

    def order(self, replicas: int = 1, **changes: object) -> None:
        with self.store.begin() as connection:
            new = Service("chat", "tiny", replicas, **changes)  # type: ignore[arg-type]
            fleet.add_service(connection, new, self.clock.now())

    def tick(self, times: int = 1, seconds: float = 10) -> None:
        for _ in range(times):
            self.loop.tick()
            self.clock.advance(seconds)

    def replicas(self, *, settled: bool = False):  # type: ignore[no-untyped-def]
        with self.store.begin() as connection:
            return fleet.replicas(connection, ATLAS, "chat", settled=settled)


def _quick(profile: Profile) -> Profile:
    return replace(profile, serving=replace(profile.serving, drain_s=20, start_s=600))


def _spec(action: Action, service: Service, profile: Profile, owner: str) -> LaunchSpec:
    assert action.offer is not None
    return LaunchSpec(
        cluster=action.cluster,
        owner=owner,
        service=service.name,
        offer=action.offer,
        price=action.price,
        task="name: test",
        port=0,
        model=profile.name,
        secrets={"ARBITER_API_KEY": "k"},
    )
