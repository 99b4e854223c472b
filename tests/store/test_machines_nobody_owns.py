"""Machines that a provider has running and SkyPilot has forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from arbiter.errors import MissingCredentials, Unreachable
from arbiter.inventory import Inventory, Machine, is_ours
from arbiter.money import Price
from arbiter.settings import FleetSettings
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store.fleet_bench import fake, kinds, up
from tests.store.loops import Bench

SWEEP_S = 300


class Cloud:
    """A provider with a memory of its machines."""

    def __init__(self) -> None:
        self.running: list[Machine] = []
        self.ended: list[str] = []
        self.asked: list[frozenset[str]] = []
        self.error: Exception | None = None
        self.undying = False

    def machines(self, owner: str, regions: Collection[str]) -> Sequence[Machine]:
        self.asked.append(frozenset(regions))
        if self.error is not None:
            raise self.error
        return [one for one in self.running if is_ours(one, owner)]

    def end(self, machine: Machine) -> None:
        self.ended.append(machine.id)
        if not self.undying:
            self.running.remove(machine)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def bench(database_url: str, cloud: Cloud) -> Iterator[Bench]:
    store = Store(database_url)

    def inventories(name: str) -> Inventory | None:
        return cloud if name == "aws" else None

    made = Bench(store, fleet=FleetSettings(end_orphans=True), inventories=inventories)
    made.policy = replace(made.policy, max_spares=0)
    yield made
    store.close()


def machine(bench: Bench, cluster: str | None = None, owner: str | None = None) -> Machine:
    name = cluster or f"arb-{bench.loop.owner}-chat-7"
    return Machine("aws", f"i-{name[-1]}", "eu-north-1", "", None, owner or bench.loop.owner, name)


def sweeps(bench: Bench, times: int = 1) -> None:
    bench.tick(times, seconds=SWEEP_S)


def test_a_machine_that_skypilot_forgot_is_found_and_ended(bench: Bench, cloud: Cloud) -> None:
    one = up(bench)
    cloud.running = [machine(bench, one.cluster), machine(bench)]
    bench.clock.advance(SWEEP_S)
    sweeps(bench)
    with bench.store.read() as connection:
        assert journal.orphans(connection) == {"aws/eu-north-1/i-7": 1}
    assert cloud.ended == [], "it is seen once"
    sweeps(bench)
    assert cloud.ended == ["i-7"]
    assert [one.cluster for one in cloud.running] == [one.cluster]
    assert "orphan_ended" in kinds(bench)
    sweeps(bench)
    with bench.store.read() as connection:
        assert journal.orphans(connection) == {}


def test_one_that_does_not_end_is_ended_for_ever(bench: Bench, cloud: Cloud) -> None:
    up(bench)
    cloud.running, cloud.undying = [machine(bench)], True
    sweeps(bench, 6)
    assert len(cloud.ended) >= 3


def test_by_default_it_is_only_reported(database_url: str, cloud: Cloud) -> None:
    store = Store(database_url)
    bench = Bench(store, inventories=lambda _: cloud)
    up(bench)
    cloud.running = [machine(bench)]
    sweeps(bench, 4)
    assert cloud.ended == []
    assert kinds(bench).count("orphan") == 1
    assert any("aws/eu-north-1/i-7 (arb-" in line for line in bench.told)
    store.close()


def test_another_owners_machine_is_never_touched(bench: Bench, cloud: Cloud) -> None:
    up(bench)
    cloud.running = [machine(bench, "arb-ffffffff-chat-7", "ffffffff")]
    sweeps(bench, 4)
    assert cloud.ended == []
    assert "orphan" not in kinds(bench)


def test_what_is_ended_by_the_executor_and_still_charged_is_found(
    bench: Bench, cloud: Cloud
) -> None:
    one = up(bench)
    cloud.running = [machine(bench, one.cluster)]
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    sweeps(bench, 4)
    assert fake(bench).running == ()
    assert cloud.running == [], "the executor said gone, the provider did not"


def test_a_provider_that_cannot_be_asked_is_told_and_nothing_is_concluded(
    bench: Bench, cloud: Cloud
) -> None:
    up(bench)
    cloud.running = [machine(bench)]
    bench.clock.advance(SWEEP_S)
    sweeps(bench)
    cloud.error = MissingCredentials("aws: no credentials", "aws configure")
    sweeps(bench, 3)
    assert kinds(bench).count("inventory_failed") == 1
    assert any("aws configure" in line for line in bench.told)
    with bench.store.read() as connection:
        assert journal.orphans(connection) == {"aws/eu-north-1/i-7": 1}, "it may still run"
    cloud.error = Unreachable("aws: no answer")
    sweeps(bench)
    cloud.error = None
    sweeps(bench)
    assert cloud.ended == ["i-7"]
    assert not [one for one in bench.loop.troubles.standing if "could not be listed" in one]


def test_only_where_launches_were_asked_for_is_looked(bench: Bench, cloud: Cloud) -> None:
    sweeps(bench)
    assert cloud.asked == [], "nothing was ever launched"
    up(bench)
    sweeps(bench, 2)
    assert set(cloud.asked) == {frozenset({"eu-north-1"})}


def test_what_a_provider_charges_above_the_cap_is_ended(bench: Bench, cloud: Cloud) -> None:
    bench.policy = replace(bench.policy, max_usd_per_hour=Decimal("1.00"))
    first = up(bench)
    cloud.running = [replace(machine(bench, first.cluster), price=Price.of("10.24"))]
    sweeps(bench)
    bench.tick(3)
    (second,) = bench.replicas()
    assert second.cluster != first.cluster
    assert second.offer.key != first.offer.key
    assert any("really costs 10.24 USD" in line for line in bench.told)


def test_another_price_than_the_quoted_is_told(bench: Bench, cloud: Cloud) -> None:
    one = up(bench)
    cloud.running = [replace(machine(bench, one.cluster), price=Price.of("0.49"))]
    sweeps(bench, 3)
    assert kinds(bench).count("price_differs") == 1
    assert bench.replicas()[0].paid == Price.of("0.49")
