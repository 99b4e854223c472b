"""Whose a provider's machine is, and which cluster's."""

from __future__ import annotations

import pytest

from arbiter.inventory import Machine, belongs, is_ours, unowned

OWNER = "0a1b2c3d"
CLUSTER = f"arb-{OWNER}-chat-1"


def machine(name: str = "", **tags: str) -> Machine:
    return Machine("aws", "i-1", "eu-north-1", name, **tags)


@pytest.mark.parametrize(
    ("one", "ours"),
    [
        (machine(owner=OWNER), True),
        (machine(f"{CLUSTER}-ab12cd34-head", owner="ffffffff"), False),  # the tag decides
        (machine(f"{CLUSTER}-ab12cd34-head"), True),
        (machine("arb-ffffffff-chat-1-ab12cd34-head"), False),
        (machine("somebody-elses"), False),
        (machine(""), False),
    ],
)
def test_a_machine_is_ours_by_its_tag_or_else_by_its_name(one: Machine, ours: bool) -> None:
    assert is_ours(one, OWNER) is ours


@pytest.mark.parametrize(
    ("one", "cluster", "its"),
    [
        (machine(owner=OWNER, cluster=CLUSTER), CLUSTER, True),
        (machine(owner=OWNER, cluster=CLUSTER), f"{CLUSTER}2", False),
        (machine(f"{CLUSTER}-ab12cd34-head"), CLUSTER, True),
        (machine(f"{CLUSTER}-ab12cd34-head"), f"arb-{OWNER}-chat-12", False),
        (machine(f"arb-{OWNER}-chat-12-ab12cd34-head"), CLUSTER, False),
        (machine(f"arb-{OWNER}-a-b-1-ab12cd34-worker"), f"arb-{OWNER}-a.b-1", True),
        # Lambda's names end at 57 characters; SkyPilot cuts the service and adds a hash
        (machine(f"arb-{OWNER}-{'x' * 32}-k3-ab12cd34-head"), f"arb-{OWNER}-{'x' * 40}-7", True),
        (machine(f"arb-{OWNER}-{'x' * 32}-k3-ab12cd34-head"), f"arb-{OWNER}-{'y' * 40}-7", False),
    ],
)
def test_a_machine_is_known_by_its_cluster(one: Machine, cluster: str, its: bool) -> None:
    assert belongs(one, cluster) is its


def test_what_belongs_to_no_cluster_is_found_and_what_is_anothers_is_not() -> None:
    known = machine(owner=OWNER, cluster=CLUSTER)
    lost = Machine("gcp", "n", "europe-west4", owner=OWNER, cluster=f"arb-{OWNER}-chat-9")
    other = Machine("aws", "i-3", "eu-west-1", owner="ffffffff", cluster="arb-ffffffff-x-1")
    assert unowned([known, lost, other], OWNER, {CLUSTER}) == {"gcp/europe-west4/n": lost}
