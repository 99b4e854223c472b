"""Machines that SkyPilot stops and starts again, against a SkyPilot in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sky_fake import FakeSky
from test_skypilot_executor import CLUSTER, STOCKHOLM, phase, spec

from arbiter.domain import Purchase
from arbiter.errors import LaunchError, NoCapacity
from arbiter.executors.base import Phase
from arbiter.executors.sky_client import ClusterState
from arbiter.executors.skypilot import STOPS, SkyPilotExecutor


def test_a_stopped_machine_is_parked_and_nothing_of_it_is_ended(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    executor.park(CLUSTER)
    executor.park(CLUSTER)
    assert phase(executor) is Phase.PARKED
    assert executor.inventory("0a1b2c3d") == [CLUSTER]
    sky.restart()
    assert phase(executor) is Phase.PARKED
    assert sky.downs(CLUSTER) == 0
    executor.terminate(CLUSTER)
    assert sky.machines == set()
    executor.park(CLUSTER)  # what is not there needs no stop


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_parked_machine_is_started_by_a_launch_under_its_name(
    sky: FakeSky, executor: SkyPilotExecutor, forgotten: bool
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    executor.park(CLUSTER)
    if forgotten:
        sky.restart()
    started = executor.submit(spec())
    assert executor.submit(spec()) == started
    assert len(sky.tasks[CLUSTER]) == 2
    assert phase(executor) is Phase.PENDING
    sky.come_up(CLUSTER)
    assert executor.submit(spec()) == started
    assert phase(executor) is Phase.UP
    assert len(sky.tasks[CLUSTER]) == 2


def test_a_start_that_is_refused_leaves_it_parked_with_the_reason(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    executor.park(CLUSTER)
    executor.submit(spec())
    sky.fail(CLUSTER, NoCapacity("none left"))
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert seen.phase is Phase.PARKED
    assert isinstance(seen.error, NoCapacity)
    assert sky.downs(CLUSTER) == 0
    executor.submit(spec())
    assert len(sky.tasks[CLUSTER]) == 3


def test_what_was_stopped_before_it_was_whole_is_ended(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.provision(CLUSTER)
    sky.fail(CLUSTER, LaunchError("its setup failed"))
    sky.set_state(CLUSTER, ClusterState.STOPPED)
    assert phase(executor) is Phase.PENDING
    assert sky.downs(CLUSTER) == 1


def test_somebody_elses_machine_is_not_stopped(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec(owner="ffffffff"))
    sky.come_up(CLUSTER)
    executor.park(CLUSTER)
    assert phase(executor) is Phase.UP


def test_only_on_demand_machines_of_clouds_that_stop_them_are_parked(
    executor: SkyPilotExecutor,
) -> None:
    bought = replace(STOCKHOLM, purchase=Purchase.ON_DEMAND)
    assert executor.can_park(bought) is None
    assert executor.can_park(STOCKHOLM) == "spot machines are not stopped"
    assert "cannot stop" in (executor.can_park(replace(bought, provider="lambda")) or "")


@pytest.mark.parametrize(
    ("cloud", "stops"),
    [(name, True) for name in sorted(STOPS)]
    + [("lambda", False), ("runpod", False), ("verda", False)],
)
def test_skypilot_itself_says_which_clouds_stop_machines(cloud: str, stops: bool) -> None:
    sky = pytest.importorskip("sky")
    from sky.utils.registry import CLOUD_REGISTRY

    feature = sky.clouds.CloudImplementationFeatures.STOP
    found = CLOUD_REGISTRY.from_str(cloud)
    features = found._unsupported_features_for_resources(sky.Resources(cloud=found))
    assert (feature not in features) is stops
