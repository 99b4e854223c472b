"""What servers say of their load is kept, at every tick, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from arbiter.calibration import TRUST_S, Basis
from arbiter.counters import Counters
from arbiter.domain import Service
from arbiter.replay import replay
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs, read_rates
from arbiter.store.engine import Store
from arbiter.store.served import readings
from arbiter.store.served_now import served_now
from arbiter.store.tables import served
from tests.store.fleet_bench import fake, up
from tests.store.loops import Bench

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    store = Store(database_url)
    yield Bench(store)
    store.close()


def tells(bench: Bench, cluster: str, tokens: int, running: int = 0, waiting: int = 0) -> None:
    bench.counters.tells[cluster] = Counters(NOW, running, waiting, tokens, tokens * 2, 0.5)


def bench_service(bench: Bench) -> Service:
    with bench.store.read() as connection:
        return fleet.get_service(connection, "chat")


def rows(bench: Bench) -> list[tuple[int, float, int, int, float, int]]:
    with bench.store.read() as connection:
        found = connection.execute(
            select(
                served.c.since,
                served.c.seconds,
                served.c.tokens,
                served.c.prompt_tokens,
                served.c.saturated_seconds,
                served.c.saturated_tokens,
            ).order_by(served.c.since)
        )
        return [tuple(row) for row in found]


def test_a_replica_that_answers_is_read_at_every_tick(bench: Bench) -> None:
    cluster = up(bench).cluster
    tells(bench, cluster, 1000, running=2, waiting=1)
    bench.tick()
    read_at = bench.clock.now()
    tells(bench, cluster, 1400, running=3)
    bench.tick()
    with bench.store.read() as connection:
        found = readings(connection, "chat")
        assert readings(connection, "another") == {}
    assert found[cluster].counters == Counters(read_at, 3, 0, 1400, 2800, 0.5)
    assert found[cluster].tokens_per_s == 40


def test_what_was_served_adds_up_in_spans_of_five_minutes(bench: Bench) -> None:
    cluster = up(bench).cluster
    for count in range(21):  # ten minutes
        tells(bench, cluster, 300 * count)
        bench.tick(seconds=30)
    assert sum(row[2] for row in rows(bench)) == 6000
    assert sum(row[1] for row in rows(bench)) == 600
    assert {row[0] % 300 for row in rows(bench)} == {0}
    assert len(rows(bench)) == 3


def test_saturated_windows_are_told_apart(bench: Bench) -> None:
    cluster = up(bench).cluster
    for tokens, waiting in ((0, 0), (100, 3), (1100, 3), (2100, 0), (2200, 0)):
        tells(bench, cluster, tokens, running=4, waiting=waiting)
        bench.tick()
    assert [row[1:] for row in rows(bench)] == [(40, 2200, 4400, 10, 1000)]


def test_a_server_that_was_silent_for_a_while_is_counted_once(bench: Bench) -> None:
    cluster = up(bench).cluster
    tells(bench, cluster, 100)
    bench.tick()
    del bench.counters.tells[cluster]
    bench.tick(30)
    tells(bench, cluster, 700)
    bench.tick()
    assert sum(row[2] for row in rows(bench)) == 600


def test_a_restarted_server_and_a_clock_set_back_lose_no_sense(bench: Bench) -> None:
    cluster = up(bench).cluster
    tells(bench, cluster, 5000)
    bench.tick()
    tells(bench, cluster, 30)
    bench.tick()
    assert [row[2] for row in rows(bench)] == [30]
    bench.clock.advance(-3600)
    tells(bench, cluster, 90)
    bench.tick()
    tells(bench, cluster, 150)
    bench.tick()
    assert sum(row[2] for row in rows(bench)) == 90


def test_ticks_in_quick_succession_read_no_more_often_than_makes_sense(bench: Bench) -> None:
    cluster = up(bench).cluster
    tells(bench, cluster, 100)
    bench.tick(10, seconds=0.5)
    assert sum(cluster in asked for asked in bench.counters.asked[3:]) <= 3


def test_what_does_not_answer_is_not_asked(bench: Bench) -> None:
    cluster = up(bench).cluster
    bench.health.sick[cluster] = "down"
    bench.counters.asked.clear()
    bench.tick()
    assert all(cluster not in asked for asked in bench.counters.asked)


def busy(bench: Bench, cluster: str, minutes: int, tokens_per_s: int) -> None:
    """Ticks of half a minute under more requests than the server can take."""
    made = 0
    for _ in range(2 * minutes + 1):
        tells(bench, cluster, made, running=8, waiting=9)
        bench.tick(seconds=30)
        made += 30 * tokens_per_s


def test_a_busy_server_teaches_how_fast_its_machine_is(bench: Bench) -> None:
    cluster = up(bench).cluster
    service = bench.loop.preview(bench_service(bench))
    estimated = service.candidates[0].tokens_per_s
    busy(bench, cluster, 11, int(estimated) // 2)
    with bench.store.read() as connection:
        (rate,) = read_rates(connection).values()
        assert read_beliefs(connection).rates == read_rates(connection)
    assert rate.busy_s == pytest.approx(1.1 * TRUST_S, rel=0.01)
    assert rate.made_s == pytest.approx(rate.busy_s / 2, rel=0.01)
    best = bench.loop.preview(bench_service(bench)).candidates[0]
    assert best.evidence.basis is Basis.MEASURED
    assert best.evidence.factor == 0.74
    assert float(best.tokens_per_s) == pytest.approx(float(estimated) * 0.74, rel=0.01)


def test_a_server_that_is_asked_for_less_teaches_nothing(bench: Bench) -> None:
    cluster = up(bench).cluster
    for made in range(12):
        tells(bench, cluster, made, running=1)
        bench.tick()
    with bench.store.read() as connection:
        assert read_rates(connection) == {}


def test_a_decision_under_measured_rates_is_replayed_byte_for_byte(bench: Bench) -> None:
    cluster = up(bench).cluster
    busy(bench, cluster, 2, 1000)
    bench.order(2)
    bench.tick()
    with bench.store.read() as connection:
        row = journal.decisions(connection, "chat")[0]
        given = journal.inputs(connection, row.id)
    assert row.plan.candidates[0].evidence.basis is not Basis.ESTIMATED
    assert given.beliefs.rates
    assert journal.encode(replay(given)) == journal.encode(row.plan)


def test_pools_and_rates_are_kept_apart(bench: Bench) -> None:
    cluster = up(bench).cluster
    busy(bench, cluster, 1, 1000)
    with bench.store.read() as connection:
        before = read_rates(connection)
    bench.counters.tells.clear()
    fake(bench).lose(cluster)
    bench.tick(3)
    with bench.store.read() as connection:
        assert read_rates(connection) == before
        assert read_beliefs(connection).pools


def test_the_tokens_of_the_last_hour_cost_what_the_machines_did(bench: Bench) -> None:
    with bench.store.read() as connection:
        assert served_now(connection, bench.clock.now()) == {}
    cluster = up(bench).cluster
    for count in range(31):
        tells(bench, cluster, 2000 * count, running=2, waiting=1)
        bench.tick(seconds=60)
    with bench.store.read() as connection:
        found = served_now(connection, bench.clock.now())["chat"]
        nobody = served_now(connection, bench.clock.now() + timedelta(hours=3))["chat"]
    assert found.tokens == 60_000
    assert (found.running, found.waiting) == (2, 1)
    assert found.tokens_per_s == pytest.approx(2000 / 60, abs=0.1)
    # since the first reading: 31 minutes of a machine for 0.30 USD an hour
    assert found.usd == pytest.approx(Decimal("0.155"), abs=Decimal("0.001"))
    assert found.usd_per_mtok == pytest.approx(Decimal("2.583"), abs=Decimal("0.02"))
    assert (nobody.tokens, nobody.usd_per_mtok, nobody.tokens_per_s) == (0, None, None)
    assert nobody.usd == pytest.approx(Decimal("0.30"), abs=Decimal("0.001"))
