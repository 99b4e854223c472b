"""The vocabulary of GPUs: one name, one memory size, one set of figures.

Figures are dense, per GPU. Memory is what CUDA reports as the total, in GiB, since that is what
vLLM divides: 2 to 9 % less than the name says, as seen in public logs ("has a total capacity of
44.39 GiB", an L40S) for T4, V100, A10G, L4, RTX 3090 to 5090, L40S, A100, H100 and H200, else
estimated. Bandwidth is GB/s, compute TFLOPS; their sources: makers' datasheets as collected in
NVIDIA's aiconfigurator tables where it has them ("A"), other public tables ("B"), or the datasheet
from memory ("U", unconfirmed).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU model.

    Attributes:
        memory_gib: total memory as CUDA reports it, in GiB.
        bandwidth_gbs: memory bandwidth in GB/s.
        tflops_16: dense bf16 (fp16 before Ampere) in TFLOPS.
        tflops_8: dense fp8 in TFLOPS, or None without fp8 units.
        capability: CUDA compute capability times ten (89 is 8.9), 0 for AMD.
        nvlink: GPUs of one machine talk over NVLink (or its like), not PCIe.
        skypilot: the accelerator's name in SkyPilot's catalogs.
        source: "A", "B" or "U", see the module.
    """

    name: str
    memory_gib: float
    bandwidth_gbs: float
    tflops_16: float
    tflops_8: float | None
    capability: int
    nvlink: bool
    skypilot: str
    source: str


_TABLE = (
    Gpu("T4", 14.56, 320, 65, None, 75, False, "T4", "B"),
    Gpu("V100-16GB", 15.77, 900, 125, None, 70, True, "V100", "B"),
    Gpu("V100-32GB", 31.73, 900, 125, None, 70, True, "V100-32GB", "B"),
    Gpu("A10", 22.06, 600, 125, None, 86, False, "A10", "U"),
    Gpu("A10G", 22.06, 600, 70, None, 86, False, "A10G", "B"),
    Gpu("L4", 22.03, 300, 121, 242, 89, False, "L4", "A"),
    Gpu("A40", 44.4, 696, 150, None, 86, False, "A40", "U"),
    Gpu("A6000", 47.4, 768, 155, None, 86, False, "RTXA6000", "U"),
    Gpu("RTX3090", 23.68, 936, 71, None, 86, False, "RTX3090", "B"),
    Gpu("RTX4090", 23.64, 1008, 165, 330, 89, False, "RTX4090", "B"),
    Gpu("RTX5090", 31.36, 1792, 210, 419, 120, False, "RTX5090", "U"),
    Gpu("RTX6000Ada", 47.4, 960, 364, 729, 89, False, "RTX6000-Ada", "U"),
    Gpu("RTXPRO6000", 95.0, 1597, 468, 936, 120, False, "RTXPRO6000", "A"),
    Gpu("L40", 44.4, 864, 181, 362, 89, False, "L40", "U"),
    Gpu("L40S", 44.39, 864, 362, 733, 89, False, "L40S", "A"),
    Gpu("A100-40GB", 39.4, 1555, 312, None, 80, True, "A100", "B"),
    Gpu("A100-80GB", 79.15, 1935, 312, None, 80, True, "A100-80GB", "A"),
    Gpu("H100", 79.18, 3350, 989, 1978, 90, True, "H100", "A"),
    Gpu("H100-PCIe", 79.18, 2000, 756, 1513, 90, False, "H100", "A"),
    Gpu("H100-NVL", 93.1, 3938, 835, 1671, 90, True, "H100-NVL", "U"),
    Gpu("H200", 139.8, 4800, 989, 1978, 90, True, "H200", "A"),
    Gpu("GH200", 94.5, 4000, 990, 1979, 90, True, "GH200", "B"),
    Gpu("B200", 178.0, 7700, 2250, 4500, 100, True, "B200", "A"),
    Gpu("B300", 268.0, 7750, 2250, 4500, 103, True, "B300", "A"),
    Gpu("MI300X", 191.5, 5300, 1307, 2615, 0, True, "MI300X", "B"),
    Gpu("MI325X", 255.0, 6000, 1307, 2615, 0, True, "MI325X", "U"),
)

