"""The GPU machines of AWS: instance type -> GPU and count.

`described` reads what DescribeInstanceTypes says, which is always preferred. The table stands in
where that call is not possible: without credentials, or when it is refused. Its figures are those
of the same call as public catalogs recorded them (AWS mock data of 2025-03, SpareCores 2026-01).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from arbiter.gpus import GPUS, normalise
from arbiter.typed import convert

Machines = Mapping[str, tuple[str, int] | str]
"""Instance type -> GPU and count, or why it has none."""

NOT_GPU = "not a GPU machine"
FRACTION = "a fraction of a GPU"
UNKNOWN = "GPU machine that is not in the table"

PATTERNS = ("g*", "p*", "dl1*")
"""Instance types that may carry a GPU, as DescribeInstanceTypes filters them."""

_SIZES_1_4_8 = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_SINGLE = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")

_FAMILIES: dict[str, tuple[str, dict[str, int]]] = {
    "p2": ("K80", {"xlarge": 1, "8xlarge": 8, "16xlarge": 16}),
    "p3": ("V100-16GB", {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    "p3dn": ("V100-32GB", {"24xlarge": 8}),
    "p4d": ("A100-40GB", {"24xlarge": 8}),
    "p4de": ("A100-80GB", {"24xlarge": 8}),
    "p5": ("H100", {"4xlarge": 1, "48xlarge": 8}),
    "p5e": ("H200", {"48xlarge": 8}),
    "p5en": ("H200", {"48xlarge": 8}),
    "p6-b200": ("B200", {"48xlarge": 8}),
    "p6-b300": ("B300", {"48xlarge": 8}),
    "g3": ("M60", {"4xlarge": 1, "8xlarge": 2, "16xlarge": 4}),
    "g3s": ("M60", {"xlarge": 1}),
    "g4ad": ("V520", {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 2, "16xlarge": 4}),
    "g4dn": ("T4", {**dict.fromkeys(_SINGLE, 1), "12xlarge": 4, "metal": 8}),
    "g5": ("A10G", {**dict.fromkeys(_SINGLE, 1), **_SIZES_1_4_8}),
    "g5g": (
        "T4G",
        {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 2, "metal": 2},
    ),
    "g6": ("L4", {**dict.fromkeys(_SINGLE, 1), **_SIZES_1_4_8}),
    "gr6": ("L4", {"4xlarge": 1, "8xlarge": 1}),
    "g6e": ("L40S", {**dict.fromkeys(_SINGLE, 1), **_SIZES_1_4_8}),
    "g7e": (
        "RTXPRO6000",
        {"2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    ),
    "dl1": ("HL-205", {"24xlarge": 8}),
}

_FRACTIONS = frozenset({"g6f", "gr6f"})

TYPES: dict[str, tuple[str, int]] = {
    f"{family}.{size}": (gpu, count)
    for family, (gpu, sizes) in _FAMILIES.items()
    for size, count in sizes.items()
}

_SMALLEST_WHOLE = 0.6
"""Share of a GPU's memory below which what is described can only be a slice of it."""


class _Memory(msgspec.Struct):
    SizeInMiB: int | None = None


class _Device(msgspec.Struct):
    Name: str
    Count: int | None = None
    Manufacturer: str = ""
    GpuPartitionSize: float = 1.0
    MemoryInfo: _Memory = msgspec.field(default_factory=_Memory)


class _GpuInfo(msgspec.Struct):
    Gpus: list[_Device]


class _Processor(msgspec.Struct):
    SupportedArchitectures: list[str] = msgspec.field(default_factory=list)


class _Described(msgspec.Struct):
    InstanceType: str
    GpuInfo: _GpuInfo | None = None
    ProcessorInfo: _Processor = msgspec.field(default_factory=_Processor)


def by_table(instance_type: str) -> tuple[str, int] | str:
    """GPU and count by the table, or why the type has none."""
    known = TYPES.get(instance_type)
    if known is not None:
        return known
    family = instance_type.partition(".")[0]
    if family in _FRACTIONS:
        return FRACTION
    looks_like_gpu = (family[:1] in ("g", "p") and family[1:2].isdigit()) or family[:2] == "gr"
    return UNKNOWN if looks_like_gpu else NOT_GPU


def machine(instance_type: str, machines: Machines) -> tuple[str, int] | str:
    """GPU and count by what AWS described, else by the table, or why there is none."""
    known = machines.get(instance_type)
    return by_table(instance_type) if known is None else known


def described(item: Any) -> tuple[str, tuple[str, int] | str] | None:
    """Instance type, and its GPU and count or why it has none, by DescribeInstanceTypes.

    Memory tells the A100s and the V100s apart. Only an NVIDIA GPU beside an x86 processor goes
    by the vocabulary's name, for only that runs our servers as they are; any other keeps its own.
    None where the item cannot be read.
    """
    try:
        read = convert(item, _Described)
    except msgspec.ValidationError:
        return None
    if read.GpuInfo is None or len(read.GpuInfo.Gpus) != 1:
        return read.InstanceType, NOT_GPU
    device = read.GpuInfo.Gpus[0]
    mib = device.MemoryInfo.SizeInMiB
    gpu = normalise(device.Name, mib / 1024 if mib else None)
    whole = GPUS[gpu].memory_gib if gpu in GPUS else None
    too_small = whole is not None and mib is not None and mib / 1024 < _SMALLEST_WHOLE * whole
    if (
        read.InstanceType.partition(".")[0] in _FRACTIONS
        or device.GpuPartitionSize < 1
        or too_small
    ):
        return read.InstanceType, FRACTION
    if not device.Count or device.Count < 1:
        return read.InstanceType, NOT_GPU
    return read.InstanceType, (_name(device, gpu, read.ProcessorInfo), device.Count)


def _name(device: _Device, gpu: str | None, processor: _Processor) -> str:
    architectures = processor.SupportedArchitectures
    foreign = device.Manufacturer.upper() not in ("NVIDIA", "") or (
        bool(architectures) and "x86_64" not in architectures
    )
    if gpu in GPUS and foreign:
        return f"{device.Name} ({'/'.join(architectures) or device.Manufacturer})"
    return gpu or device.Name
