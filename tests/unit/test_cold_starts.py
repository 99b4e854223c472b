"""What launches took, and what is to be expected of the next one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from arbiter.cold_starts import NEWEST, ColdStarts, Key, measured, progress
from arbiter.domain import Purchase, Replica, ReplicaState
from tests.store.loops import standing_offer

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SPOT, BOUGHT = Purchase.SPOT, Purchase.ON_DEMAND
NORTH: Key = ("tiny", "aws", "eu-north-1", SPOT)
WEST: Key = ("tiny", "aws", "eu-west-1", SPOT)


def offer(region: str = "eu-north-1", purchase: Purchase = SPOT):  # type: ignore[no-untyped-def]
    return standing_offer(region, None, purchase)


def test_medians_of_the_newest_launches_count() -> None:
    old = [(NORTH, 9000.0, 9000.0)] * 5
    new = [(NORTH, 40.0 + n, 100.0) for n in range(NEWEST)]
    (found,) = measured([*new, *old]).measured
    assert (found.machine_s, found.server_s, found.count) == (49.5, 100.0, NEWEST)
    assert found.machine_slow_s == 40.0 + NEWEST - 1
    assert found.total_s == 149.5


def test_what_is_not_measured_is_unknown_and_not_zero() -> None:
    assert ColdStarts().of("tiny", offer()) is None
    assert measured([(NORTH, 40, 100)]).of("llama8b", offer()) is None


@pytest.mark.parametrize(
    ("asked", "machine_s"),
    [
        (offer(), 40),  # the very region, bought the same way
        (offer(purchase=BOUGHT), 40),  # the region, bought otherwise
        (offer("eu-central-1"), 50),  # the provider: (40 + 2 x 55) / 3
    ],
)
def test_the_nearest_measurement_is_taken(asked, machine_s) -> None:  # type: ignore[no-untyped-def]
    known = measured([(NORTH, 40, 100), (WEST, 55, 100), (WEST, 55, 100)])
    found = known.of("tiny", asked)
    assert found is not None
    assert found.machine_s == machine_s


def test_another_provider_tells_of_the_model_where_nothing_else_does() -> None:
    gcp: Key = ("tiny", "gcp", "europe-west4", SPOT)
    found = measured([(gcp, 70, 200)]).of("tiny", offer())
    assert found is not None
    assert (found.provider, found.total_s) == ("gcp", 270)


def test_a_launch_shows_its_phase_and_what_is_usual() -> None:
    launched = Replica("c", "chat", offer(), None, ReplicaState.LAUNCHING, NOW, NOW)
    known, starts = measured([(NORTH, 40, 100)]), measured([(NORTH, 15, 50)])
    later = NOW + timedelta(seconds=30)
    shown = progress(launched, "tiny", known, starts, later)
    assert str(shown) == "machine for 30 s of usually 40 s"
    assert str(progress(launched, "tiny", ColdStarts(), starts, later)) == "machine for 30 s"
    starting = replace(launched, state=ReplicaState.STARTING, up_at=NOW + timedelta(seconds=10))
    shown = progress(starting, "tiny", known, starts, later)
    assert str(shown) == "server for 20 s of usually 100 s"
    healthy = replace(launched, state=ReplicaState.HEALTHY)
    assert progress(healthy, "tiny", known, starts, later) is None


def test_a_parked_machine_is_told_by_starts_alone() -> None:
    launched = Replica("c", "chat", offer(), None, ReplicaState.LAUNCHING, NOW, NOW)
    started = replace(launched, parked_at=NOW - timedelta(hours=1))
    known, starts = measured([(NORTH, 40, 100)]), measured([(NORTH, 15, 50)])
    later = NOW + timedelta(seconds=30)
    shown = progress(started, "tiny", known, starts, later)
    assert str(shown) == "machine for 30 s of usually 15 s"
    assert str(progress(started, "tiny", known, ColdStarts(), later)) == "machine for 30 s"
