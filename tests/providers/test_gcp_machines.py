"""GCP: the shapes of machines, and where their GPU is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from stand_in_gcp import recorded

from arbiter.errors import BadAnswer
from arbiter.gpus import GPUS
from arbiter_providers._regions import european_regions
from arbiter_providers.gcp_machines import (
    MACHINES,
    REGIONS,
    Catalogue,
    Machine,
    next_list,
    read_catalogue,
)


def machine(name: str) -> Machine:
    return MACHINES[name]


def listed(*machine_types: dict[str, Any], zone: str = "europe-west4-a") -> bytes:
    items = {f"zones/{zone}": {"machineTypes": machine_types}}
    return json.dumps({"items": items}).encode()


def placed(**zones: list[str]) -> bytes:
    items = {
        f"zones/{zone.replace('_', '-')}": {"acceleratorTypes": [{"name": name} for name in names]}
        for zone, names in zones.items()
    }
    return json.dumps({"items": items}).encode()


def g2(**changes: Any) -> dict[str, Any]:
    attached = [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}]
    sound = {"name": "g2-standard-4", "guestCpus": 4, "memoryMb": 16384, "accelerators": attached}
    return {**sound, **changes}


def read(*pages: bytes) -> Catalogue:
    return read_catalogue(pages, ())[0]


# --- the tables -------------------------------------------------------------------------------


def test_every_machine_of_the_table_has_a_gpu_of_the_vocabulary() -> None:
    assert {one.gpu for one in MACHINES.values()} <= set(GPUS)
    assert {one.accelerator for one in MACHINES.values()} == set(REGIONS)


@pytest.mark.parametrize(
    ("name", "gpus", "vcpus", "gib", "ssd"),
    [
        ("a2-highgpu-8g", 8, 96, 680, 0),
        ("a2-megagpu-16g", 16, 96, 1360, 0),
        ("a2-ultragpu-4g", 4, 48, 680, 1500),
        ("a3-highgpu-1g", 1, 26, 234, 750),
        ("a3-megagpu-8g", 8, 208, 1872, 6000),
        ("a3-ultragpu-8g", 8, 224, 2952, 12000),
        ("a4-highgpu-8g", 8, 224, 3968, 12000),
        ("g2-standard-32", 1, 32, 128, 0),
        ("g2-standard-96", 8, 96, 384, 0),
        ("g4-standard-384", 8, 384, 1440, 0),
    ],
)
def test_shapes(name: str, gpus: int, vcpus: int, gib: int, ssd: int) -> None:
    one = machine(name)
    assert (one.gpu_count, one.vcpus, one.memory_gib, one.ssd_gib) == (gpus, vcpus, gib, ssd)


def test_the_table_says_where_a_gpu_is() -> None:
    table = Catalogue()
    l4 = [region for region, one in table.pairs(european_regions("gcp")) if one.gpu == "L4"]
    assert set(l4) == {f"europe-west{n}" for n in (1, 2, 3, 4, 6)}
    assert table.stands_in(machine("a2-highgpu-1g"), "us-central1")
    assert not table.stands_in(machine("a2-highgpu-1g"), "europe-west1")
    assert not table.stands_in(machine("a3-highgpu-8g"), "us-central1")  # not known


def test_types_for_few_accounts_count_only_where_the_account_lists_them() -> None:
    assert not Catalogue().stands_in(machine("a3-edgegpu-8g"), "europe-west4")
    edge = g2(name="a3-edgegpu-8g")
    edge["accelerators"][0]["guestAcceleratorType"] = "nvidia-h100-80gb"
    catalogue = read(listed(edge))
    assert catalogue.stands_in(catalogue.machines["a3-edgegpu-8g"], "europe-west4")


# --- the account's lists ----------------------------------------------------------------------


def test_shapes_and_zones_of_the_recording() -> None:
    catalogue, skips = read_catalogue([recorded("machine-types")], [recorded("accelerator-types")])
    assert catalogue.whole
    assert sorted(catalogue.machines) == [
        "a2-highgpu-1g",
        "a2-ultragpu-1g",
        "a3-highgpu-8g",
        "g2-standard-4",
        "g2-standard-48",
        "g4-standard-48",
    ]
    assert all(catalogue.machines[name] == MACHINES[name] for name in catalogue.machines)
    zones = catalogue.zones_of(machine("g2-standard-4"), "europe-west4")
    assert zones == ("europe-west4-a", "europe-west4-b")
    assert not any(skip.malformed for skip in skips)
    assert {skip.reason for skip in skips} == {"not a GPU machine", "a fraction of a GPU"}


def test_both_lists_must_name_the_zone() -> None:
    catalogue, _ = read_catalogue([recorded("machine-types")], [recorded("accelerator-types")])
    h100 = machine("a3-highgpu-8g")
    assert catalogue.stands_in(h100, "europe-west4")
    assert not catalogue.stands_in(h100, "europe-west8")  # a machine type without its GPU
    assert catalogue.zones_of(h100, "europe-west8") == ()


def test_either_list_alone_is_better_than_the_table() -> None:
    by_machines = read(listed(g2(), zone="europe-west8-a"))
    assert by_machines.stands_in(machine("g2-standard-4"), "europe-west8")
    assert not by_machines.stands_in(machine("g2-standard-4"), "europe-west4")
    by_gpus, _ = read_catalogue((), [placed(europe_west9_b=["nvidia-l4"])])
    assert by_gpus.machines == MACHINES
    assert by_gpus.stands_in(machine("g2-standard-96"), "europe-west9")
    assert not by_gpus.stands_in(machine("g2-standard-96"), "europe-west4")


def test_zones_that_did_not_answer_make_the_lists_partial() -> None:
    body = json.loads(recorded("machine-types")) | {"unreachables": ["zones/europe-west4-c"]}
    assert not read(json.dumps(body).encode()).whole


def test_pages_add_up() -> None:
    catalogue = read(listed(g2()), listed(g2(), zone="europe-west4-b"))
    zones = catalogue.zones_of(machine("g2-standard-4"), "europe-west4")
    assert zones == ("europe-west4-a", "europe-west4-b")


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({}, "L4"),
        ({"name": "a5-highgpu-8g", "accelerators": [
            {"guestAcceleratorType": "nvidia-b300", "guestAcceleratorCount": 8}]}, "B300"),
        ({"name": "a4x-highgpu-4g", "architecture": "ARM64", "accelerators": [
            {"guestAcceleratorType": "nvidia-gb200", "guestAcceleratorCount": 4}]},
         "nvidia-gb200 (arm64)"),
        ({"name": "a9-x", "accelerators": [
            {"guestAcceleratorType": "nvidia-new", "guestAcceleratorCount": 1}]}, "nvidia-new"),
    ],
)  # fmt: skip
def test_the_name_of_a_gpu(changes: dict[str, Any], gpu: str) -> None:
    made = g2(**changes)
    assert read(listed(made)).machines[made["name"]].gpu == gpu


def test_local_ssd_of_a_new_type_is_taken_at_its_word() -> None:
    new = g2(name="g2-standard-5", bundledLocalSsds={"partitionCount": 2}, memoryMb=5120)
    found = read(listed(new)).machines["g2-standard-5"]
    assert (found.ssd_gib, found.memory_gib) == (750, Decimal(5))
    known = g2(bundledLocalSsds={"partitionCount": 2})
    assert read(listed(known)).machines["g2-standard-4"].ssd_gib == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accelerators": []}, "not a GPU machine"),
        ({"description": "Graphics Optimized: 1/2 NVIDIA GPU"}, "a fraction of a GPU"),
        ({"deprecated": {"state": "OBSOLETE"}}, "machine type that is no longer made"),
        ({"accelerators": [{"guestAcceleratorType": "nvidia-l4-vws", "guestAcceleratorCount": 1}]},
         "virtual workstation"),
        ({"accelerators": [{"guestAcceleratorType": "ct6e", "guestAcceleratorCount": 1}]},
         "not a GPU machine"),
    ],
)  # fmt: skip
def test_what_is_left_out(changes: dict[str, Any], reason: str) -> None:
    catalogue, skips = read_catalogue([listed(g2(**changes))], ())
    assert catalogue.machines == {}
    assert [(skip.reason, skip.malformed) for skip in skips] == [(reason, False)]


@pytest.mark.parametrize(
    "changes",
    [{"guestCpus": 0}, {"memoryMb": 0}, {"guestCpus": "four"}, {"name": None}, {"accelerators": 1}],
)
def test_a_machine_type_that_cannot_be_right_is_counted(changes: dict[str, Any]) -> None:
    catalogue, skips = read_catalogue([listed(g2(**changes), g2(name="g2-standard-8"))], ())
    assert set(catalogue.machines) == {"g2-standard-8"}
    assert [skip.malformed for skip in skips] == [True]


def test_an_accelerator_that_cannot_be_read_is_counted() -> None:
    body = json.dumps({"items": {"zones/europe-west4-a": {"acceleratorTypes": [{"name": 4}]}}})
    _, skips = read_catalogue((), [body.encode()])
    assert [skip.malformed for skip in skips] == [True]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"items": []}', None, 17])
def test_what_is_no_list_is_a_bad_answer(body: Any) -> None:
    with pytest.raises(BadAnswer, match="gcp: a list of machine types"):
        read_catalogue([body], ())
    with pytest.raises(BadAnswer, match="gcp: a list of machine types"):
        next_list(body)


def test_a_list_without_anything_knows_nothing() -> None:
    assert next_list(b'{"items": {}, "nextPageToken": "more"}') == "more"
    assert next_list(b"{}") == ""
    assert read(b"{}").machines == {}
