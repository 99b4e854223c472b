"""The fleet never drops an answer, never leaks a machine, and never stands where it must not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from arbiter.domain import ReplicaState, Service
from arbiter.errors import ArbiterError
from arbiter.executors.fake import FakeExecutor
from arbiter.gateway.base import BackendState
from arbiter.gateway.fake import FakeGateway
from arbiter.money import Price
from arbiter.settings import FleetSettings
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store.fleet_bench import CHEAP, fake, gateway, kinds, move, up
from tests.store.loops import Bench


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store, gateway=FakeGateway())
    made.policy = replace(made.policy, min_stay_s=60, max_spares=0)
    yield made
    store.close()


# --- the gateway ----------------------------------------------------------------------------


def test_what_answers_is_served_and_nothing_else(bench: Bench) -> None:
    bench.order(2)
    bench.tick(1)
    assert gateway(bench).clusters("chat", BackendState.SERVING) == []
    bench.tick(2)
    served = gateway(bench).clusters("chat", BackendState.SERVING)
    assert served == sorted(one.cluster for one in bench.replicas())
    fake(bench).lose(served[0])
    bench.tick(1)
    assert served[0] not in {one.cluster for one in gateway(bench).services["chat"]}


def test_a_drained_replica_ends_when_it_is_idle_and_not_before(bench: Bench) -> None:
    old, new = move(bench)
    gateway(bench).requests["chat", old] = 3
    assert gateway(bench).clusters("chat", BackendState.DRAINING) == [old]
    assert gateway(bench).clusters("chat", BackendState.SERVING) == [new]
    bench.tick(1, seconds=5)
    bench.tick(1, seconds=5)
    assert old not in fake(bench).terminated, "it was still answering"
    gateway(bench).requests.clear()
    bench.tick(3, seconds=1)
    assert fake(bench).terminated == (old,)
    assert {one.cluster for one in gateway(bench).services["chat"]} == {new, "waiting-room"}


def test_a_drain_that_never_ends_is_cut_when_its_time_is_up(bench: Bench) -> None:
    old, _ = move(bench)
    gateway(bench).requests["chat", old] = 1
    bench.tick(4)  # drain_s is 20
    assert fake(bench).terminated == (old,)


def test_a_gateway_that_fails_holds_the_drain_and_not_the_loop(bench: Bench) -> None:
    old = up(bench).cluster
    bench.tick(10)
    gateway(bench).failing = "it does not answer"
    bench.prices[CHEAP] = "0.10"
    bench.tick(2)
    assert old not in fake(bench).terminated
    states = {one.cluster: one.state for one in bench.replicas()}
    assert states[old] is ReplicaState.HEALTHY
    assert kinds(bench).count("gateway") == 1, "a trouble is told once while it lasts"
    gateway(bench).failing = None
    bench.tick(8)
    assert fake(bench).terminated == (old,)
    assert "gateway_well" in kinds(bench)
    launches = [call for call in fake(bench).calls if call.method == "submit"]
    assert len(launches) == 2, "what was held is not decided again and again"


def test_a_gateway_that_died_is_started_again_with_the_same_replicas(bench: Bench) -> None:
    one = up(bench).cluster
    gateway(bench).kill()
    bench.tick(1)
    assert gateway(bench).running
    assert gateway(bench).clusters("chat", BackendState.SERVING) == [one]


def test_down_leaves_the_gateway_empty(bench: Bench) -> None:
    up(bench)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(2)
    assert gateway(bench).services == {}
    assert fake(bench).running == ()


def test_a_silent_replica_gets_no_new_request(bench: Bench) -> None:
    one = up(bench).cluster
    bench.health.sick[one] = "it serves other, not tiny"
    bench.tick(1)
    assert gateway(bench).clusters("chat", BackendState.DRAINING) == [one]


# --- health ---------------------------------------------------------------------------------


def test_a_completion_is_asked_for_until_there_is_traffic(bench: Bench) -> None:
    cluster = up(bench).cluster
    asked = [look[cluster].complete for look in bench.health.asked if cluster in look]
    assert asked[0] is True
    assert asked[-1] is False


# --- ends -----------------------------------------------------------------------------------


def test_a_machine_that_stands_after_its_end_is_ending_and_alarmed(bench: Bench) -> None:
    cluster = up(bench).cluster
    fake(bench).undying.add(cluster)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    bench.tick(5)
    (one,) = bench.replicas()
    assert one.state is ReplicaState.ENDING
    assert len(fake(bench).terminated) == 5, "it is tried for ever"
    assert kinds(bench).count("terminate_unconfirmed") == 1
    with bench.store.read() as connection:
        assert len(journal.failing_ends(connection)["chat"]) == 1
    fake(bench).undying.clear()
    bench.tick(1)
    assert bench.replicas() == []
    with bench.store.read() as connection:
        assert journal.failing_ends(connection) == {}


def test_a_slow_end_holds_up_nobody(bench: Bench) -> None:
    """While one machine takes its time to end, the other service is looked after."""
    slow = up(bench).cluster
    let_go, end = threading.Event(), fake(bench).terminate

    def terminate(cluster: str) -> None:
        let_go.wait(20)
        end(cluster)

    fake(bench).terminate = terminate  # type: ignore[method-assign]
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
        fleet.add_service(connection, Service("other", "tiny"), bench.clock.now())
    bench.tick(2)
    assert bench.replicas()[0].state is ReplicaState.ENDING
    assert len(fake(bench).running) == 2
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == f"end {slow}":
            thread.join(20)
    bench.tick(1)
    assert bench.replicas() == []


# --- sweep ----------------------------------------------------------------------------------


def orphan(bench: Bench) -> str:
    """A machine that carries our tag, and of which the store knows nothing."""
    spec = fake(bench).submitted[0]
    cluster = f"arb-{bench.loop.owner}-chat-99"
    fake(bench).submit(replace(spec, cluster=cluster))
    other = replace(spec, cluster="arb-ffffffff-chat-1", owner="ffffffff")
    fake(bench).submit(other)
    return cluster


def test_an_orphan_is_reported_and_by_default_left(bench: Bench) -> None:
    up(bench)
    lost = orphan(bench)
    bench.tick(4, seconds=301)
    assert kinds(bench).count("orphan") == 1
    assert lost in fake(bench).running


def test_an_orphan_seen_twice_is_ended_if_the_settings_say_so(database_url: str) -> None:
    store = Store(database_url)
    bench = Bench(store, fleet=FleetSettings(end_orphans=True))
    up(bench)
    lost = orphan(bench)
    bench.tick(1, seconds=301)
    assert lost in fake(bench).running, "once is not enough: it may be on its way to be known"
    bench.tick(2, seconds=301)
    assert lost not in fake(bench).running
    assert "arb-ffffffff-chat-1" in fake(bench).running, "another owner's was touched"
    assert "orphan_ended" in kinds(bench)
    store.close()


# --- read back ------------------------------------------------------------------------------


def test_what_really_costs_more_than_the_cap_is_ended(bench: Bench) -> None:
    bench.policy = replace(bench.policy, max_usd_per_hour=Decimal("1.00"))
    bench.order()
    bench.tick(1)
    (first,) = bench.replicas()
    fake(bench).paid[first.cluster] = Price.of("10.24")
    bench.tick(4)
    (second,) = bench.replicas()
    assert second.cluster != first.cluster
    assert second.offer.key != first.offer.key
    assert first.cluster in fake(bench).terminated
    assert any("really costs 10.24 USD" in line for line in bench.told)


def test_another_price_than_the_quoted_one_is_told(bench: Bench) -> None:
    bench.order()
    bench.tick(2)
    (one,) = bench.replicas()
    fake(bench).paid[one.cluster] = Price.of("0.49")
    bench.tick(3)
    assert kinds(bench).count("price_differs") == 1
    assert bench.replicas()[0].paid == Price.of("0.49")


# --- launches -------------------------------------------------------------------------------


@pytest.fixture
def slow(database_url: str) -> Iterator[Bench]:
    """Launches stay pending until they are let."""
    store = Store(database_url)
    made = Bench(store, executor=FakeExecutor(), fleet=FleetSettings(launch_deadline_s=120))
    made.policy = replace(made.policy, max_spares=0)
    yield made
    store.close()


def test_a_launch_that_hangs_is_ended_first_and_tried_elsewhere(slow: Bench) -> None:
    slow.order()
    slow.tick(20)
    calls = [(call.method, call.cluster) for call in fake(slow).calls]
    first, second = fake(slow).submitted[:2]
    assert first.offer.key != second.offer.key
    ended = calls.index(("terminate", first.cluster))
    assert ended < calls.index(("submit", second.cluster))
    with slow.store.read() as connection:
        refused = fleet.refusals(connection, slow.clock.now())
    assert refused[0].key == first.offer.key
    assert "within 120 s" in refused[0].reason


def test_down_in_the_middle_of_a_launch_leaves_nothing(slow: Bench) -> None:
    slow.order(2)
    slow.tick(1)
    assert len(fake(slow).running) == 2
    with slow.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    slow.tick(2)
    assert fake(slow).running == ()
    assert slow.replicas() == []


def test_down_while_the_answer_to_a_launch_was_lost(slow: Bench) -> None:
    fake(slow).lose_next_answer = True
    slow.order()
    slow.tick(1)
    with slow.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    slow.tick(3)
    assert fake(slow).running == ()
    assert len(fake(slow).submitted) == 1, "a launch was repeated for a service that is down"


def test_a_name_that_someone_else_took_is_left_alone(slow: Bench) -> None:
    slow.order()
    taken = f"arb-{slow.loop.owner}-chat-1"
    fake(slow).taken[taken] = "ffffffff"
    slow.tick(1)
    assert any("somebody else's cluster" in line for line in slow.told)
    slow.tick(2)
    fake(slow).advance()
    slow.tick(2)
    (one,) = slow.replicas()
    assert one.cluster == f"arb-{slow.loop.owner}-chat-2"
    assert one.state is ReplicaState.HEALTHY


def test_two_launches_of_one_name_at_once_are_one_service(bench: Bench) -> None:
    done: list[object] = []

    def launch(profile: str) -> None:
        try:
            with bench.store.begin() as connection:
                new = Service("chat", profile)
                done.append(fleet.add_service(connection, new, bench.clock.now()))
        except ArbiterError as error:
            done.append(error)

    threads = [threading.Thread(target=launch, args=("tiny",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in done if isinstance(one, ArbiterError)] == []
    launch("llama8b")
    assert isinstance(done[-1], ArbiterError)
    assert "serves tiny" in str(done[-1])
    with bench.store.read() as connection:
        assert len(fleet.services(connection)) == 1


def test_an_order_given_between_plan_and_act_is_not_acted_against(bench: Bench) -> None:
    bench.order()
    quotes = bench.loop._tools.quotes

    def ordered_down():  # type: ignore[no-untyped-def]
        with bench.store.begin() as connection:
            fleet.order(connection, "chat", down=True)
        return quotes()

    bench.loop._tools = replace(bench.loop._tools, quotes=ordered_down)
    bench.loop.tick()
    assert fake(bench).submitted == ()
