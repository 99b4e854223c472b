"""What `launch` and `down` share: a session that acts, or waits for the daemon that does.

One arbiter acts on a database at a time. Where a daemon holds the lease, the order is only written
down, and the command watches the daemon carry it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import click

from arbiter import registry
from arbiter.assemble import launch_spec, make_executor, make_loop, make_routing
from arbiter.clock import Clock, SystemClock
from arbiter.domain import MAKES, Action, Plan, Replica, ReplicaState, Service
from arbiter.errors import ArbiterError
from arbiter.explain import plan_json, plan_lines
from arbiter.ingest import poll_providers
from arbiter.lease import Lease
from arbiter.profiles import load_profile
from arbiter.reconcile import Loop
from arbiter.regions import Atlas, load_atlas
from arbiter.routing import Routing
from arbiter.scaling import Scaling
from arbiter.settings import Settings
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from arbiter.store.prices import last_polls

PAUSE_S = 1.0
"""Seconds between two ticks of a command that waits."""


RETRY_S = 20.0
"""Seconds after which a provider that failed is asked again."""


@dataclass
class Session:
    """An open store with the loop over it."""

    settings: Settings
    store: Store
    atlas: Atlas
    loop: Loop
    lease: Lease
    clock: Clock
    routing: Routing = field(default_factory=Routing)
    last_event: int = 0

    def add(self, service: Service) -> None:
        """Write a service down, and forget what was told before it."""
        with self.store.begin() as connection:
            fleet.add_service(connection, service, self.clock.now())
            before = journal.events(connection, limit=1)
        self.last_event = before[-1].id if before else 0

    def rehearse(self, service: Service) -> Plan:
        """The first plan of a service, with every launch in it made ready and none made.

        Raises:
            ArbiterError: a secret is not set, or the template refuses a value.
        """
        self.freshen()
        with self.store.read() as connection:
            known = fleet.find_service(connection, service.name)
        if known is not None:
            service = replace(service, generation=known.generation)
        plan = self.loop.preview(service)
        profile = load_profile(service.profile, self.settings.profiles_path)
        for action in plan.actions:
            if action.kind in MAKES:
                launch_spec(self.settings, action, service, profile, self.loop.owner)
        return plan

    def order(self, name: str, *, down: bool) -> None:
        """Write an order down."""
        with self.store.begin() as connection:
            fleet.order(connection, name, down=down)

    def scale(self, name: str, replicas: int, scaling: Scaling | None) -> None:
        """Write down how many replicas there should be, and what changes that."""
        now = self.clock.now()
        with self.store.begin() as connection:
            before = fleet.get_service(connection, name)
            after = fleet.scale(connection, name, replicas, scaling, now)
            if (before.replicas, before.scaling) == (after.replicas, after.scaling):
                return
            follows = str(scaling) if scaling else f"{replicas} replicas"
            sentence = f"{name} was ordered to be {follows}"
            journal.add_event(connection, now, "scaling_ordered", sentence, service=name)
        _tell(sentence)

    def step(self, name: str) -> list[Plan]:
        """One tick for the service, unless a daemon holds the lease and does it itself.

        The lease is given back after each: a daemon that is started meanwhile takes over.
        """
        if not self.lease.acquire():
            return []
        try:
            self.freshen()
            return self.loop.tick([name])
        finally:
            self.lease.release()

    def freshen(self) -> None:
        """Poll the providers whose prices are older than their interval."""
        now = self.clock.now()
        with self.store.read() as connection:
            polled = {row.provider: row for row in last_polls(connection)}

        def is_due(name: str) -> bool:
            source, last = self.settings.provider(name), polled.get(name)
            if last is None or not source.enabled:
                return source.enabled
            wait = RETRY_S if last.state == "failed" else source.interval_s
            return (now - last.finished_at).total_seconds() > wait

        due = [name for name in registry.names() if is_due(name)]
        for row in poll_providers(due, self.settings, self.store, self.clock, {}):
            _tell(f"asked {row.provider} for prices: {row.offers} offers{row.aside}")

    def replicas(self, name: str) -> list[Replica]:
        """The service's replicas that are not settled."""
        with self.store.read() as connection:
            return fleet.replicas(connection, self.atlas, name)

    def ordered(self, name: str) -> Service:
        """The service as ordered now."""
        with self.store.read() as connection:
            return fleet.get_service(connection, name)


@contextmanager
def session(settings: Settings, clock: Clock | None = None) -> Iterator[Session]:
    """A session; its connections are given back at the end."""
    clock = clock or SystemClock()
    store = Store(settings.database_url)
    try:
        atlas = load_atlas()
        executor = make_executor(settings)
        routing = make_routing(settings)
        loop = make_loop(settings, store, executor, clock, atlas, _tell, routing)
        yield Session(settings, store, atlas, loop, Lease(store, clock), clock, routing)
    finally:
        store.close()


