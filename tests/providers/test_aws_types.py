"""AWS: which machine has which GPU, as AWS describes it and by the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from arbiter_providers.aws_types import by_table, described


def machine(name: str, mib: int, **more: Any) -> dict[str, Any]:
    gpu = {"Name": name, "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": mib}}
    architectures = more.pop("architectures", ["x86_64"])
    return {
        "InstanceType": more.pop("instance_type", "p9.xlarge"),
        "GpuInfo": {"Gpus": [{**gpu, **more}]},
        "ProcessorInfo": {"SupportedArchitectures": architectures},
    }


@pytest.mark.parametrize(
    ("item", "means"),
    [
        (machine("A100", 40960), ("A100-40GB", 1)),
        (machine("A100", 81920), ("A100-80GB", 1)),
        (machine("V100", 32768, Count=8), ("V100-32GB", 8)),
        (machine("L4", 22888), ("L4", 1)),
        (machine("L4", 2861), "a fraction of a GPU"),
        (machine("L4", 22888, GpuPartitionSize=0.125), "a fraction of a GPU"),
        (machine("L4", 22888, instance_type="gr6f.4xlarge"), "a fraction of a GPU"),
        (machine("T4g", 16384, architectures=["arm64"]), ("T4G", 1)),
        (machine("H100", 81920, architectures=["arm64"]), ("H100 (arm64)", 1)),
        (machine("Radeon Pro V520", 8192, Manufacturer="AMD"), ("V520", 1)),
        (machine("Gaudi HL-205", 32768, Manufacturer="Habana"), ("HL-205", 1)),
        (machine("Quantum 9000", 99999), ("Quantum 9000", 1)),
        (machine("L4", 22888, Count=0), "not a GPU machine"),
        ({"InstanceType": "m5.large"}, "not a GPU machine"),
    ],
)
def test_what_aws_describes(item: dict[str, Any], means: object) -> None:
    found = described(item)
    assert found is not None
    assert found[1] == means


@pytest.mark.parametrize(
    ("instance_type", "means"),
    [
        ("p5.4xlarge", ("H100", 1)),
        ("p4de.24xlarge", ("A100-80GB", 8)),
        ("g7e.48xlarge", ("RTXPRO6000", 8)),
        ("g6f.xlarge", "a fraction of a GPU"),
        ("g99.xlarge", "GPU machine that is not in the table"),
        ("gr9.xlarge", "GPU machine that is not in the table"),
        ("m5.large", "not a GPU machine"),
        ("inf2.xlarge", "not a GPU machine"),
        ("", "not a GPU machine"),
    ],
)
def test_what_the_table_says(instance_type: str, means: object) -> None:
    assert by_table(instance_type) == means


def test_the_table_agrees_with_what_aws_describes(shared_recordings: Path) -> None:
    listed = json.loads(
        (shared_recordings / "aws/describe_instance_types_gpu_only.json").read_bytes()
    )
    for item in listed["InstanceTypes"]:
        found = described(item)
        assert found is not None
        assert by_table(found[0]) == found[1]


def test_the_table_agrees_with_the_server_table(shared_recordings: Path) -> None:
    servers = shared_recordings.parent / "regions/gpu_server_specs_sparecores_2026-01.csv"
    with servers.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["vendor"] == "aws"]
    assert len(rows) > 60
    for row in rows:
        known = by_table(row["server_id"])
        assert not isinstance(known, str), row["server_id"]
        assert known[1] == int(row["gpu_count"]), row["server_id"]
