"""The fleet never drops an answer, never leaks a machine, and never stands where it must not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from arbiter.domain import Purchase, Replica, ReplicaState, Service
from arbiter.errors import ArbiterError, NoCapacity, QuotaExceeded
from arbiter.executors.base import Notice
from arbiter.executors.fake import FakeExecutor
from arbiter.gateway.base import BackendState
from arbiter.gateway.fake import FakeGateway
from arbiter.money import Price
from arbiter.orders import Destination
from arbiter.replay import replay
from arbiter.settings import FleetSettings
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store.loops import Bench

CHEAP = ("eu-west-1", "euw1-az1", Purchase.SPOT)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store, gateway=FakeGateway())
    made.policy = replace(made.policy, min_stay_s=60, max_spares=0)
    yield made
    store.close()


def fake(bench: Bench) -> FakeExecutor:
    assert isinstance(bench.executor, FakeExecutor)
    return bench.executor


def gateway(bench: Bench) -> FakeGateway:
    assert bench.gateway is not None
    return bench.gateway


def kinds(bench: Bench) -> list[str]:
    with bench.store.read() as connection:
        return [event.kind for event in journal.events(connection)]


def up(bench: Bench, replicas: int = 1) -> Replica:
    bench.order(replicas)
    bench.tick(3)
    return bench.replicas()[0]


def move(bench: Bench) -> tuple[str, str]:
    """Make another place cheaper, until the old replica is taken out of traffic."""
    old = up(bench).cluster
    bench.tick(10)
    bench.prices[CHEAP] = "0.10"
    for _ in range(20):
        bench.tick()
        states = {one.cluster: one.state for one in bench.replicas()}
        if states.get(old) is ReplicaState.DRAINING:
            return old, next(cluster for cluster in states if cluster != old)
    raise AssertionError("it was not moved")


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
    assert {one.cluster for one in gateway(bench).services["chat"]} == {new}


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


# --- notices --------------------------------------------------------------------------------


def notice(bench: Bench, seconds: float, ago: float = 3) -> Notice:
    now = bench.clock.now()
    given = now - timedelta(seconds=ago)
    return Notice("terminate", given, now + timedelta(seconds=seconds))


def test_a_notice_brings_a_replacement_and_then_a_drain(bench: Bench) -> None:
    old = up(bench).cluster
    fake(bench).notices[old] = notice(bench, 120)
    gateway(bench).requests["chat", old] = 2
    bench.tick(1)
    assert kinds(bench)[-1] == "notice"
    assert len(bench.replicas()) == 2, "a replacement is launched at once"
    bench.tick(1)
    states = {one.cluster: one.state for one in bench.replicas()}
    assert states.pop(old) is ReplicaState.DRAINING, "drained, for it still answers"
    assert list(states.values()) == [ReplicaState.HEALTHY]
    gateway(bench).requests.clear()
    bench.tick(3, seconds=1)
    assert old in fake(bench).terminated


def test_near_the_end_it_is_drained_though_nothing_has_replaced_it(slow: Bench) -> None:
    slow.order()
    slow.tick(1)
    fake(slow).advance()
    slow.tick(2)
    (old,) = slow.replicas()
    fake(slow).notices[old.cluster] = notice(slow, 40)
    slow.tick(2)
    assert slow.replicas()[0].state is ReplicaState.HEALTHY
    slow.tick(2)
    assert slow.replicas()[0].state is ReplicaState.DRAINING


def test_the_three_ways_to_lose_a_machine_are_told_apart(bench: Bench) -> None:
    up(bench, replicas=3)
    announced, silent, gone = (one.cluster for one in bench.replicas())
    fake(bench).notices[announced] = notice(bench, 120)
    bench.health.sick[silent] = "no answer (TimeoutError)"
    fake(bench).lose(gone)
    bench.tick(1)
    with bench.store.read() as connection:
        losses = ("notice", "unhealthy", "spot_reclaimed")
        events = journal.events(connection)
    told = {event.cluster: event for event in events if event.kind in losses}
    assert told[announced].kind == "notice"
    assert "(terminate, 3 s ago)" in told[announced].sentence
    assert told[silent].kind == "unhealthy"
    assert "stopped answering, within 10.0 s" in told[silent].sentence
    assert told[gone].kind == "spot_reclaimed"
    assert "without notice, within 10.0 s" in told[gone].sentence


def test_quota_and_capacity_are_remembered_apart(bench: Bench) -> None:
    fake(bench).next_launch_error = QuotaExceeded("no vCPUs left")
    bench.order()
    bench.tick(1)
    fake(bench).next_launch_error = NoCapacity("none there")
    bench.tick(1)
    with bench.store.read() as connection:
        quota, capacity = fleet.refusals(connection, bench.clock.now())
    assert quota.until - quota.at > 10 * (capacity.until - capacity.at)


# --- moves by order -------------------------------------------------------------------------


def test_a_move_by_order_makes_before_it_breaks(bench: Bench) -> None:
    bench.policy = replace(bench.policy, min_stay_s=3600)  # the dearer place is left after that
    old = up(bench).cluster
    made = bench.loop.move("chat", Destination("aws", "eu-west-1"), write=True)
    new = made.actions[0].cluster
    for _ in range(8):
        bench.tick()
        assert ReplicaState.HEALTHY in {one.state for one in bench.replicas()}
    (one,) = bench.replicas()
    assert (one.cluster, one.offer.region) == (new, "eu-west-1")
    assert fake(bench).terminated == (old,)
    with bench.store.read() as connection:
        for row in journal.decisions(connection):
            again = replay(journal.inputs(connection, row.id))
            assert journal.encode(again) == journal.encode(row.plan)


def test_a_rehearsed_move_changes_nothing(bench: Bench) -> None:
    up(bench)
    made = bench.loop.move("chat", Destination(), write=False)
    assert made.actions[0].replaces is not None
    bench.tick(3)
    assert len(fake(bench).submitted) == 1


@pytest.mark.parametrize(
    ("to", "line"),
    [
        ("aws/eu-west-2", "is refused by country_outside_eu"),
        ("aws/eu-north-1", "runs in aws/eu-north-1 already"),
        ("gcp", "cannot move to gcp: no other offer is known there"),
        ("aws/eu-west-1/a", "is no destination"),
        ("", "is no destination"),
    ],
)
def test_an_order_that_cannot_be_is_one_clear_line(bench: Bench, to: str, line: str) -> None:
    up(bench)
    with pytest.raises(ArbiterError) as error:
        bench.loop.move("chat", Destination.parse(to), write=True)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.hint
    bench.tick(2)
    assert len(fake(bench).submitted) == 1


def test_one_move_at_a_time(bench: Bench) -> None:
    up(bench)
    bench.loop.move("chat", Destination(), write=True)
    with pytest.raises(ArbiterError, match="moving already"):
        bench.loop.move("chat", Destination(), write=True)


# --- between two ticks ----------------------------------------------------------------------


def test_a_look_between_two_ticks_finds_what_has_stopped(bench: Bench) -> None:
    cluster = up(bench).cluster
    assert not bench.loop.has_changed()
    bench.health.sick[cluster] = "no answer"
    assert bench.loop.has_changed()
    bench.tick(1)
    assert not bench.loop.has_changed(), "it is known by now"


def test_a_look_between_two_ticks_finds_a_first_notice(bench: Bench) -> None:
    cluster = up(bench).cluster
    bench.health.notices[cluster] = notice(bench, 120)
    assert bench.loop.has_changed()
    bench.tick(1)
    assert not bench.loop.has_changed()


# --- a clock that is set ----------------------------------------------------------------------


def test_a_launch_that_hangs_is_given_up_though_the_clock_was_set_back(slow: Bench) -> None:
    slow.order()
    slow.tick(2)
    slow.clock.advance(-3600)
    slow.tick(16)
    assert len(fake(slow).submitted) == 2
    assert kinds(slow).count("clock_set_back") == 1


def test_a_refusal_from_the_future_is_forgotten(slow: Bench) -> None:
    fake(slow).next_launch_error = NoCapacity("none there")
    slow.order()
    slow.tick(1)
    slow.clock.advance(-3600)
    with slow.store.read() as connection:
        assert fleet.refusals(connection, slow.clock.now()) == []


def test_a_drain_has_its_time_though_the_clock_is_set_ahead(bench: Bench) -> None:
    seconds = 0.0
    bench.loop._drains._monotonic = lambda: seconds
    old, _ = move(bench)
    gateway(bench).requests["chat", old] = 1
    bench.clock.advance(7200)
    bench.tick(3)
    assert old not in fake(bench).terminated
    seconds = 21.0  # drain_s is 20
    bench.tick(2)
    assert old in fake(bench).terminated
