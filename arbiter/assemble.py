"""Puts the parts together, settings to loop: the only place that knows them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from arbiter import registry
from arbiter.clock import Clock
from arbiter.credentials import api_key
from arbiter.domain import Action, Place, Quote, Service
from arbiter.errors import ArbiterError, SettingsError
from arbiter.executors.base import Executor, LaunchSpec
from arbiter.health import HttpHealthCheck
from arbiter.inventory import Inventories, no_inventories
from arbiter.launchable import not_launchable
from arbiter.policy import Policy
from arbiter.profiles import Profile, load_profile
from arbiter.reconcile import Loop, Tools
from arbiter.regions import Atlas, load_atlas
from arbiter.render import TaskInputs, render_task
from arbiter.routing import Routing
from arbiter.scrape import HttpCounters
from arbiter.settings import Settings
from arbiter.sovereignty import Refused, judge, parse_level
from arbiter.staging import refuse_outside
from arbiter.store.engine import Store
from arbiter.store.quotes import read_quotes

if TYPE_CHECKING:
    from arbiter.gateway.base import Backend

FALLBACK_PROVIDER = "external-api"
"""Stands for whoever runs the API of gateway.fallback_url: nothing is known of them."""


def make_executor(settings: Settings) -> Executor:
    """The executor that the settings name."""
    if settings.executor == "local":
        from arbiter.executors.local import LocalExecutor

        return LocalExecutor(settings.data_dir / "replicas")
    if settings.executor == "skypilot":
        from arbiter.executors.skypilot import SkyPilotExecutor

        return SkyPilotExecutor()
    raise SettingsError(f"executor is {settings.executor!r}", "use skypilot or local")


def policy_of(settings: Settings, service: Service) -> Policy:
    """The policy in force for a service: the settings' own, at the service's level."""
    policy = settings.policy
    if service.sovereignty is None:
        return policy
    level = parse_level(service.sovereignty)
    return replace(policy, sovereignty=replace(policy.sovereignty, level=level))


def stored_quotes(store: Store, atlas: Atlas) -> Callable[[], Sequence[Quote]]:
    """Reads every price that stands, each time anew."""

    def read() -> Sequence[Quote]:
        with store.read() as connection:
            return read_quotes(lambda sql: connection.exec_driver_sql(sql), atlas)

    return read


def launch_spec(
    settings: Settings, action: Action, service: Service, profile: Profile, owner: str
) -> LaunchSpec:
    """The complete launch of an action: rendered task and secrets.

    Raises:
        ArbiterError: a secret that the profile needs is not set, or the template refuses a value.
    """
    if action.offer is None:
        raise ArbiterError(f"the action {action.id} names no offer")
    variants = {variant.quantization: variant for variant in profile.variants}
    variant = variants.get(action.variant, profile.variants[0])  # type: ignore[call-overload]
    refuse_outside(variant, policy_of(settings, service).sovereignty, load_atlas().place)
    inputs = TaskInputs(
        profile=profile,
        variant=variant,
        offer=action.offer,
        cluster=action.cluster,
        owner=owner,
        service=service.name,
        tags=service.tags,
    )
    return LaunchSpec(
        cluster=action.cluster,
        owner=owner,
        service=service.name,
        offer=action.offer,
        price=action.price,
        task=render_task(inputs, settings.templates_path),
        port=profile.serving.port,
        model=profile.name,
        secrets=_secrets(settings, profile),
        tags=service.tags,
    )


def _secrets(settings: Settings, profile: Profile) -> Mapping[str, str]:
    found = {"ARBITER_API_KEY": api_key(settings)}
    if settings.executor == "local":
        return found  # the stand-in on loopback loads no model, so it needs no hub
    for name in profile.serving.secrets:
        value = os.environ.get(name)
        if not value:
            raise ArbiterError(
                f"the profile {profile.name} needs the secret {name}", f"export {name}=..."
            )
        found[name] = value
    return found


def make_routing(settings: Settings) -> Routing:
    """How clients are led to replicas, by the settings. Nothing is started here."""
    if not settings.gateway.enabled:
        return Routing()
    from arbiter.gateway import binary
    from arbiter.gateway.configured import make_gateway

    try:
        binary.find()
        key = api_key(settings)
    except ArbiterError as error:
        return Routing(absent=f"{error}; until then clients ask the replicas themselves")
    return Routing(
        make_gateway(settings),
        key,
        lambda service: _standby(settings, service),
        most_held=settings.scaling.most_held,
    )


def _standby(settings: Settings, service: Service) -> Backend | None:
    """The external API, where the service's rule asks nothing of a place that nobody knows."""
    from arbiter.gateway.configured import fallback

    url = settings.gateway.fallback_url
    if url is None:
        return None
    host = urlsplit(url).hostname or ""
    rule = policy_of(settings, service).sovereignty
    if isinstance(judge(Place(FALLBACK_PROVIDER, host), rule, "standard"), Refused):
        return None
    return fallback(settings)


def _inventories(settings: Settings) -> Inventories:
    """The providers' own lists of machines, where launches go to providers."""
    if settings.executor != "skypilot":
        return no_inventories
    return lambda name: registry.load_inventory(name, settings.provider(name))


def make_loop(
    settings: Settings,
    store: Store,
    executor: Executor,
    clock: Clock,
    atlas: Atlas,
    tell: Callable[[str], None],
    routing: Routing | None = None,
) -> Loop:
    """The loop over everything above.

    Args:
        routing: the settings' own unless given.
    """
    return Loop(
        Tools(
            store=store,
            executor=executor,
            health=HttpHealthCheck(api_key(settings)),
            clock=clock,
            atlas=atlas,
            policy=lambda service: policy_of(settings, service),
            profile=lambda name: load_profile(name, settings.profiles_path),
            spec=lambda action, service, profile, owner: launch_spec(
                settings, action, service, profile, owner
            ),
            quotes=stored_quotes(store, atlas),
            not_launchable=not_launchable(settings.executor),
            tell=tell,
            routing=make_routing(settings) if routing is None else routing,
            fleet=settings.fleet,
            reaction=settings.scaling,
            counters=HttpCounters(api_key(settings)),
            inventories=_inventories(settings),
        )
    )
