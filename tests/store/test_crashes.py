"""kill -9 between any two effects of the loop, with real processes as replicas.

A child process runs the loop and kills itself at its n-th effect (a commit, or a call of the
executor, before and after). Another run then finishes the work. Whatever n was: one server runs,
none is forgotten, and the journal knows them all.
"""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest
from ready_database import ready_sqlite

from arbiter.domain import Purchase, ReplicaState
from arbiter.executors.local import LocalExecutor
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from tests.store import crashing_loop
from tests.store.loops import ATLAS

MOST_EFFECTS = 60
FORK = multiprocessing.get_context("fork")  # a fresh interpreter for each case would cost seconds


def run(url: str, folder: Path, die_at: int, job: str) -> int:
    """Run the loop in a child; its exit status, negative for a signal."""
    child = FORK.Process(target=crashing_loop.main, args=(url, str(folder), die_at, job))
    child.start()
    child.join(60)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


@pytest.mark.timeout(480)
@pytest.mark.parametrize("job", ["up", "down", "hedge", "park", "start"])
def test_killed_at_every_effect(tmp_path: Path, job: str) -> None:
    killed, status = 0, None
    for die_at in range(1, MOST_EFFECTS):
        url = ready_sqlite(tmp_path / f"{job}{die_at}.db")
        folder = tmp_path / f"replicas-{job}-{die_at}"
        if job == "hedge":  # the cheapest place answers no launch
            folder.mkdir()
            (folder / "capacity.json").write_text('{"aws/eu-north-1/eun1-az1": "hangs"}')
        if job == "down":
            assert run(url, folder, 0, "up") == 0
        if job in ("park", "start"):
            assert run(url, folder, 0, "bought") == 0
        if job == "start":  # parked, and then spot is lost
            assert run(url, folder, 0, "park") == 0
            reclaim_spot(folder)
        status = run(url, folder, die_at, job)
        try:
            if status == -signal.SIGKILL:
                killed += 1
                assert run(url, folder, 0, job) == 0
            check(url, folder, job)
        finally:
            end_all(folder)
        if status == 0:
            break
    assert status == 0, "the job never ran to its end: raise MOST_EFFECTS"
    assert killed >= 5


def check(url: str, folder: Path, job: str) -> None:
    store = Store(url)
    executor = LocalExecutor(folder)
    try:
        with store.begin() as connection:
            owner = journal.owner(connection)
            replicas = fleet.replicas(connection, ATLAS, settled=True)
            still_open = journal.open_actions(connection, "chat")
        running = set(executor.inventory(owner))
        known = {one.cluster for one in replicas if one.state is not ReplicaState.TERMINATED}
        assert running == known, "what runs and what the journal knows differ"
        assert len(running) == {"down": 0, "park": 2}.get(job, 1)
        assert len(executor.standing()) == (0 if job == "down" else 1)
        assert job != "start" or [one.parked_at is None for one in replicas if one.state.alive] == [
            False
        ]
        assert not still_open
        if job != "down":
            assert [r.state for r in replicas if r.state.alive] == [ReplicaState.HEALTHY]
    finally:
        store.close()


def reclaim_spot(folder: Path) -> None:
    executor = LocalExecutor(folder)
    for cluster, key in executor.standing().items():
        if key.purchase is Purchase.SPOT:
            executor.reclaim(cluster)


def end_all(folder: Path) -> None:
    executor = LocalExecutor(folder)
    for cluster in [one.name for one in folder.iterdir() if one.name.startswith("arb-")]:
        executor.terminate(cluster)
