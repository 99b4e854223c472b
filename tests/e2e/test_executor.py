"""The SkyPilot executor with the real SkyPilot, on machines that one can log in to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from simaws.world import World

from arbiter.domain import Offer, Place, Purchase
from arbiter.errors import LaunchRejected, NoCapacity
from arbiter.executors.base import Executor, LaunchSpec, Phase, Sighting

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

OWNER = "0e2e0e2e"
TASK = """
resources: {accelerators: "L4:1", ports: 8000, disk_size: 32}
run: exec python3 -m http.server 8000
"""
STOCKHOLM = Offer(
    provider="aws",
    tier="standard",
    region="eu-north-1",
    zone="eun1-az2",
    instance_type="g6.xlarge",
    gpu="L4",
    gpu_count=1,
    purchase=Purchase.SPOT,
    place=Place("aws", "eu-north-1", country="SE"),
)


def spec(number: int, offer: Offer = STOCKHOLM) -> LaunchSpec:
    return LaunchSpec(
        cluster=f"arb-{OWNER}-exec-{number}",
        owner=OWNER,
        service="exec",
        offer=offer,
        price=None,
        task=TASK,
        port=8000,
        model="none",
    )


def watched(
    executor: Executor, cluster: str, until: Callable[[Sighting | None], bool], seconds: float
) -> Sighting | None:
    """The first sighting that is what is waited for; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        seen = executor.observe([cluster]).get(cluster)
        if until(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(1)


def settled(seen: Sighting | None) -> bool:
    return seen is None or seen.phase is not Phase.PENDING


def test_the_life_of_a_cluster(world: World, executor: Executor) -> None:
    wanted = spec(1)
    assert executor.observe([wanted.cluster]) == {}
    request = executor.submit(wanted)
    assert executor.submit(wanted) == request
    assert executor.inventory(OWNER) == [wanted.cluster]

    seen = watched(executor, wanted.cluster, settled, 180)
    assert seen is not None
    assert (seen.phase, seen.region, seen.zone) == (Phase.UP, "eu-north-1", "eun1-az2")
    (machine,) = world.instances()
    assert machine["Placement"]["AvailabilityZone"] == "eu-north-1b"
    assert machine["InstanceLifecycle"] == "spot"
    assert seen.endpoint == f"http://{machine['PublicIpAddress']}:8000"
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["arbiter-owner"] == OWNER

    world.reclaim(machine)
    gone = watched(executor, wanted.cluster, lambda s: s is None or s.phase is not Phase.UP, 60)
    assert gone is not None
    assert gone.phase is Phase.GONE
    assert executor.inventory(OWNER) == []
    executor.terminate(wanted.cluster)


def test_a_full_zone_is_no_capacity_and_leaves_nothing(world: World, executor: Executor) -> None:
    world.set_full({"eu-north-1b": ["g6.xlarge"]})
    before = len(world.events())
    wanted = spec(2)
    executor.submit(wanted)
    seen = watched(executor, wanted.cluster, settled, 120)
    assert seen is not None
    assert seen.phase is Phase.FAILED
    assert isinstance(seen.error, NoCapacity)
    asked = [event for event in world.events()[before:] if event.startswith("FULL")]
    assert asked
    assert {event.split()[1] for event in asked} == {"eu-north-1b"}  # and nowhere else
    assert executor.inventory(OWNER) == []


def test_a_machine_that_aws_does_not_have_is_rejected(executor: Executor) -> None:
    with pytest.raises(LaunchRejected, match=r"g9\.xlarge"):
        executor.submit(spec(3, replace(STOCKHOLM, instance_type="g9.xlarge")))
    assert executor.inventory(OWNER) == []


@pytest.mark.parametrize("number", [4, 5, 6])
def test_a_launch_is_ended_in_the_middle(world: World, executor: Executor, number: int) -> None:
    wanted = spec(number)
    booted = len(world.booted())
    executor.submit(wanted)
    if number == 5:  # as soon as there is a machine
        wait_for(lambda: len(world.booted()) > booted)
    if number == 6:  # while SkyPilot sets it up
        wait_for(lambda: len(world.booted()) > booted)
        time.sleep(8)
    executor.terminate(wanted.cluster)
    assert world.instances() == []
    assert executor.inventory(OWNER) == []


def test_a_launch_that_the_api_server_did_not_survive_leaves_nothing(
    world: World, executor: Executor
) -> None:
    up, half = spec(7), spec(8)
    executor.submit(up)
    assert watched(executor, up.cluster, settled, 180) is not None
    booted = len(world.booted())
    executor.submit(half)
    wait_for(lambda: len(world.booted()) > booted)
    world.stop_api_server()
    world.start_api_server()

    seen = executor.observe([up.cluster])[up.cluster]
    assert (seen.phase, seen.zone) == (Phase.UP, "eun1-az2")
    watched(executor, half.cluster, settled, 120)
    assert [machine["PublicIpAddress"] for machine in world.instances()] == [
        str(seen.endpoint).removeprefix("http://").removesuffix(":8000")
    ]
    assert executor.inventory(OWNER) == [up.cluster]
    executor.terminate(up.cluster)
    assert world.instances() == []


def wait_for(true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
