"""The GPU machines of Azure: size -> GPU and count.

Price rows name only the size. Counts are those of Azure's size pages as several public catalogs
carry them (SkyPilot's, SpareCores'), which agree on every line kept here; sizes on which they
disagree, all retired, are left out and so are skipped. Memory that tells variants apart: ND
asr_v4 is the A100 of 40 GB and every other A100 that of 80 GB; NCv3 is the V100 of 16 GB, NDv2
that of 32 GB; the H100 of the NC series is the NVL of 94 GB, that of the ND series the SXM.
"""

from __future__ import annotations

import re

from arbiter.gpus import normalise

_BY_GPU: dict[str, dict[str, int]] = {
    "T4": {
        "NC4as_T4_v3": 1,
        "NC8as_T4_v3": 1,
        "NC16as_T4_v3": 1,
        "NC64as_T4_v3": 4,
    },
    "V100-16GB": {"NC6s_v3": 1, "NC12s_v3": 2, "NC24s_v3": 4, "NC24rs_v3": 4},
    "V100-32GB": {"ND40rs_v2": 8},
    "A10": {
        "NC8ads_A10_v4": 1,
        "NC16ads_A10_v4": 1,
        "NC32ads_A10_v4": 2,
        "NV36ads_A10_v5": 1,
        "NV36adms_A10_v5": 1,
        "NV72ads_A10_v5": 2,
    },
    "A100-40GB": {"ND96asr_v4": 8},
    "A100-80GB": {
        "NC24ads_A100_v4": 1,
        "NC48ads_A100_v4": 2,
        "NC96ads_A100_v4": 4,
        "ND96amsr_A100_v4": 8,
    },
    "H100-NVL": {"NC40ads_H100_v5": 1, "NC80adis_H100_v5": 2, "NCC40ads_H100_v5": 1},
    "H100": {"ND96isr_H100_v5": 8, "ND96is_H100_v5": 8},
    "H200": {"ND96isr_H200_v5": 8},
    "MI300X": {"ND96isr_MI300X_v5": 8, "ND96is_MI300X_v5": 8},
    # Too old for any current vLLM; recorded all the same.
    "K80": {"NC6": 1, "NC12": 2, "NC24": 4, "NC24r": 4},
    "P40": {"ND6s": 1, "ND12s": 2, "ND24s": 4, "ND24rs": 4},
    "P100": {"NC6s_v2": 1, "NC12s_v2": 2, "NC24s_v2": 4, "NC24rs_v2": 4},
    "M60": {"NV12s_v3": 1, "NV24s_v3": 2, "NV48s_v3": 4},
    "MI25": {"NV32as_v4": 1},
}

SIZES: dict[str, tuple[str, int]] = {
    f"Standard_{size}": (gpu, count)
    for gpu, sizes in _BY_GPU.items()
    for size, count in sizes.items()
}

_BY_LOWER_CASE = {size.lower(): size for size in SIZES}

_FRACTION = re.compile(r"Standard_NV(6|8|10|12|18|20|30|4)ad(ms|s)_A10_v5|Standard_NV(4|8|16)as_v4")
_FPGA = re.compile(r"Standard_NP\d")
_WHOLE_NODE = re.compile(r"Standard_ND96[a-z]+_([A-Z0-9]+)_v\d+")


def gpu_of(size: str) -> tuple[str, int] | str:
    """GPU and count of a size ("Standard_NC24ads_A100_v4"), or why it has none.

    A size that is not in the table is still understood where nothing has to be guessed: every
    ND96 size is a whole node of eight, and its name carries the GPU. Anything else is left out.
    """
    known = SIZES.get(size)
    if known is not None:
        return known
    if not size.startswith("Standard_N") or _FPGA.match(size):
        return "not a GPU machine"
    if _FRACTION.fullmatch(size):
        return "a fraction of a GPU"
    node = _WHOLE_NODE.fullmatch(size)
    gpu = normalise(node.group(1)) if node else None
    return (gpu, 8) if gpu else "GPU size that is not in the table"


def size_named(name: str) -> str | None:
    """The size of the table that goes by this name in any case, or None.

    The Resource Graph writes sizes in lower case, the price list does not.
    """
    return _BY_LOWER_CASE.get(name.strip().lower())
