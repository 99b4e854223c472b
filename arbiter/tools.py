"""What a tick works with: the world, behind protocols, and the rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from arbiter.clock import Clock
from arbiter.counters import NoCounters, ReadsCounters
from arbiter.domain import Action, Quote, Service
from arbiter.executors.base import Executor, LaunchSpec
from arbiter.health import HealthCheck
from arbiter.inventory import Inventories, no_inventories
from arbiter.policy import Policy
from arbiter.profiles import Profile
from arbiter.regions import Atlas
from arbiter.routing import Routing
from arbiter.scaling import Reaction
from arbiter.settings import FleetSettings
from arbiter.store.engine import Store

Quotes = Callable[[], Sequence[Quote]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a tick works with.

    Attributes:
        policy: of a service: the settings' policy with the service's own level.
        profile: by name; raises ProfileError.
        spec: the complete launch of an action: rendered task, secrets, tags.
        quotes: every price that stands.
        not_launchable: provider -> why nothing is launched there.
        tell: gets every sentence that is journaled.
        routing: how clients are led to replicas.
        fleet: deadlines, and what may be ended.
        reaction: how soon the number of replicas follows the load.
        counters: reads what servers say of their load.
        inventories: the providers' own lists of machines.
        monotonic: seconds on a clock that nobody sets, for patience with what is going on.
    """

    store: Store
    executor: Executor
    health: HealthCheck
    clock: Clock
    atlas: Atlas
    policy: Callable[[Service], Policy]
    profile: Callable[[str], Profile]
    spec: Callable[[Action, Service, Profile, str], LaunchSpec]
    quotes: Quotes
    not_launchable: Mapping[str, str]
    tell: Tell
    routing: Routing = field(default_factory=Routing)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    reaction: Reaction = field(default_factory=Reaction)
    counters: ReadsCounters = field(default_factory=NoCounters)
    inventories: Inventories = no_inventories
    monotonic: Callable[[], float] = time.monotonic
