"""What a run stands on: a folder, a market, and conditions that the conductor changes.

The conditions are a file that the worker reads at every use: it may be killed at any instant, and
whoever comes after it must find the same world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from arbiter.clock import SystemClock
from arbiter.domain import Action, Offer, Purchase, Quote, Service
from arbiter.executors.base import LaunchSpec
from arbiter.executors.local import LocalExecutor, demo_server
from arbiter.money import Price
from arbiter.policy import Policy
from arbiter.profiles import Profile, load_profile
from arbiter.regions import Atlas, load_atlas
from arbiter.settings import FleetSettings, GatewaySettings, Settings
from arbiter.sovereignty import Rule, Selection
from arbiter.typed import decode

SERVICE = "chat"
MODEL = "tiny"
KEY = "a-key-of-the-chaos-run"
REPLICAS = 2
TICK_S = 0.1
WATCH_S = 0.25

DRAIN_S = 3
KILL_S = 1.0
NOTICE_S = 4.0
LEAVE_S = 2.0
"""So long before its end a machine under notice gets no more requests: what lasts longer is cut."""

PLACES = (  # provider, region, zone, USD an hour on spot
    ("aws", "eu-north-1", "eun1-az1", "0.30"),
    ("aws", "eu-west-1", "euw1-az1", "0.34"),
    ("aws", "eu-central-1", "euc1-az1", "0.40"),
    ("azure", "swedencentral", None, "0.36"),
    ("aws", "eu-west-2", "euw2-az1", "0.05"),  # London: the cheapest, and never allowed
)
ON_DEMAND = ("aws", "eu-north-1", None, "0.90")
REGIONS = tuple(place[1] for place in PLACES[:4])
FORBIDDEN = ("eu-west-2", "euw2-az1")

NODES = {"aws": "g6.xlarge", "azure": "Standard_NV18ads_A10_v5"}
GPUS = {"aws": "L4", "azure": "A10"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the conductor has arranged.

    Attributes:
        dear: regions whose spot prices are ten times the usual.
        stale: providers whose prices have not been seen for long.
        denied: regions that the rule refuses.
        clock_s: seconds by which the worker's clock is off.
        cut: the database answers nothing.
    """

    dear: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    clock_s: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """The folder of a run, and everything that is found in it.

    Attributes:
        port: of the gateway.
        tokens_per_second: of one answer of a server.
        drain_s: for so long a drained replica may go on answering.
        restless: machines are moved for small savings and after a second, spares are kept, and
            launches have to be quick.
        tick_s, watch_s: between two ticks, and two looks between them, of the worker.
        leave_s: so long before its end a machine under notice is given no more requests.
    """

    folder: Path
    port: int
    tokens_per_second: float = 60.0
    restless: bool = True
    drain_s: int = DRAIN_S
    tick_s: float = TICK_S
    watch_s: float = WATCH_S
    leave_s: float = LEAVE_S
    atlas: Atlas = field(default_factory=load_atlas)

    @property
    def settings(self) -> Settings:
        """The settings of the worker."""
        return Settings(
            database_url=f"sqlite:///{self.folder / 'arbiter.db'}",
            data_dir=self.folder,
            executor="local",
            gateway=GatewaySettings(
                port=self.port, state_dir=self.folder / "gateway", workers=1, drain_s=DRAIN_S
            ),
            fleet=FleetSettings(
                launch_deadline_s=2.0 if self.restless else 60.0,
                hedge_after_s=0.7 if self.restless else 60.0,
                end_orphans=True,
                leave_s=self.leave_s,
            ),
            simulated=True,
        )

    def conditions(self) -> Conditions:
        """What is arranged now."""
        try:
            return decode(self._file.read_bytes(), Conditions)
        except FileNotFoundError:
            return Conditions()

    def arrange(self, conditions: Conditions) -> None:
        """Replace the conditions, whole."""
        draft = self._file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(conditions))
        draft.replace(self._file)

    def executor(self) -> LocalExecutor:
        """The machines."""
        command = demo_server(shutdown_timeout_s=KILL_S, tokens_per_second=self.tokens_per_second)
        return LocalExecutor(self.folder / "machines", command=command, drain_s=KILL_S + 1)

    def policy(self) -> Policy:
        """A policy whose patience is that of a few seconds' run."""
        return Policy(
            name="chaos",
            sovereignty=Rule(deny=Selection(regions=self.conditions().denied)),
            max_quote_age_s=5,
            min_saving=Decimal("0.15"),
            min_stay_s=1 if self.restless else 3600,
            max_moves_per_day=10_000,
            fallback_window_s=3,
            refusal_s=1,
            refusal_max_s=2,
            max_spares=1 if self.restless else 0,
            cold_start_s=1,
            unhealthy_s=1,
        )

    def profile(self) -> Profile:
        """The model that is served, with deadlines of seconds."""
        found = load_profile(MODEL)
        return replace(found, serving=replace(found.serving, drain_s=self.drain_s, start_s=30))

    def quotes(self) -> Sequence[Quote]:
        """The market under the conditions."""
        arranged, now = self.conditions(), OffClock(self).now()
        old = now - timedelta(seconds=60)
        found = []
        for provider, region, zone, usd in PLACES:
            factor = 10 if region in arranged.dear else 1
            found.append(
                (self._offer(provider, region, zone, Purchase.SPOT), Price.of(usd).times(factor))
            )
        provider, region, zone, usd = ON_DEMAND
        found.append((self._offer(provider, region, zone, Purchase.ON_DEMAND), Price.of(usd)))
        return [
            Quote(offer, price, old if offer.provider in arranged.stale else now, None, "chaos")
            for offer, price in found
        ]

    def spec(self, action: Action, service: Service, profile: Profile, owner: str) -> LaunchSpec:
        """The launch of an action: a server of the demo."""
        assert action.offer is not None
        return LaunchSpec(
            cluster=action.cluster,
            owner=owner,
            service=service.name,
            offer=action.offer,
            price=action.price,
            task="name: chaos",
            port=0,
            model=profile.name,
            secrets={"ARBITER_API_KEY": KEY},
        )

    @property
    def _file(self) -> Path:
        return self.folder / "conditions.json"

    def _offer(self, provider: str, region: str, zone: str | None, purchase: Purchase) -> Offer:
        place = self.atlas.place(provider, region)
        node, gpu = NODES[provider], GPUS[provider]
        return Offer(provider, "standard", region, zone, node, gpu, 1, purchase, place)


class OffClock(SystemClock):
    """The machine's clock, off by what is arranged."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        """The instant that the worker takes for the present."""
        return datetime.now(UTC) + timedelta(seconds=self._world.conditions().clock_s)