def show_plan(plan: Plan, *, as_json: bool) -> int:
    """Print what a tick would decide; 0 nothing to do, 2 changes, 1 no eligible offer."""
    if as_json:
        click.echo(plan_json(plan))
    else:
        for line in plan_lines(plan):
            click.echo(line)
    if finds_nothing(plan):
        return 1
    return 2 if plan.actions else 0


def finds_nothing(plan: Plan) -> bool:
    """Whether no offer is eligible."""
    return not plan.actions and not plan.candidates


def show_rehearsed(session: Session, service: Service, plan: Plan, *, as_json: bool) -> int:
    """`show_plan`, and where all offers are refused each single step that would let one in."""
    status = show_plan(plan, as_json=as_json)
    if finds_nothing(plan) and plan.refused_by_rule:
        _tell_what_to_relax(session, service)
    return status


def _tell_what_to_relax(session: Session, service: Service) -> None:
    found = session.loop.relaxations(service)
    for one in found:
        _tell(f"to relax: {one}")
    if not found:
        hint = f"arbiter offers {service.profile} --refused"
        _tell(f"no single rule stands alone in the way of an offer; see: {hint}")


def wait_until_up(session: Session, name: str, *, wait: bool, as_json: bool) -> int:
    """Tick until all replicas answer; 0 then, 1 when nothing eligible is found.

    Raises:
        ArbiterError: it was ordered down meanwhile.
    """

    def finished() -> int | None:
        service = session.ordered(name)
        if service.down:
            again = f"arbiter launch {service.profile} --name {name}"
            raise ArbiterError(f"{name} was ordered down meanwhile", f"to launch it again: {again}")
        wanted = service.replicas
        replicas = session.replicas(name)
        serving = [one for one in replicas if one.state is ReplicaState.HEALTHY]
        if len(serving) >= wanted:
            return 0
        if not wait and len([one for one in replicas if one.state.alive]) >= wanted:
            return 0
        return None

    status = _run(session, name, finished, give_up_without_offers=True)
    _report(session, name, as_json=as_json)
    return status


def wait_until_gone(session: Session, name: str, *, wait: bool, as_json: bool) -> int:
    """Tick until no replica is left; 0 then.

    Raises:
        ArbiterError: it was launched again meanwhile.
    """

    def finished() -> int | None:
        if not session.ordered(name).down:
            raise ArbiterError(f"{name} was launched again meanwhile", f"arbiter status {name}")
        return 0 if not wait or not session.replicas(name) else None

    status = _run(session, name, finished, give_up_without_offers=False)
    _report(session, name, as_json=as_json)
    return status


def wait_until_moved(session: Session, launch: Action, *, wait: bool, as_json: bool) -> int:
    """Tick until the newcomer answers and what it replaces is gone; 1 if it was not launched."""

    def finished() -> int | None:
        if not wait:
            return 0
        replicas = {one.cluster: one for one in session.replicas(launch.service)}
        newcomer = replicas.get(launch.cluster)
        if newcomer is None or not newcomer.state.alive:
            return 1
        gone = launch.replaces not in replicas
        return 0 if gone and newcomer.state is ReplicaState.HEALTHY else None

    status = _run(session, launch.service, finished, give_up_without_offers=False)
    _report(session, launch.service, as_json=as_json)
    return status


def _run(
    session: Session,
    name: str,
    finished: Callable[[], int | None],
    *,
    give_up_without_offers: bool,
) -> int:
    started = time.monotonic()
    told = ""
    while True:
        plans = session.step(name)
        status = finished()
        if status is not None:
            return status
        replicas = session.replicas(name)
        nothing_runs = not any(one.state.alive for one in replicas)
        no_offer = any(not plan.candidates for plan in plans)
        if give_up_without_offers and nothing_runs and no_offer:
            return 1
        note = _progress(replicas)
        if note and note != told:
            click.echo(f"[{time.monotonic() - started:4.0f} s] {note}", err=True)
            told = note
        time.sleep(PAUSE_S)


def _progress(replicas: list[Replica]) -> str:
    parts = [
        f"{one.offer.where} {one.state.value}{f' ({one.note})' if one.note else ''}"
        for one in replicas
    ]
    return ", ".join(parts)


def _report(session: Session, name: str, *, as_json: bool) -> None:
    replicas = session.replicas(name)
    down = session.ordered(name).down
    endpoint = None if down else session.routing.endpoint(name)
    if as_json:
        from arbiter.explain import dump, replica_dict

        rows = [replica_dict(one) for one in replicas]
        click.echo(dump({"service": name, "endpoint": endpoint, "replicas": rows}))
        return
    if endpoint is not None and replicas:
        click.echo(f"{name}  {endpoint}")
    for trouble in session.routing.troubles:
        click.echo(f"the gateway: {trouble}", err=True)
    for one in replicas:
        price = f" at {one.price} an hour" if one.price else ""
        where = one.endpoint or "no endpoint yet"
        click.echo(f"{one.cluster}  {one.state.value}  {one.offer.where}{price}  {where}")
    if not replicas:
        click.echo(f"{name}: no replica runs")


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)
