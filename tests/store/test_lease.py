"""One arbiter acts on a database at a time."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update

from arbiter.lease import LASTS, Lease
from arbiter.store.engine import Store
from arbiter.store.tables import lease as table
from arbiter.testing import FakeClock


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def test_the_second_waits_until_the_first_gives_back(store: Store) -> None:
    clock = FakeClock()
    first, second = Lease(store, clock), Lease(store, clock)
    assert first.acquire()
    assert not second.acquire()
    assert first.acquire(), "the holder renews"
    assert second.holder_now() == first.holder
    first.release()
    assert second.acquire()


def test_a_lease_that_is_not_renewed_runs_out(store: Store) -> None:
    clock = FakeClock()
    first, second = Lease(store, clock), Lease(store, clock)
    assert first.acquire()
    clock.advance(LASTS.total_seconds() + 1)
    assert second.holder_now() is None
    assert second.acquire()
    assert not first.acquire(), "what was lost is not taken back"


def test_a_holder_whose_process_is_gone_does_not_count(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, alive = Lease(store, FakeClock()), Lease(store, FakeClock())
    dead.holder = f"{socket.gethostname()}:{child.pid}:0"
    assert dead.acquire()
    assert alive.acquire()


def test_a_holder_on_another_machine_is_believed(store: Store) -> None:
    there, here = Lease(store, FakeClock()), Lease(store, FakeClock())
    there.holder = "elsewhere.example:1:0"
    assert there.acquire()
    assert not here.acquire()


def test_a_lease_from_the_future_does_not_lock_for_ever(store: Store) -> None:
    clock = FakeClock()
    first, second = Lease(store, clock), Lease(store, clock)
    assert first.acquire()
    with store.begin() as connection:
        connection.execute(update(table).values(expires_at=clock.now() + timedelta(days=900)))
    assert second.acquire()
