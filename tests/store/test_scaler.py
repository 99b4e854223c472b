"""A service's number of replicas follows its schedule and its load, on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from arbiter.counters import Counters
from arbiter.domain import ReplicaState
from arbiter.gateway.base import Counts
from arbiter.gateway.fake import FakeGateway
from arbiter.policy import Policy
from arbiter.replay import replay
from arbiter.scaling import Scaling
from arbiter.service_hours import ScheduleWindow
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from arbiter.store.scaling import loads
from tests.store.fleet_bench import fake, gateway, kinds
from tests.store.loops import Bench


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store, gateway=FakeGateway(), policy=Policy(max_spares=0))
    store.close()


def order(bench: Bench, replicas: int, scaling: Scaling) -> None:
    bench.order(replicas, scaling=scaling)


def wanted(bench: Bench) -> int:
    with bench.store.read() as connection:
        return fleet.get_service(connection, "chat").replicas


def passes(bench: Bench, active: int, held: int = 0) -> None:
    """So many requests are in flight from now on, and some were answered meanwhile."""
    before = gateway(bench).passed.get("chat", Counts())
    gateway(bench).passed["chat"] = Counts(
        requests=before.requests + active, active=active, held=held
    )


def ask(bench: Bench, active: int, ticks: int) -> None:
    for _ in range(ticks):
        passes(bench, active)
        bench.tick()


def scaled(bench: Bench) -> list[str]:
    with bench.store.read() as connection:
        found = journal.events(connection)
        return [event.sentence for event in found if event.kind == "scaled"]


def answering(bench: Bench) -> int:
    return sum(one.state is ReplicaState.HEALTHY for one in bench.replicas())


def test_load_adds_replicas_and_its_end_drains_them(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    ask(bench, 2, 4)
    assert answering(bench) == 1
    ask(bench, 12, 10)
    assert answering(bench) == 3
    ask(bench, 2, 30)
    assert answering(bench) == 3, "the stabilisation window is not over"
    ask(bench, 2, 15)
    assert answering(bench) == 1
    assert wanted(bench) == 1
    assert kinds(bench).count("drained") == 2, "what answers is drained, never cut"
    assert scaled(bench)[0].startswith("chat was scaled from 1 to 2 replicas: 5.0 requests")
    assert "at most 2.0 requests at a time for 300 s" in scaled(bench)[-1]


def test_machines_and_decisions_follow_and_replay(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    ask(bench, 12, 10)
    ask(bench, 1, 45)
    with bench.store.read() as connection:
        made = journal.decisions(connection, "chat")
        for row in made:
            given = journal.inputs(connection, row.id)
            assert journal.encode(replay(given)) == journal.encode(row.plan)
    assert len(made) >= 4
    assert len(fake(bench).running) == 1


def test_requests_beside_the_gateway_are_seen_by_the_servers_own_counters(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    bench.tick(3)
    (only,) = bench.replicas()
    bench.counters.tells[only.cluster] = Counters(bench.clock.now(), 8, 4, 1000)
    bench.tick(8)
    assert wanted(bench) == 3


def test_an_idle_service_goes_to_zero_and_a_request_wakes_it(bench: Bench) -> None:
    order(bench, 1, Scaling(0, 2, idle_s=120))
    ask(bench, 1, 3)
    ask(bench, 0, 20)
    assert bench.replicas() == []
    assert wanted(bench) == 0
    assert scaled(bench) == ["chat was scaled from 1 to 0 replicas: no request came for 120 s"]
    assert "chat" in gateway(bench).services, "its path is known, and answers 503"
    bench.tick(50)
    assert bench.replicas() == []
    assert not bench.loop.has_changed()

    passes(bench, 1, held=1)
    assert bench.loop.has_changed(), "the daemon need not wait for its next tick"
    bench.tick()
    assert [one.state for one in bench.replicas()] == [ReplicaState.LAUNCHING]
    assert scaled(bench)[-1] == "chat was scaled from 0 to 1 replicas: a request came"


def test_the_last_words_of_ended_servers_wake_nobody(bench: Bench) -> None:
    """Readings of a server stay after its end, and grow old."""
    order(bench, 1, Scaling(0, 2, idle_s=60))
    bench.tick(3)
    (only,) = bench.replicas()
    bench.counters.tells[only.cluster] = Counters(bench.clock.now(), 0, 0, 4000)
    bench.tick(12)
    assert bench.replicas() == []
    bench.tick(60)
    assert wanted(bench) == 0
    assert len(scaled(bench)) == 1


def test_tokens_between_two_readings_are_no_idleness(bench: Bench) -> None:
    """Short requests that do not come by the gateway, each over before the next look."""
    order(bench, 1, Scaling(0, 2, idle_s=60))
    bench.tick(3)
    (only,) = bench.replicas()
    for look in range(30):
        bench.counters.tells[only.cluster] = Counters(bench.clock.now(), 0, 0, 100 * look)
        bench.tick()
    assert answering(bench) == 1


def test_while_somebody_waits_the_daemon_does_not_wait_for_its_next_tick(bench: Bench) -> None:
    order(bench, 1, Scaling(1, None, hold_s=60))
    bench.tick(3)
    assert not bench.loop.has_changed()
    gateway(bench).passed["chat"] = Counts(active=2, held=2)
    assert bench.loop.has_changed()


def test_a_gateway_that_counts_anew_wakes_nobody(bench: Bench) -> None:
    order(bench, 1, Scaling(0, 2, idle_s=60))
    ask(bench, 3, 4)
    ask(bench, 0, 12)
    assert wanted(bench) == 0
    gateway(bench).passed["chat"] = Counts()
    assert not bench.loop.has_changed()
    bench.tick(20)
    assert wanted(bench) == 0


def test_a_request_that_was_refused_at_zero_wakes_it_too(bench: Bench) -> None:
    order(bench, 1, Scaling(0, 2, idle_s=120))
    bench.tick(20)
    assert bench.replicas() == []
    gateway(bench).passed["chat"] = Counts(requests=1, errors=1)
    assert bench.loop.has_changed()
    bench.tick(2)
    assert len(bench.replicas()) == 1


def test_at_zero_nothing_is_kept_as_a_spare(database_url: str) -> None:
    store = Store(database_url)
    spared = Bench(store, gateway=FakeGateway(), policy=Policy(max_spares=2))
    order(spared, 1, Scaling(0, 2, idle_s=300))
    spared.tick(45)
    assert spared.replicas() == []
    store.close()


def test_what_was_launched_for_more_need_not_stay_when_fewer_are_wanted(
    database_url: str,
) -> None:
    """A spare stays for an hour so that prices cause no churn; this is no spare."""
    store = Store(database_url)
    spared = Bench(store, gateway=FakeGateway(), policy=Policy(max_spares=2, spot=False))
    order(spared, 1, Scaling(1, 3, requests_per_replica=4))
    ask(spared, 12, 10)
    assert answering(spared) == 3
    ask(spared, 1, 50)
    assert answering(spared) == 1
    store.close()


def test_without_a_gateway_nobody_could_wake_it_so_one_stays(database_url: str) -> None:
    store = Store(database_url)
    bare = Bench(store, policy=Policy(max_spares=0))
    order(bare, 1, Scaling(0, 2, idle_s=60))
    bare.tick(3)
    (only,) = bare.replicas()
    bare.counters.tells[only.cluster] = Counters(bare.clock.now(), 0, 0, 0)
    bare.tick(60)
    assert answering(bare) == 1
    store.close()


def test_a_gateway_that_cannot_be_asked_changes_nothing(bench: Bench) -> None:
    order(bench, 2, Scaling(0, 4, idle_s=60, requests_per_replica=4))
    ask(bench, 6, 40)
    gateway(bench).failing = "it does not answer"
    bench.tick(60)
    assert wanted(bench) == 2


def test_a_schedule_is_followed_by_the_minute(bench: Bench) -> None:
    window = ScheduleWindow.parse("daily 01:10-01:20 Europe/Berlin = 2")
    order(bench, 1, Scaling(1, None, (window,)))
    seen = []
    for _ in range(30):
        bench.tick(1, seconds=60)
        seen.append((bench.clock.now() - datetime(2026, 11, 1, tzinfo=UTC), wanted(bench)))
    two = [int(after.total_seconds() // 60) for after, number in seen if number == 2]
    assert (two[0], two[-1]) == (11, 20), "seen after the tick of the minute before"


def test_a_zone_that_nobody_knows_is_told_and_holds_up_nothing(bench: Bench) -> None:
    window = ScheduleWindow((0,), 0, 60, "Europe/Atlantis", 2)
    order(bench, 1, Scaling(1, None, (window,)))
    bench.tick(4)
    assert answering(bench) == 1
    assert kinds(bench).count("scaling_failed") == 1
    assert any("no time zone is called 'Europe/Atlantis'" in told for told in bench.told)


def test_a_paused_service_is_looked_at_and_left_as_it_is(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    bench.tick(3)
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", paused=True)
    ask(bench, 12, 10)
    assert wanted(bench) == 1
    with bench.store.begin() as connection:
        fleet.order(connection, "chat", paused=False)
    bench.tick()
    assert wanted(bench) == 3, "what was seen meanwhile counts"


def test_a_daemon_that_was_down_ends_nothing_until_it_knows(bench: Bench) -> None:
    order(bench, 3, Scaling(1, 3, requests_per_replica=4))
    ask(bench, 12, 40)
    bench.clock.advance(3600)
    ask(bench, 1, 36)
    assert wanted(bench) == 3
    ask(bench, 1, 3)
    assert wanted(bench) == 1


def test_an_order_meanwhile_is_not_overwritten(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    ask(bench, 12, 6)
    with bench.store.begin() as connection:
        fleet.scale(connection, "chat", 1, None, bench.clock.now())
    ask(bench, 12, 3)
    assert wanted(bench) == 1


def test_loads_are_kept_no_longer_than_they_are_asked_for(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=400))
    ask(bench, 12, 100)
    with bench.store.read() as connection:
        kept = loads(connection, "chat", bench.clock.now())
    assert len(kept) <= 49
    assert bench.clock.now() - kept[0].until <= timedelta(seconds=480 + 10)


def test_a_clock_that_is_set_back_leaves_no_load_in_the_future(bench: Bench) -> None:
    order(bench, 1, Scaling(1, 3, requests_per_replica=4))
    ask(bench, 1, 10)
    bench.clock.advance(-7200)
    ask(bench, 12, 10)
    assert wanted(bench) == 3
    with bench.store.read() as connection:
        ahead = loads(connection, "chat", bench.clock.now() + timedelta(hours=9))
    assert all(one.until <= bench.clock.now() for one in ahead)