GPUS: dict[str, Gpu] = {gpu.name: gpu for gpu in _TABLE}

# GPUs that run no current vLLM are still named, so that their prices are recorded under one word.
RECORDED_ONLY = frozenset(
    {"K80", "M60", "P4", "P40", "P100", "T4G", "MI25", "V520", "HL-205", "A10-FRACTION"}
)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"\b({pattern})(?!\d)"), name)
    # over the text as _words leaves it; the first that is found wins. "H1000" names no H100.
    for pattern, name in (
        (r"(RTX ?)?PRO ?6000", "RTXPRO6000"),
        (r"(RTX ?)?6000 ?ADA", "RTX6000Ada"),
        (r"RTX ?5090", "RTX5090"),
        (r"RTX ?4090", "RTX4090"),
        (r"RTX ?3090", "RTX3090"),
        (r"GH200", "GH200"),
        (r"H200", "H200"),
        (r"H100 ?NVL|H100.*\b94 ?GI?B", "H100-NVL"),
        (r"H100.*PCIE", "H100-PCIe"),
        (r"H100", "H100"),
        (r"B300", "B300"),
        (r"B200", "B200"),
        (r"MI300X", "MI300X"),
        (r"MI325X", "MI325X"),
        (r"MI25\b", "MI25"),
        (r"L40S\b", "L40S"),
        (r"L40\b", "L40"),
        (r"L4\b", "L4"),
        (r"A10G\b", "A10G"),
        (r"(RTX ?)?A6000\b", "A6000"),
        (r"A40\b", "A40"),
        (r"A10\b", "A10"),
        (r"T4G\b", "T4G"),
        (r"T4\b", "T4"),
        (r"P100\b", "P100"),
        (r"P40\b", "P40"),
        (r"P4\b", "P4"),
        (r"K80\b", "K80"),
        (r"M60\b", "M60"),
        (r"V520\b", "V520"),
        (r"HL ?205\b|GAUDI$", "HL-205"),
    )
)
_SIZES = {
    "A100": (("A100-40GB", 40), ("A100-80GB", 80)),
    "V100": (("V100-16GB", 16), ("V100-32GB", 32)),
    "RTX6000": (("RTX6000Ada", 48), ("RTXPRO6000", 96)),  # that of 24 GB is the Quadro
}


def normalise(name: str, memory_gib: float | None = None) -> str | None:
    """The vocabulary's name of a GPU, or None when the text names none that is known.

    Memory decides between the two A100s, the two V100s and those that go by "RTX 6000";
    without it, and without a size in the text, they are not guessed.

    Args:
        name: any provider's spelling ("NVIDIA A100 80GB PCIe", "nvidia-l4", "Tesla V100").
        memory_gib: memory of one GPU as the provider states it, in GiB (or GB: the margin between
            the sizes is wider than the difference).
    """
    text = _words(name)
    two_sizes = re.search(r"\b([AV]100)S?(?=\b|-?\d+ ?GI?B)", text)
    if two_sizes:
        return _by_memory(text, memory_gib, _SIZES[two_sizes.group(1)])
    for pattern, known in _PATTERNS:
        if pattern.search(text):
            return known
    if re.search(r"\bRTX ?6000\b", text):
        return _by_memory(text, memory_gib, _SIZES["RTX6000"])
    return None


def _words(name: str) -> str:
    """Upper case, words apart: makers' names, counts ("8x") and separators do not stick to them."""
    text = re.sub(r"[-_()/,\s]+", " ", name.upper())
    text = re.sub(r"(NVIDIA|TESLA|GEFORCE|QUADRO|AMD|INSTINCT|RADEON|HABANA)", " ", text)
    return re.sub(r"\b\d+X(?=[A-Z])", "", text)


def _by_memory(
    text: str, memory_gib: float | None, sizes: tuple[tuple[str, int], ...]
) -> str | None:
    stated = memory_gib
    if stated is None:
        found = re.search(r"(\d+) ?GI?B", re.sub(r"[AV]100|RTX ?6000", " ", text))
        stated = float(found.group(1)) if found else None
    if stated is None:
        return None
    name, size = min(sizes, key=lambda pair: abs(pair[1] - float(stated)))
    return name if abs(size - stated) <= 0.15 * size else None
