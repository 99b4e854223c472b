"""The GPU machines of GCP: their shapes, and the regions in which their GPU stands.

The account's own lists say both, and are always preferred: `machineTypes` for shapes and zones,
`acceleratorTypes` for the zones of the GPU itself. Both must name a region, for machine types are
listed, and prices exist, where their GPU has never been. Without an account the tables stand in.

Sources of the tables: shapes as `machineTypes` gives them in public catalogs (SpareCores 2026-01,
SkyPilot v8); European regions by `acceleratorTypes` of 2026-08; elsewhere the same API's zones as
public catalogs of 2026 carry them, for some GPUs only: what is not in the table is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from arbiter.gpus import normalise
from arbiter.provider import Skip
from arbiter.quality import malformed
from arbiter_providers._rows import open_page

PARTITION_GIB = 375
"""Size of one local SSD partition, which `machineTypes` only counts."""

FILTER = 'name eq "[ag][0-9]+[a-z]*-.*"'
"""Machine types that may carry a GPU of their own, as the list's filter puts it (RE2)."""

_ACCELERATORS = {
    "nvidia-tesla-a100": "A100-40GB",
    "nvidia-a100-80gb": "A100-80GB",
    "nvidia-h100-80gb": "H100",
    "nvidia-h100-mega-80gb": "H100",
    "nvidia-h200-141gb": "H200",
    "nvidia-b200": "B200",
    "nvidia-l4": "L4",
    "nvidia-rtx-pro-6000": "RTXPRO6000",
}

_ON_REQUEST = re.compile(r"a4x?-.*|a3-ultragpu-.*|a3-highgpu-[124]g")
"""Machine types that are rented as spot, by reservation or by queue, and not on demand, though an
on-demand price of their parts is listed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine type.

    Attributes:
        gpu: the vocabulary's name, or the provider's own.
        accelerator: GCP's name of the GPU ("nvidia-l4").
        memory_gib, ssd_gib: memory, and local SSD that comes with the machine and is billed with
            it, in GiB.
    """

    name: str
    accelerator: str
    gpu: str
    gpu_count: int
    vcpus: int
    memory_gib: Decimal
    ssd_gib: int = 0

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which its vCPUs and memory are priced; the first that has a price counts.

        A3 Mega and A3 Ultra have rows of their own ("A3Plus Instance Core"). Where they are not
        listed, A3's stand in, as public calculators have it: they are a tenth of the price.
        """
        family, _, kind = self.name.partition("-")
        if family == "a3" and kind.startswith("megagpu"):
            return ("A3PLUS", "A3")
        if family == "a3" and kind.startswith("ultragpu"):
            return ("A3ULTRA", "A3")
        return (family.upper(),)

    @property
    def on_demand(self) -> bool:
        """Whether it can be ordered on demand."""
        return _ON_REQUEST.fullmatch(self.name) is None


def _table() -> Iterable[Machine]:
    def made(name: str, accelerator: str, gpus: int, vcpus: int, gib: int, ssd: int = 0) -> Machine:
        gpu = _ACCELERATORS[accelerator]
        return Machine(name, accelerator, gpu, gpus, vcpus, Decimal(gib), ssd)

    for n in (1, 2, 4, 8):
        yield made(f"a2-highgpu-{n}g", "nvidia-tesla-a100", n, 12 * n, 85 * n)
        yield made(f"a2-ultragpu-{n}g", "nvidia-a100-80gb", n, 12 * n, 170 * n, 375 * n)
        yield made(f"a3-highgpu-{n}g", "nvidia-h100-80gb", n, 26 * n, 234 * n, 750 * n)
        yield made(f"g4-standard-{48 * n}", "nvidia-rtx-pro-6000", n, 48 * n, 180 * n)
    for vcpus, gpus in ((4, 1), (8, 1), (12, 1), (16, 1), (24, 2), (32, 1), (48, 4), (96, 8)):
        yield made(f"g2-standard-{vcpus}", "nvidia-l4", gpus, vcpus, 4 * vcpus)
    yield made("a2-megagpu-16g", "nvidia-tesla-a100", 16, 96, 1360)
    yield made("a3-edgegpu-8g", "nvidia-h100-80gb", 8, 208, 1872, 6000)
    yield made("a3-edgegpu-8g-nolssd", "nvidia-h100-80gb", 8, 208, 1872)
    yield made("a3-megagpu-8g", "nvidia-h100-mega-80gb", 8, 208, 1872, 6000)
    yield made("a3-ultragpu-8g", "nvidia-h200-141gb", 8, 224, 2952, 12000)
    yield made("a3-ultragpu-8g-nolssd", "nvidia-h200-141gb", 8, 224, 2952)
    yield made("a4-highgpu-8g", "nvidia-b200", 8, 224, 3968, 12000)


MACHINES: Mapping[str, Machine] = {machine.name: machine for machine in _table()}

_RARE = frozenset({"a3-edgegpu-8g", "a3-edgegpu-8g-nolssd", "a3-ultragpu-8g-nolssd"})
"""Types that are open to few accounts: they count only where the account's own list has them."""

