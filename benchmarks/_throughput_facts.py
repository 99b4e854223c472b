"""Published measurements of vLLM, typed in, with the load under which they were made.

Sources: "A" AccelMark (github.com/FreedomIntelligence/AccelMark at 5797fc4), one harness, vLLM
0.7.3 unless noted; "D" GPUStack's lab, vLLM 0.11 and 0.9.2; "F" a public log, vLLM 0.4.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from arbiter.gpus import GPUS, Gpu
from arbiter.profiles import Architecture, Quantization

BF16, FP8, AWQ = Quantization.BF16, Quantization.FP8, Quantization.AWQ

OUTSIDE = (
    # Measured too, and not in arbiter's vocabulary: the first has no kernels in a current vLLM
    # (it is sized as if it had), the second is not rented out where arbiter looks.
    Gpu("V100S", 31.73, 1134, 130, None, 75, False, "", "U"),
    Gpu("H20-3e", 139.8, 4800, 148, 296, 90, True, "", "B"),
)
KNOWN = {**GPUS, **{gpu.name: gpu for gpu in OUTSIDE}}

MODELS = {
    "Llama-3.1-8B": Architecture(8.03, 32, 4096, 32, 8, 128, 128_256),
    "Llama-3.1-70B": Architecture(70.55, 80, 8192, 64, 8, 128, 128_256),
    "Qwen3-8B": Architecture(8.19, 36, 4096, 32, 8, 128, 151_936),
    "Qwen3-14B": Architecture(14.77, 40, 5120, 40, 8, 128, 151_936),
    "Qwen3-32B": Architecture(32.76, 64, 5120, 64, 8, 128, 151_936),
}


@dataclass(frozen=True)
class Measured:
    """One published figure.

    Attributes:
        tokens_per_s: output tokens per second of the whole machine.
        at_once: requests that were offered at once.
        share_of_all: output tokens among all tokens, where the figure counted both; else 1.
        vllm: its version.
    """

    source: str
    model: str
    quantization: Quantization
    gpu: str
    count: int
    tokens_per_s: float
    at_once: int
    input_tokens: int
    output_tokens: int
    vllm: str = "0.7.3"


# GPU, 8B in bf16, ms per token of a single sequence, 8B in fp8, 8B in 4 bits, 70B in bf16 on eight.
# A hundred ShareGPT requests at once, 255 tokens in and 344 out on average.
_ACCELMARK = (
    ("L4", 366, 61.2, None, None, None, "0.7.3"),
    ("V100S", 934, 22.6, None, 784, 466, "0.7.3"),
    ("RTX3090", 1001, 21.5, 1404, 1054, None, "0.7.3"),
    ("RTX4090", 1452, 20.1, 2888, 1346, 443, "0.7.3"),
    ("A6000", 1567, 25.9, 1469, 940, 798, "0.7.3"),
    ("RTX6000Ada", 1860, 19.2, 2668, 1271, None, "0.7.3"),
    ("H20-3e", 2298, 12.8, 2946, 1573, 1695, "0.7.3"),
    ("A100-40GB", 2416, 14.3, 2575, 1563, 1705, "0.7.3"),
    ("A100-80GB", 2701, 13.2, 2823, 1762, 1804, "0.7.3"),  # the eight are A800
    ("A100-80GB", 3917, 10.8, 4142, 1889, None, "0.20.1"),
    ("RTX5090", 3488, 10.2, None, 2934, None, "0.19"),
    ("H100", 5128, 7.7, 6315, 3156, None, "0.7.3"),
    ("H200", 5731, 7.6, 6196, 3279, 3553, "0.7.3"),
)

SINGLE_MS = tuple((row[0], row[2], row[6]) for row in _ACCELMARK)
"""GPU, ms per output token of a single sequence of the 8B model in bf16, version."""

_COLUMNS = (
    ("8B bf16", "Llama-3.1-8B", BF16, 1, 1),
    ("8B fp8", "Llama-3.1-8B", FP8, 1, 3),
    ("8B 4 bit", "Llama-3.1-8B", AWQ, 1, 4),
    ("70B bf16 on 8", "Llama-3.1-70B", BF16, 8, 5),
)

ACCELMARK: dict[str, tuple[Measured, ...]] = {
    title: tuple(
        Measured("A", model, stored, row[0], count, float(row[at]), 100, 255, 344, row[6])
        for row in _ACCELMARK
        if row[at] is not None
    )
    for title, model, stored, count, at in _COLUMNS
}


def _gpustack(model: str, stored: Quantization, gpu: str, rate: float, vllm: str) -> Measured:
    """A thousand ShareGPT requests: their lengths are taken to be those of AccelMark's."""
    return Measured("D", model, stored, gpu, 1, rate, 1000, 255, 344, vllm)


_OUTPUT_SHARE = 344 / (255 + 344)  # of a figure that counts the input, too

OTHERS: tuple[Measured, ...] = (
    _gpustack("Qwen3-32B", BF16, "H100", 1132, "0.11"),
    _gpustack("Qwen3-32B", BF16, "A100-80GB", 832, "0.11"),
    _gpustack("Qwen3-14B", BF16, "H100", 3174, "0.11"),
    _gpustack("Qwen3-14B", BF16, "A100-80GB", 1887, "0.11"),
    _gpustack("Qwen3-8B", BF16, "RTX4090", 3869 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", BF16, "A100-80GB", 10_338 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", BF16, "H100", 13_305 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", FP8, "H100", 16_453 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", AWQ, "RTX4090", 5653 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", AWQ, "A100-80GB", 9612 * _OUTPUT_SHARE, "0.9.2"),
    _gpustack("Qwen3-8B", AWQ, "H100", 9756 * _OUTPUT_SHARE, "0.9.2"),
    Measured("F", "Llama-3.1-8B", BF16, "A10G", 1, 301, 64, 550, 150, "0.4.3"),
)
"""None of these took part in any fit of ours."""

MAX_NUM_SEQS = {"H100": 1024, "H200": 1024}
"""vLLM's own default, for an API server, where a measurement does not say; 256 elsewhere."""
