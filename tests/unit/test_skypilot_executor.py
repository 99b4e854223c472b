"""The SkyPilot executor against a SkyPilot in memory: what it is told, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sky_fake import FakeSky, KnownZones

from arbiter.domain import Offer, Place, Purchase
from arbiter.errors import ArbiterError, LaunchError, LaunchRejected, NoCapacity
from arbiter.executors.base import Executor, LaunchSpec, Phase
from arbiter.executors.sky_client import ClusterState
from arbiter.executors.skypilot import SkyPilotExecutor, pinned

CLUSTER = "arb-0a1b2c3d-chat-1-g1"
TASK = """
name: task
resources:
  infra: aws/eu-north-1
  accelerators: L40S:1
  ports: 8000
  labels: {tag-team: a}
secrets: {ARBITER_API_KEY: null}
run: serve
"""
STOCKHOLM = Offer(
    provider="aws",
    tier="standard",
    region="eu-north-1",
    zone="eun1-az1",
    instance_type="g6e.xlarge",
    gpu="L40S",
    gpu_count=1,
    purchase=Purchase.SPOT,
    place=Place("aws", "eu-north-1", country="SE"),
)


def spec(cluster: str = CLUSTER, **changes: Any) -> LaunchSpec:
    base = LaunchSpec(
        cluster=cluster,
        owner="0a1b2c3d",
        service="chat",
        offer=STOCKHOLM,
        price=None,
        task=TASK,
        port=8000,
        model="tiny",
        secrets={"ARBITER_API_KEY": "s3cret", "HF_TOKEN": "other"},
    )
    return replace(base, **changes)


def phase(executor: SkyPilotExecutor, cluster: str = CLUSTER) -> Phase | None:
    seen = executor.observe([cluster]).get(cluster)
    return seen.phase if seen else None


def test_it_is_an_executor(executor: SkyPilotExecutor) -> None:
    assert isinstance(executor, Executor)


# --- submit -------------------------------------------------------------------------------------


def test_a_launch_is_held_to_its_very_offer(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    (task,) = sky.tasks[CLUSTER]
    assert task["resources"] == {
        "infra": "aws/eu-north-1/eu-north-1c",  # this account's name of eun1-az1
        "instance_type": "g6e.xlarge",
        "accelerators": "L40S:1",
        "use_spot": True,
        "ports": 8000,
        "labels": {"tag-team": "a", "arbiter-owner": "0a1b2c3d", "arbiter-port": "8000"},
    }


def test_only_the_secrets_that_the_task_names_are_handed_over(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    assert sky.secrets[CLUSTER] == {"ARBITER_API_KEY": "s3cret"}
    assert "s3cret" not in str(sky.tasks)


def test_a_secret_without_a_value_is_refused_before_anything_starts(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    with pytest.raises(LaunchRejected, match="needs the secret ARBITER_API_KEY"):
        executor.submit(spec(secrets={}))
    assert sky.tasks == {}


def test_asking_again_launches_nothing(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    first = executor.submit(spec())
    assert executor.submit(spec()) == first
    sky.come_up(CLUSTER)
    assert executor.submit(spec()) == first
    assert len(sky.tasks[CLUSTER]) == 1


def test_a_lost_answer_is_found_again(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    sky.lose_answer = True
    with pytest.raises(ArbiterError) as lost:
        executor.submit(spec())
    assert not isinstance(lost.value, LaunchError)  # whether it started is not known
    assert phase(executor) is Phase.PENDING
    assert executor.submit(spec()) == executor.observe([CLUSTER])[CLUSTER].request_id
    assert len(sky.tasks[CLUSTER]) == 1


def test_a_cluster_whose_request_was_forgotten_is_not_launched_again(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.restart()
    assert executor.submit(spec())
    assert len(sky.tasks[CLUSTER]) == 1


def test_a_launch_that_failed_is_not_repeated_under_its_name(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    first = executor.submit(spec())
    sky.fail(CLUSTER, NoCapacity("none"))
    assert executor.submit(spec()) == first
    assert len(sky.tasks[CLUSTER]) == 1


def test_what_was_launched_stays_launched_where_it_would_be_refused_by_now(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    first = executor.submit(spec())
    blind = SkyPilotExecutor(sky, KnownZones(LaunchRejected("no credentials any more")))
    assert blind.submit(spec(secrets={})) == first
    assert phase(blind) is Phase.PENDING


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("a: [", "not YAML"),
        ("just words", "no resources"),
        ("run: x", "no resources"),
        ("resources: {any_of: [{infra: aws}]}", "any_of"),
        ("resources: {ordered: [{infra: aws}]}", "ordered"),
        ("{resources: {}, num_nodes: 2}", "num_nodes"),
    ],
)
def test_a_task_that_leaves_a_choice_is_refused(
    sky: FakeSky, executor: SkyPilotExecutor, task: str, why: str
) -> None:
    with pytest.raises(LaunchRejected, match=why):
        executor.submit(spec(task=task))
    assert sky.tasks == {}


def test_a_zone_that_the_account_does_not_have_is_refused(executor: SkyPilotExecutor) -> None:
    with pytest.raises(LaunchRejected, match="no zone eun1-az9 in eu-north-1"):
        executor.submit(spec(offer=replace(STOCKHOLM, zone="eun1-az9")))


def test_where_a_zone_has_no_name_nothing_is_launched_elsewhere(sky: FakeSky) -> None:
    silent = SkyPilotExecutor(sky, KnownZones(ArbiterError("AWS cannot be asked")))
    with pytest.raises(ArbiterError, match="AWS cannot be asked"):
        silent.submit(spec())
    assert sky.tasks == {}


@pytest.mark.parametrize(
    ("offer", "infra"),
    [
        (("aws", "eu-north-1", None, "SE"), "aws/eu-north-1"),
        (("gcp", "europe-west4", "europe-west4-a", "NL"), "gcp/europe-west4/europe-west4-a"),
        (("azure", "swedencentral", None, "SE"), "azure/swedencentral"),
        (("lambda", "europe-central-1", None, "DE"), "lambda/europe-central-1"),
        (("runpod", "EUR-IS-1", None, "IS"), "runpod/IS/EUR-IS-1"),
        (("runpod", "US-DE-1", None, "US"), "runpod/US/US-DE-1"),
    ],
)
def test_every_cloud_is_pinned_in_skypilots_words(
    offer: tuple[str, str, str | None, str], infra: str
) -> None:
    provider, region, zone, country = offer
    place = Place(provider, region, country=country)
    there = replace(STOCKHOLM, provider=provider, region=region, zone=zone, place=place)
    assert pinned(spec(offer=there), KnownZones())["resources"]["infra"] == infra


def test_a_data_centre_without_a_country_is_refused() -> None:
    nowhere = replace(STOCKHOLM, provider="runpod", region="XX-1", zone=None, place=Place("x", "y"))
    with pytest.raises(LaunchRejected, match="country of runpod/XX-1 is not known"):
        pinned(spec(offer=nowhere), KnownZones())


def test_on_demand_is_bought_on_demand() -> None:
    offer = replace(STOCKHOLM, purchase=Purchase.ON_DEMAND)
    assert pinned(spec(offer=offer), KnownZones())["resources"]["use_spot"] is False


# --- observe ------------------------------------------------------------------------------------


def test_a_launch_is_pending_until_it_ends(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    request = executor.submit(spec())
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert (seen.phase, seen.request_id, seen.progress) == (Phase.PENDING, request, "working")
    sky.provision(CLUSTER)
    sky.set_state(CLUSTER, ClusterState.UP)  # SkyPilot says so before the launch is over
    assert phase(executor) is Phase.PENDING


def test_what_is_up_is_read_back(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    request = executor.submit(spec())
    sky.come_up(CLUSTER)
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert seen.phase is Phase.UP
    assert seen.request_id == request
    assert seen.endpoint == "http://10.0.0.1:8000"
    assert (seen.region, seen.zone) == ("eu-north-1", "eun1-az1")


def test_where_it_really_runs_is_told_not_where_it_was_asked_for(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.move(CLUSTER, "eu-north-1", "eu-north-1a")
    assert executor.observe([CLUSTER])[CLUSTER].zone == "eun1-az2"
    sky.move(CLUSTER, "us-east-1", "us-east-1a")
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert (seen.region, seen.zone) == ("us-east-1", None)


def test_a_data_centre_of_runpod_is_read_back_as_our_region(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    place = Place("runpod", "EUR-IS-1", country="IS")
    there = replace(STOCKHOLM, provider="runpod", region="EUR-IS-1", zone=None, place=place)
    executor.submit(spec(offer=there))
    sky.come_up(CLUSTER)
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert (seen.region, seen.zone) == ("EUR-IS-1", None)


def test_an_endpoint_is_asked_for_once(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    for _ in range(3):
        executor.observe([CLUSTER])
    assert sky.asked_for_endpoints == 1


def test_a_reclaimed_machine_is_gone(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    assert phase(executor) is Phase.UP
    sky.reclaim(CLUSTER)
    assert phase(executor) is Phase.GONE
    assert executor.inventory("0a1b2c3d") == []


def test_a_failed_launch_says_why(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    sky.fail(CLUSTER, NoCapacity("none there"))
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert seen.phase is Phase.FAILED
    assert isinstance(seen.error, NoCapacity)


def test_a_failed_launch_that_the_books_call_up_is_ended_before_it_is_called_failed(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.provision(CLUSTER)
    sky.set_state(CLUSTER, ClusterState.UP)
    sky.fail(CLUSTER, LaunchError("the runtime did not start"))
    assert phase(executor) is Phase.PENDING
    assert phase(executor) is Phase.PENDING
    assert sky.downs(CLUSTER) == 1  # it is not asked for twice
    sky.finish_downs()
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert seen.phase is Phase.FAILED
    assert str(seen.error) == "the runtime did not start"
    assert sky.machines == set()


def test_what_could_not_be_cleared_away_is_tried_again(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.provision(CLUSTER)
    sky.fail(CLUSTER, LaunchError("no"))
    sky.deaf = True
    for _ in range(3):
        assert phase(executor) is Phase.PENDING
        sky.finish_downs()
    assert sky.downs(CLUSTER) == 3
    assert executor.inventory("0a1b2c3d") == [CLUSTER]


def test_a_cluster_that_skypilot_finds_broken_is_left_to_the_health_check(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.broken = True
    sky.set_state(CLUSTER, ClusterState.INIT, "ray does not answer")
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert (seen.phase, seen.progress) == (Phase.UP, "ray does not answer")
    assert sky.downs(CLUSTER) == 0


def test_a_name_that_was_never_submitted_is_absent(executor: SkyPilotExecutor) -> None:
    assert executor.observe(["arb-0a1b2c3d-other-1-g1"]) == {}
    assert executor.observe([]) == {}


def test_an_api_server_that_is_away_proves_nothing(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.unreachable = ArbiterError("SkyPilot's API server does not answer", "sky api start")
    for call in (
        lambda: executor.observe([CLUSTER]),
        lambda: executor.submit(spec()),
        lambda: executor.terminate(CLUSTER),
        lambda: executor.inventory("0a1b2c3d"),
    ):
        with pytest.raises(ArbiterError, match="sky api start") as away:
            call()
        assert not isinstance(away.value, LaunchError)
    sky.unreachable = None
    assert phase(executor) is Phase.UP


# --- the API server restarts --------------------------------------------------------------------


def test_what_was_up_is_still_up_after_a_restart(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.restart()
    seen = executor.observe([CLUSTER])[CLUSTER]
    assert (seen.phase, seen.request_id) == (Phase.UP, None)
    assert seen.endpoint == "http://10.0.0.1:8000"


def test_a_launch_that_a_restart_cut_short_is_cleared_away(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.provision(CLUSTER)
    sky.restart()
    assert phase(executor) is Phase.PENDING
    sky.finish_downs()
    assert phase(executor) is None
    assert sky.machines == set()


def test_a_launch_forgotten_before_it_began_may_be_submitted_again(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.restart()
    assert phase(executor) is None
    executor.submit(spec())
    assert phase(executor) is Phase.PENDING


def test_a_broken_cluster_is_left_to_the_health_check_also_long_after_its_launch(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.forget(CLUSTER)
    sky.set_state(CLUSTER, ClusterState.INIT, "ray does not answer")
    assert phase(executor) is Phase.UP
    assert sky.downs(CLUSTER) == 0


def test_what_is_reclaimed_long_after_its_launch_is_gone(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.forget(CLUSTER)
    sky.reclaim(CLUSTER)
    assert phase(executor) is Phase.GONE


# --- terminate ----------------------------------------------------------------------------------


def test_terminate_ends_what_is_up(sky: FakeSky, executor: SkyPilotExecutor) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    executor.terminate(CLUSTER)
    assert sky.machines == set()
    assert phase(executor) is None
    executor.terminate(CLUSTER)


def test_terminate_cancels_a_launch_and_ends_what_it_made(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.provision(CLUSTER)
    executor.terminate(CLUSTER)
    assert sky.machines == set()
    assert executor.inventory("0a1b2c3d") == []
    assert phase(executor) is None


def test_terminate_of_what_never_was_is_success(executor: SkyPilotExecutor) -> None:
    executor.terminate("arb-0a1b2c3d-other-1-g1")


def test_terminate_does_not_believe_what_the_books_contradict(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    executor.submit(spec())
    sky.come_up(CLUSTER)
    sky.deaf = True
    with pytest.raises(ArbiterError, match="still stands"):
        executor.terminate(CLUSTER)
    sky.deaf = False
    executor.terminate(CLUSTER)
    assert sky.machines == set()


def test_a_cluster_that_was_ended_may_be_launched_again(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    first = executor.submit(spec())
    sky.come_up(CLUSTER)
    executor.terminate(CLUSTER)
    assert executor.submit(spec()) != first
    assert len(sky.tasks[CLUSTER]) == 2
    assert phase(executor) is Phase.PENDING


# --- inventory ----------------------------------------------------------------------------------


def test_the_inventory_has_everything_of_the_owner_and_nothing_of_others(
    sky: FakeSky, executor: SkyPilotExecutor
) -> None:
    half, up, queued = (f"arb-0a1b2c3d-chat-{n}-g1" for n in (1, 2, 3))
    for name in (half, up, queued):
        executor.submit(spec(name))
    sky.provision(half)
    sky.come_up(up)
    executor.submit(spec("arb-ffffffff-chat-1-g1", owner="ffffffff"))
    sky.come_up("arb-ffffffff-chat-1-g1")
    executor.submit(spec("renamed"))
    sky.come_up("renamed")
    assert executor.inventory("0a1b2c3d") == [half, up, queued, "renamed"]
    sky.restart()
    assert executor.inventory("0a1b2c3d") == [half, up, "renamed"]