_FRACTION = re.compile(r"\b1/\d+ ")

REGIONS: Mapping[str, frozenset[str]] = {
    accelerator: frozenset(regions.split())
    for accelerator, regions in {
        "nvidia-l4": (
            "europe-west1 europe-west2 europe-west3 europe-west4 europe-west6 asia-south1 "
            "asia-southeast1 us-central1 us-east1 us-east4 us-west1"
        ),
        "nvidia-tesla-a100": (
            "europe-west4 asia-northeast1 asia-northeast3 asia-southeast1 me-west1 us-central1 "
            "us-east1 us-west1 us-west3 us-west4"
        ),
        "nvidia-a100-80gb": "europe-west4 asia-southeast1 us-central1 us-east4 us-east5",
        "nvidia-h100-80gb": (
            "europe-north1 europe-west1 europe-west2 europe-west3 europe-west4 europe-west9"
        ),
        "nvidia-h100-mega-80gb": "europe-west1 europe-west3 europe-west4",
        "nvidia-h200-141gb": "europe-west1 europe-west4",
        "nvidia-b200": "europe-north1 europe-west1 europe-west4",
        "nvidia-rtx-pro-6000": (
            "europe-north1 europe-west1 europe-west2 europe-west4 europe-west8 europe-west10"
        ),
    }.items()
}
"""GPU -> regions that have it, as far as is known without an account."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Which machines there are, and where.

    Attributes:
        machines: machine type -> its shape.
        zones: machine type -> the zones that list it, or None where the account did not say.
        accelerator_zones: GPU -> the zones that have it, or None where the account did not say.
        whole: the account said it all, or was not asked.
    """

    machines: Mapping[str, Machine] = field(default_factory=lambda: MACHINES)
    zones: Mapping[str, frozenset[str]] | None = None
    accelerator_zones: Mapping[str, frozenset[str]] | None = None
    whole: bool = True

    def zones_of(self, machine: Machine, region: str) -> tuple[str, ...]:
        """The zones of a region in which it can stand, as the account lists them."""
        found = [
            listed.get(key, frozenset())
            for listed, key in (
                (self.zones, machine.name),
                (self.accelerator_zones, machine.accelerator),
            )
            if listed is not None
        ]
        both = frozenset.intersection(*found) if found else frozenset[str]()
        return tuple(sorted(zone for zone in both if region_of(zone) == region))

    def stands_in(self, machine: Machine, region: str) -> bool:
        """Whether the machine's GPU is in the region; what is not known does not count."""
        if self.zones is None and machine.name in _RARE:
            return False
        if self.zones is not None or self.accelerator_zones is not None:
            return bool(self.zones_of(machine, region))
        return region in REGIONS.get(machine.accelerator, ())

    def pairs(self, regions: Iterable[str]) -> list[tuple[str, Machine]]:
        """Every region with every machine that stands in it."""
        ordered = sorted(self.machines.values(), key=lambda machine: machine.name)
        return [(r, m) for r in regions for m in ordered if self.stands_in(m, r)]


def region_of(zone: str) -> str:
    """The region of a zone ("europe-west4" of "europe-west4-a")."""
    return zone.rpartition("-")[0]


# --- the account's own lists ------------------------------------------------------------------


class _Attached(msgspec.Struct, gc=False):
    guestAcceleratorType: str
    guestAcceleratorCount: int


class _Ssds(msgspec.Struct, gc=False):
    partitionCount: int = 0


class _Deprecated(msgspec.Struct, gc=False):
    state: str = ""


class _MachineType(msgspec.Struct, gc=False):
    name: str
    guestCpus: int
    memoryMb: Decimal
    description: str = ""
    architecture: str = ""
    accelerators: list[_Attached] = msgspec.field(default_factory=list)
    bundledLocalSsds: _Ssds | None = None
    deprecated: _Deprecated | None = None


class _AcceleratorType(msgspec.Struct, gc=False):
    name: str


