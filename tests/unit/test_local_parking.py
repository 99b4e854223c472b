"""Clusters of the local executor that are stopped and started again, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from launch_specs import CLUSTER, a_spec
from test_local_executor import (
    _program,
    answers,
    launched,
    phase,
    processes,
    server_pid,
    sight,
    until,
)

from arbiter.domain import Purchase
from arbiter.errors import NoCapacity
from arbiter.executors.base import LaunchSpec, Phase
from arbiter.executors.local import LocalExecutor


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder; what runs in it is ended, and a test that leaves anything behind fails."""
    folder = tmp_path / "clusters"
    yield folder
    executor = LocalExecutor(folder, drain_s=0)
    for cluster in executor.inventory("me"):
        executor.terminate(cluster)
    assert processes(folder) == []


def bought(spec: LaunchSpec | None = None) -> LaunchSpec:
    spec = spec or a_spec()
    return replace(spec, offer=replace(spec.offer, purchase=Purchase.ON_DEMAND))


def test_a_parked_cluster_keeps_its_folder_and_is_started_there(state: Path) -> None:
    executor = LocalExecutor(state)
    assert executor.can_park(bought().offer) is None
    assert executor.can_park(a_spec().offer) is not None
    first = launched(executor, bought())
    (state / CLUSTER / "weights").touch()
    executor.park(CLUSTER)
    executor.park(CLUSTER)
    assert phase(executor) is Phase.PARKED
    assert not answers(first.endpoint)
    assert processes(state) == []
    assert executor.inventory("me") == [CLUSTER]
    again = launched(executor, bought())
    assert again.phase is Phase.UP
    until(lambda: answers(again.endpoint))
    assert (state / CLUSTER / "weights").exists()
    os.kill(server_pid(state), signal.SIGKILL)
    until(lambda: phase(executor) is Phase.GONE)  # and not parked, which it is no more


def test_a_parked_cluster_is_ended(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor, bought())
    executor.park(CLUSTER)
    executor.terminate(CLUSTER)
    assert sight(executor) is None
    assert executor.inventory("me") == []
    executor.park(CLUSTER)
    assert sight(executor) is None


def test_a_start_that_is_refused_leaves_it_parked(state: Path) -> None:
    executor = LocalExecutor(state)
    launched(executor, bought())
    executor.park(CLUSTER)
    executor.set_capacity({"aws/eu-north-1": "none"})
    with pytest.raises(NoCapacity):
        executor.submit(bought())
    assert phase(executor) is Phase.PARKED


@pytest.mark.parametrize("step", ["asked", "stopped", "parked"])
def test_a_caller_killed_at_any_step_of_a_park_is_repaired_by_the_next(
    state: Path, step: str
) -> None:
    executor = LocalExecutor(state)
    launched(executor, bought())
    killed = subprocess.run(_program(state, "executor.park(spec.cluster)", step), timeout=30)
    assert killed.returncode == -signal.SIGKILL
    executor.park(CLUSTER)
    assert phase(executor) is Phase.PARKED
    assert launched(executor, bought()).phase is Phase.UP
