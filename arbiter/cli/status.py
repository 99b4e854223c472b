"""`arbiter status`: what runs, what it costs, and how well the price sources are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from arbiter.cli.context import SIMULATED, app_of, complete_service, print_json, why
from arbiter.cli.table import echo_table

if TYPE_CHECKING:
    from collections import Counter
    from decimal import Decimal

    from arbiter.cli.app import App
    from arbiter.cold_starts import ColdStart, ColdStarts, Progress
    from arbiter.domain import Replica, Service
    from arbiter.routing import Routing
    from arbiter.scaling import Load, Scaling
    from arbiter.served import Served
    from arbiter.store.prices import PollRow
    from arbiter.store.turns import Turn

SERVICES = (
    "SERVICE", "MODEL", "STATE", ">HEALTHY", "SOVEREIGNTY", ">USD/H",
    ">TOK/S", ">RUNNING", ">WAITING", ">USD/MTOK",
)  # fmt: skip
REPLICAS = ("REPLICA", "STATE", "WHERE", "COUNTRY", "MACHINE", ">USD/H", ">AGE", "ENDPOINT", "NOTE")
COLD_STARTS = ("MODEL", "WHERE", "BOUGHT", ">MACHINE", ">SERVER", ">COLD START", ">LAUNCHES")
POLLS = ("PROVIDER", "STATE", ">POLLED", ">NEXT", ">OFFERS", ">HELD", "NOTES")


@click.command(
    short_help="Services, replicas, what they cost, and how fresh the prices are.",
    epilog="\b\nExamples:\n"
    "  arbiter status\n"
    "  arbiter status chat\n"
    "  arbiter status --json | jq .total_usd_hour",
)
@click.argument("service", required=False, shell_complete=complete_service)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, service: str | None, as_json: bool) -> None:
    """Services with their replicas, what they cost, and the last poll of every provider."""
    app = app_of(ctx)
    seen = _read(app, service)
    if as_json:
        print_json(seen.as_dict())
    else:
        seen.show()


class _Status:
    """What the database says of the services and of the providers."""

    def __init__(
        self,
        now: datetime,
        services: Sequence[tuple[Service, str, Sequence[Replica], str | None]],
        polls: Sequence[PollRow],
        turns: Mapping[str, Turn],
        held: Counter[str],
        standing: Counter[str],
        simulated: bool,
        routing: Routing,
        cold: ColdStarts,
        starts: ColdStarts,
        loads: Mapping[str, Load],
        served: Mapping[str, Served],
    ) -> None:
        self._served = served
        self._cold, self._starts = cold, starts
        self._loads = loads
        self._routing = routing
        self._health = routing.health()
        self._now = now
        self._services = services
        self._polls = polls
        self._turns = turns
        self._held = held
        self._standing = standing
        self._simulated = simulated

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Prices are per hour, in USD."""
        from arbiter.explain import poll_dict, service_dict, turn_dict, usd_per_hour

        everything = [one for _, _, replicas, _ in self._services for one in replicas]
        marked = {"simulated": True} if self._simulated else {}
        return {
            "as_of": self._now,
            **marked,
            "total_usd_hour": usd_per_hour(everything),
            "gateway": self._gateway(),
            "services": [
                service_dict(
                    *one,
                    self._routing.endpoint(one[0].name),
                    {each.cluster: self._progress(each, one[0]) for each in one[2]},
                    self._requests(one[0].name),
                    self._served.get(one[0].name),
                )
                for one in self._services
            ],
            "cold_starts": [_cold_start_dict(one) for one in self._measured()],
            "providers": [
                poll_dict(row)
                | turn_dict(
                    self._turns.get(row.provider),
                    self._held[row.provider],
                    self._standing[row.provider],
                )
                for row in self._polls
            ],
        }

    def show(self) -> None:
        """For people."""
        from arbiter.explain import is_parked, usd_per_hour

        if self._simulated:
            click.echo(SIMULATED)
        if not self._services:
            click.echo("no services; begin with: arbiter launch MODEL")
        else:
            echo_table(SERVICES, [self._service(*one) for one in self._services])
            click.echo()
            for service, *_ in self._services:
                endpoint = self._routing.endpoint(service.name)
                if endpoint is not None and not service.down:
                    click.echo(f"endpoint: {endpoint}")
            for service, *_ in self._services:
                if service.scaling is not None and not service.down:
                    click.echo(self._scaling(service, service.scaling))
            for service, _, _, sentence in self._services:
                click.echo(f"last decision: {sentence or f'{service.name}: none yet'}")
        replicas = [(one, service) for service, _, rows, _ in self._services for one in rows]
        if replicas:
            click.echo()
            echo_table(REPLICAS, [self._replica(*one) for one in replicas])
        if self._measured():
            click.echo()
            echo_table(COLD_STARTS, [_cold_start(one) for one in self._measured()])
        if self._polls:
            click.echo()
            echo_table(POLLS, [self._poll(row) for row in self._polls])
        else:
            click.echo("no provider was polled yet; run: arbiter poll")
        wrong = self._gateway()["error"]
        if wrong is not None and self._services:
            click.echo(f"\nthe gateway: {wrong}")
        click.echo(
            f"\n{_dollars(usd_per_hour([one for one, _ in replicas]))} USD an hour for all replicas"
            f"{_disks(sum(is_parked(one) for one, _ in replicas))}"
        )

    def _requests(self, name: str) -> int | None:
        load = self._loads.get(name)
        return None if load is None else load.requests

    def _gateway(self) -> dict[str, Any]:
        """Whether clients are led by the gateway, and what is wrong with it."""
        if self._health is None:
            absent = self._routing.absent or None
            return {"enabled": absent is not None, "running": False, "error": absent}
        return {"enabled": True, "running": self._health.running, "error": self._health.error}

    def _scaling(self, service: Service, scaling: Scaling) -> str:

        load = self._loads.get(service.name)
        now = "" if load is None else f"; {load.requests} in flight"
        return f"scaling: {service.name}: {scaling}{now}"

    def _service(
        self, service: Service, level: str, replicas: Sequence[Replica], _sentence: str | None
    ) -> tuple[str, ...]:
        from arbiter.explain import healthy, service_state, usd_per_hour

        return (
            service.name,
            service.profile,
            service_state(service, replicas),
            f"{healthy(replicas)}/{service.replicas}",
            level,
            _dollars(usd_per_hour(replicas)),
            *_figures(self._served.get(service.name)),
        )

    def _measured(self) -> list[ColdStart]:
        """Cold starts of the models that are served."""
        served = {service.profile for service, *_ in self._services}
        return [one for one in self._cold.measured if one.profile in served]

    def _progress(self, replica: Replica, service: Service) -> Progress | None:
        from arbiter.cold_starts import progress

        return progress(replica, service.profile, self._cold, self._starts, self._now)

    def _replica(self, replica: Replica, service: Service) -> tuple[str, ...]:
        from arbiter.explain import is_parked, where
        from arbiter.offer_shapes import age, machine, usd

        return (
            replica.cluster,
            replica.state.value,
            where(replica),
            replica.place.country or "?",
            machine(replica.offer),
            _dollars(None if is_parked(replica) else usd(replica.price)),
            age(self._now, replica.changed_at if is_parked(replica) else replica.launched_at),
            replica.endpoint or "-",
            "; ".join(
                str(part) for part in (self._progress(replica, service), replica.note) if part
            ),
        )

    def _poll(self, row: PollRow) -> tuple[str, ...]:
        from arbiter.offer_shapes import age

        return (
            row.provider,
            row.state,
            age(self._now, row.finished_at),
            self._next(row.provider),
            str(self._standing[row.provider]),
            str(self._held[row.provider] or "-"),
            why(row),
        )

    def _next(self, provider: str) -> str:
        """In how long the daemon polls it again, or how far the poll that goes on has come."""
        from arbiter.offer_shapes import age

        turn = self._turns.get(provider)
        if turn is None:
            return "-"
        if turn.polling_since is not None:
            return f"now ({turn.note})" if turn.note else "now"
        if turn.next_at is None or turn.next_at <= self._now:
            return "due"
        return f"in {age(turn.next_at, self._now)}"