class _Scope(msgspec.Struct, gc=False):
    """What one zone lists; a zone without any has a warning instead."""

    machineTypes: list[msgspec.Raw] = msgspec.field(default_factory=list)
    acceleratorTypes: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Aggregated(msgspec.Struct, gc=False):
    items: dict[str, _Scope] = msgspec.field(default_factory=dict)
    nextPageToken: str | None = None
    unreachables: list[str] = msgspec.field(default_factory=list)


_read_aggregated = msgspec.json.Decoder(_Aggregated).decode
_read_machine_type = msgspec.json.Decoder(_MachineType).decode
_read_accelerator_type = msgspec.json.Decoder(_AcceleratorType).decode


def read_catalogue(
    machine_pages: Iterable[object], accelerator_pages: Iterable[object]
) -> tuple[Catalogue, list[Skip]]:
    """The account's lists, or the tables in place of the one that has no page.

    Raises:
        BadAnswer: a page is not an aggregated list.
    """
    skips: list[Skip] = []
    machines: dict[str, Machine] = {}
    zones: dict[str, set[str]] = {}
    accelerators: dict[str, set[str]] = {}
    by_machines = by_accelerators = False
    whole = True
    for page in map(_open, machine_pages):
        by_machines, whole = True, whole and not page.unreachables
        for zone, raw in _rows(page, "machineTypes"):
            found = _machine(raw)
            if isinstance(found, Skip):
                skips.append(found)
            else:
                machines[found.name] = found
                zones.setdefault(found.name, set()).add(zone)
    for page in map(_open, accelerator_pages):
        by_accelerators, whole = True, whole and not page.unreachables
        for zone, raw in _rows(page, "acceleratorTypes"):
            try:
                accelerators.setdefault(_read_accelerator_type(raw).name, set()).add(zone)
            except msgspec.MsgspecError:
                skips.append(malformed("accelerator type that cannot be read", bytes(raw)))
    catalogue = Catalogue(
        machines if by_machines else MACHINES,
        {name: frozenset(found) for name, found in zones.items()} if by_machines else None,
        {n: frozenset(found) for n, found in accelerators.items()} if by_accelerators else None,
        whole,
    )
    return catalogue, skips


def next_list(body: object) -> str:
    """The token of the next page of such a list, "" on the last.

    Raises:
        BadAnswer: not an aggregated list.
    """
    return _open(body).nextPageToken or ""


def _open(body: object) -> _Aggregated:
    return open_page("gcp: a list of machine types", body, _read_aggregated)


def _rows(page: _Aggregated, key: str) -> Iterable[tuple[str, msgspec.Raw]]:
    for scope, listed in page.items.items():
        kind, _, zone = scope.partition("/")
        if kind == "zones" and zone:
            for raw in getattr(listed, key):
                yield zone, raw


def _machine(raw: msgspec.Raw) -> Machine | Skip:
    try:
        read = _read_machine_type(raw)
    except msgspec.MsgspecError:
        return malformed("machine type that cannot be read", bytes(raw))
    if len(read.accelerators) != 1 or not read.accelerators[0].guestAcceleratorType.startswith(
        "nvidia-"
    ):
        return Skip("not a GPU machine")
    attached = read.accelerators[0]
    accelerator, count = attached.guestAcceleratorType, attached.guestAcceleratorCount
    if accelerator.endswith("-vws"):
        return Skip("virtual workstation")
    if _FRACTION.search(read.description):
        return Skip("a fraction of a GPU")
    if read.deprecated is not None and read.deprecated.state in ("OBSOLETE", "DELETED"):
        return Skip("machine type that is no longer made")
    if count < 1 or read.guestCpus < 1 or read.memoryMb <= 0:
        return malformed("machine type without GPU, vCPU or memory", bytes(raw))
    known = MACHINES.get(read.name)
    ssds = read.bundledLocalSsds.partitionCount if read.bundledLocalSsds else 0
    return Machine(
        read.name,
        accelerator,
        _gpu(accelerator, read.architecture),
        count,
        read.guestCpus,
        read.memoryMb / 1024,
        # What is billed is known for the types of the table; new ones are taken at their word.
        known.ssd_gib if known else PARTITION_GIB * ssds,
    )


def _gpu(accelerator: str, architecture: str) -> str:
    """The vocabulary's name; that of a GPU beside an ARM processor is not the vocabulary's."""
    gpu = _ACCELERATORS.get(accelerator) or normalise(accelerator) or accelerator
    return f"{gpu} (arm64)" if architecture == "ARM64" else gpu
