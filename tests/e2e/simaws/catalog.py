"""A SkyPilot catalog of the simulated AWS, so that SkyPilot downloads none.

SkyPilot 0.14 reads schema v8 under ~/.sky/catalogs. A file that has no checksum beside it counts
as the user's own: it is neither refreshed nor replaced.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from simaws.market import INSTANCE_TYPES, ZONES, InstanceType, Prices

# fmt: off
VMS = [
    "InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo", "Price",
    "SpotPrice", "Region", "AvailabilityZone", "Arch", "LocalDiskType", "NVMeSupported",
    "LocalDiskSize", "LocalDiskCount", "MaximumEfaInterfaces",
]
# fmt: on
IMAGES = ["Tag", "Region", "OS", "OSVersion", "ImageId", "CreationDate", "BaseImageId"]
TAGS = {
    "skypilot:custom-cpu-ubuntu": "ami-0000000000000c000",
    "skypilot:custom-gpu-ubuntu-cuda13": "ami-0000000000000a000",
    "skypilot:custom-gpu-ubuntu": "ami-0000000000000b000",
}


def write_catalog(home: Path, prices: Prices) -> None:
    """Write the catalog into a home folder.

    The prices in it only have to exist: arbiter decides by its own, and pins the place.
    """
    root = home / ".sky" / "catalogs" / "v8"
    _write(root / "aws" / "vms.csv", VMS, _machines(prices))
    images = (
        [tag, region, "ubuntu", "24.04", ami, "20260101", ""]
        for region in ZONES
        for tag, ami in TAGS.items()
    )
    _write(root / "aws" / "images.csv", IMAGES, images)
    quota = ["InstanceType", "OnDemandInstanceCode", "SpotInstanceCode"]
    _write(root / "aws" / "instance_quota_mapping.csv", quota, [])
    names = sorted({each.gpu for each in INSTANCE_TYPES})
    common = root / "common"
    _write(
        common / "accelerators.csv", ["AcceleratorName", "Clouds"], [[n, "['AWS']"] for n in names]
    )
    memory = [["NVIDIA", each.gpu, each.gpu_mib // 1024] for each in INSTANCE_TYPES]
    _write(common / "metadata.csv", ["Manufacturer", "GPU", "MemoryGB"], memory)


def _machines(prices: Prices) -> Iterable[list[Any]]:
    for machine in INSTANCE_TYPES:
        for region, zones in ZONES.items():
            price = prices[region][machine.name]
            for zone in zones:
                yield [
                    machine.name,
                    machine.gpu,
                    machine.gpus,
                    machine.cpus,
                    machine.memory_gib,
                    _gpu_info(machine),
                    price["on_demand"],
                    price["spot"][zone],
                    region,
                    zone,
                    "x86_64",
                    *[""] * 5,
                ]


def _gpu_info(machine: InstanceType) -> str:
    gpu = {
        "Name": machine.gpu,
        "Manufacturer": "NVIDIA",
        "Count": float(machine.gpus),
        "MemoryInfo": {"SizeInMiB": machine.gpu_mib},
    }
    return str({"Gpus": [gpu], "TotalGpuMemoryInMiB": machine.gpu_mib * machine.gpus})


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