def _read(app: App, name: str | None) -> _Status:
    from arbiter.assemble import make_routing
    from arbiter.store import fleet, journal
    from arbiter.store.cold_starts import cold_starts
    from arbiter.store.counts import standing_prices
    from arbiter.store.prices import last_polls
    from arbiter.store.quarantine import held_back
    from arbiter.store.scaling import newest_loads
    from arbiter.store.served_now import served_now
    from arbiter.store.turns import turns

    store = app.open_store()
    policy = app.settings.policy.sovereignty.level.value
    try:
        with store.begin() as connection:
            if name is None:
                services = fleet.services(connection)
            else:
                services = [fleet.get_service(connection, name)]
            found = [
                (
                    one,
                    one.sovereignty or policy,
                    fleet.replicas(connection, app.atlas, one.name),
                    journal.last_sentence(connection, one.name),
                )
                for one in services
            ]
            polls = last_polls(connection)
            known, held = turns(connection), held_back(connection)
            standing = standing_prices(connection)
            cold = cold_starts(connection, app.now())
            starts = cold_starts(connection, app.now(), started=True)
            loads = newest_loads(connection, app.now())
            served = served_now(connection, app.now())
    finally:
        store.close()
    simulated, routing = app.settings.simulated, make_routing(app.settings)
    return _Status(
        app.now(), found, polls, known, held, standing, simulated, routing, cold, starts, loads,
        served,
    )  # fmt: skip


def _cold_start_dict(one: ColdStart) -> dict[str, Any]:
    """What launches of a profile in a place have taken, in seconds."""
    return {
        "profile": one.profile,
        "provider": one.provider,
        "region": one.region,
        "purchase": one.purchase.value if one.purchase else None,
        "machine_s": one.machine_s,
        "server_s": one.server_s,
        "total_s": one.total_s,
        "machine_slow_s": one.machine_slow_s,
        "launches": one.count,
    }


def _cold_start(one: ColdStart) -> tuple[str, ...]:
    return (
        one.profile,
        f"{one.provider}/{one.region}",
        one.purchase.value if one.purchase else "-",
        f"{one.machine_s:.0f} s",
        f"{one.server_s:.0f} s",
        f"{one.total_s:.0f} s",
        str(one.count),
    )


def _figures(served: Served | None) -> tuple[str, ...]:
    """What its servers do now, and what a million output tokens of the last hour cost."""
    if served is None:
        return ("-", "-", "-", "-")
    now = (served.tokens_per_s, served.running, served.waiting, served.usd_per_mtok)
    return tuple("-" if one is None else str(one) for one in now)


def _disks(parked: int) -> str:
    if not parked:
        return ""
    machines = "1 parked machine" if parked == 1 else f"{parked} parked machines"
    return f", beside the disks of {machines}, whose price is not known"


def _dollars(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:.4f}"
