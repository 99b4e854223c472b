"""Machines that are taken away, moves by order, and clocks that are set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from arbiter.domain import Purchase, ReplicaState
from arbiter.errors import ArbiterError, NoCapacity, QuotaExceeded
from arbiter.executors.base import Notice, Sighting
from arbiter.executors.fake import FakeExecutor
from arbiter.gateway.base import BackendState
from arbiter.gateway.fake import FakeGateway
from arbiter.orders import Destination
from arbiter.regions import load_atlas
from arbiter.replay import replay
from arbiter.settings import FleetSettings
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs
from arbiter.store.counts import detection_times
from arbiter.store.engine import Store
from tests.store.fleet_bench import fake, gateway, kinds, move, up
from tests.store.loops import Bench


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    made = Bench(store, gateway=FakeGateway())
    made.policy = replace(made.policy, min_stay_s=60, max_spares=0)
    yield made
    store.close()


@pytest.fixture
def slow(database_url: str) -> Iterator[Bench]:
    """Launches stay pending until they are let."""
    store = Store(database_url)
    made = Bench(store, executor=FakeExecutor(), fleet=FleetSettings(launch_deadline_s=120))
    made.policy = replace(made.policy, max_spares=0)
    yield made
    store.close()


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


def test_the_ways_to_lose_a_machine_are_told_apart(bench: Bench) -> None:
    up(bench, replicas=4)
    announced, silent, gone, wrong = (one.cluster for one in bench.replicas())
    bench.health.sick[wrong] = "it serves other, not tiny"
    fake(bench).notices[announced] = notice(bench, 120)
    bench.health.sick[silent] = "no answer (TimeoutError)"
    fake(bench).lose(gone)
    bench.tick(1)
    with bench.store.read() as connection:
        losses = ("notice", "unhealthy", "wrong_answer", "spot_reclaimed")
        events = journal.events(connection)
    told = {event.cluster: event for event in events if event.kind in losses}
    assert told[announced].kind == "notice"
    assert "(terminate, 3 s ago)" in told[announced].sentence
    assert told[silent].kind == "unhealthy"
    assert "stopped answering, within 10.0 s" in told[silent].sentence
    assert told[gone].kind == "spot_reclaimed"
    assert "without notice, within 10.0 s" in told[gone].sentence
    assert told[wrong].kind == "wrong_answer"
    assert "answers wrongly, within 10.0 s: it serves other" in told[wrong].sentence
    assert {one.cluster: one.within_s for one in told.values()} == {
        announced: 3.0, silent: 10.0, gone: 10.0, wrong: 10.0,
    }  # fmt: skip
    with bench.store.read() as connection:
        times = detection_times(connection)
    assert times["notice"] == [3.0]


def test_a_dead_machine_that_its_cloud_calls_running_is_replaced_and_ended(bench: Bench) -> None:
    zombie = up(bench).cluster
    bench.health.sick[zombie] = "no answer (TimeoutError)"
    bench.tick(12)
    (stands,) = bench.replicas()
    assert (stands.cluster != zombie, stands.state) == (True, ReplicaState.HEALTHY)
    assert zombie in fake(bench).terminated
    assert "unhealthy" in kinds(bench)


class Distant(FakeExecutor):
    """SkyPilot, which takes its time over a machine that stands still.

    Attributes:
        meanwhile: what happens while it is asked.
    """

    name = "skypilot"

    def __init__(self) -> None:
        super().__init__(immediate=True)
        self.meanwhile: Callable[[], object] | None = None

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        found = super().observe(clusters)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


@pytest.fixture
def distant(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store, executor=Distant(), gateway=FakeGateway())
    store.close()


def meanwhile(bench: Bench, happens: Callable[[], object]) -> None:
    """Let it happen while SkyPilot is asked for the next time."""
    executor = bench.executor
    assert isinstance(executor, Distant)
    executor.meanwhile = happens


def test_silence_is_written_down_while_skypilot_is_asked(distant: Bench) -> None:
    silent = up(distant).cluster
    told: list[str] = []

    def fall_silent() -> None:
        distant.health.sick[silent] = "no answer (TimeoutError)"
        assert distant.loop.has_changed()
        told.extend(kinds(distant))
        assert not distant.loop.has_changed(), "it is known by now"

    meanwhile(distant, fall_silent)
    distant.tick(1)
    assert told.count("unhealthy") == 1, "before SkyPilot had answered"
    (seen,) = distant.replicas()
    assert (seen.cluster, seen.state) == (silent, ReplicaState.UNHEALTHY)
    assert kinds(distant).count("unhealthy") == 1
    fake(distant).lose(silent)
    distant.tick(1)
    assert kinds(distant).count("unhealthy") == 1
    assert "spot_reclaimed" in kinds(distant)


def test_a_machine_leaves_traffic_in_time_while_skypilot_is_asked(distant: Bench) -> None:
    leaving = up(distant).cluster
    distant.health.notices[leaving] = notice(distant, 30)
    assert distant.loop.has_changed()

    def time_passes() -> None:
        distant.clock.advance(20)
        assert distant.loop.has_changed()
        states = {one.cluster: one.state for one in gateway(distant).services["chat"]}
        assert states[leaving] is BackendState.DRAINING

    meanwhile(distant, time_passes)
    distant.tick(1)
    assert [kinds(distant).count(kind) for kind in ("notice", "drained")] == [1, 1]


def test_silence_of_all_takes_nobody_out_of_traffic_and_a_wrong_answer_does(distant: Bench) -> None:
    distant.order(2)
    distant.tick(4)
    first, second = (one.cluster for one in distant.replicas())

    def states() -> list[BackendState]:
        assert distant.loop.has_changed()
        known = {one.cluster: one.state for one in gateway(distant).services["chat"]}
        return [known[first], known[second]]

    distant.health.sick[first] = "no answer (TimeoutError)"
    assert states() == [BackendState.DRAINING, BackendState.SERVING]
    distant.health.sick[second] = "no answer (TimeoutError)"
    assert states() == [BackendState.SERVING, BackendState.SERVING]
    distant.health.sick.clear()
    distant.tick(1)
    distant.health.sick[first] = "no answer (TimeoutError)"
    distant.health.sick[second] = "it serves other, not tiny"
    assert states() == [BackendState.SERVING, BackendState.DRAINING]


def test_of_two_looks_at_once_one_is_written(distant: Bench) -> None:
    cluster = up(distant).cluster
    with distant.store.read() as connection:
        was = fleet.find_replica(connection, load_atlas(), cluster)
    assert was is not None
    silent = replace(was, state=ReplicaState.UNHEALTHY)
    with distant.store.begin() as connection:
        assert fleet.save_replica(connection, silent, was=was)
        assert not fleet.save_replica(connection, replace(was, note="late"), was=was)
        assert fleet.save_replica(connection, replace(silent, note="next"), was=silent)
    assert [one.note for one in distant.replicas()] == ["next"]


def test_a_launch_that_skypilot_forgot_says_nothing_of_its_place(slow: Bench) -> None:
    slow.order()
    slow.tick(1)
    (launched,) = fake(slow).submitted
    fake(slow).terminate(launched.cluster)
    slow.tick(1)
    assert kinds(slow).count("launch_failed") == 1
    with slow.store.read() as connection:
        (refusal,) = fleet.refusals(connection, slow.clock.now())
        assert "disappeared" in refusal.reason
        assert not read_beliefs(connection).pools


def test_quota_and_capacity_are_remembered_apart(bench: Bench) -> None:
    fake(bench).next_launch_error = QuotaExceeded("no vCPUs left")
    bench.order()
    bench.tick(1)
    fake(bench).next_launch_error = NoCapacity("none there")
    bench.tick(1)
    with bench.store.read() as connection:
        quota, capacity = fleet.refusals(connection, bench.clock.now())
    assert quota.until - quota.at > 10 * (capacity.until - capacity.at)


def test_a_quota_is_remembered_for_every_zone_of_its_region(bench: Bench) -> None:
    for zone in ("eun1-az2", "eun1-az3"):
        bench.prices["eu-north-1", zone, Purchase.SPOT] = "0.31"
    fake(bench).next_launch_error = QuotaExceeded("no vCPUs left")
    bench.order()
    bench.tick(4)
    tried = [spec.offer.where for spec in fake(bench).submitted]
    assert tried == ["aws/eu-north-1/eun1-az1", "aws/eu-west-1/euw1-az1"]


# --- churn ----------------------------------------------------------------------------------


def test_a_service_that_keeps_losing_spot_stays_on_demand_for_a_while(bench: Bench) -> None:
    bench.policy = replace(
        bench.policy, churn_after=2, fallback_after=100, refusal_s=0, min_stay_s=1800
    )
    up(bench)
    for _ in range(2):
        (one,) = (one for one in bench.replicas() if one.state is ReplicaState.HEALTHY)
        fake(bench).lose(one.cluster)
        bench.tick(4)
    (stands,) = bench.replicas()
    assert stands.offer.purchase is Purchase.ON_DEMAND
    assert kinds(bench).count("spot_churn") == 1
    bench.tick(70, seconds=60)
    assert bench.replicas()[0].offer.purchase is Purchase.SPOT, "back after the hold"


# --- hedges ---------------------------------------------------------------------------------


@pytest.fixture
def hedged(database_url: str) -> Iterator[Bench]:
    """A launch that hangs, and the one beside it."""
    store = Store(database_url)
    made = Bench(store, executor=FakeExecutor(), fleet=FleetSettings(hedge_after_s=60))
    made.policy = replace(made.policy, max_spares=0)
    made.order()
    made.tick(9)
    yield made
    store.close()


def test_a_hung_launch_is_hedged_once_and_the_first_that_is_up_stays(hedged: Bench) -> None:
    slow, beside = hedged.replicas()
    assert slow.hedged_by == beside.cluster
    assert slow.offer.where != beside.offer.where
    hedged.tick(5)
    assert len(fake(hedged).submitted) == 2, "hedged once, however long it hangs"
    fake(hedged).advance(beside.cluster)
    hedged.tick(3)
    (stays,) = hedged.replicas()
    assert (stays.cluster, stays.state) == (beside.cluster, ReplicaState.HEALTHY)
    assert fake(hedged).running == (beside.cluster,)
    assert kinds(hedged).count("launch_hedged") == 1
    with hedged.store.read() as connection:
        (refused,) = fleet.refusals(connection, hedged.clock.now())
        decisions = journal.decisions(connection, "chat")
        assert all(replay(journal.inputs(connection, one.id)) == one.plan for one in decisions)
    assert (refused.key, refused.reason) == (slow.offer.key, "its launch was slow")


def test_a_slow_launch_that_comes_after_all_is_kept(hedged: Bench) -> None:
    slow, beside = hedged.replicas()
    fake(hedged).advance(slow.cluster)
    hedged.tick(3)
    assert [one.cluster for one in hedged.replicas()] == [slow.cluster]
    assert beside.cluster in fake(hedged).terminated


def test_the_service_goes_down_with_both(hedged: Bench) -> None:
    with hedged.store.begin() as connection:
        fleet.order(connection, "chat", down=True)
    hedged.tick(2)
    assert fake(hedged).running == ()
    assert hedged.replicas() == []


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
