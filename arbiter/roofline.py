"""The memory and the speed of one variant on one machine, by a roofline. Pure.

Memory, per GPU, in the order in which vLLM fills it:

    usable x share  =  weights / TP + activations + CUDA context and NCCL + margin + KV cache

Throughput is a roofline of decoding plus the prefill of every request and the all-reduces of
tensor parallelism, with constants fitted on 658 public measurements of vLLM on NVIDIA GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping

from arbiter.gpus import Gpu
from arbiter.profiles import Architecture, Profile, Quantization, Variant

GIB = 2**30

LINEAR_BYTES = {
    Quantization.BF16: 2.0,
    Quantization.FP8: 1.0,
    Quantization.AWQ: 0.5 + (2 + 0.5) / 128,  # a 16 bit scale and a 4 bit zero per 128 weights
    Quantization.MXFP4: 0.5 + 1 / 32,  # an 8 bit scale per 32 weights
}
"""Bytes per weight of the linear layers; both embeddings stay at 16 bits."""

ACTIVATION_BYTES = 9.65 * 4
"""Per sequence and vocabulary entry: the profiling run's logits; within 3 % of six of the seven
logged starts that it was fitted on (vLLM 0.11)."""

OVERHEAD_GIB = {False: 0.13, True: 0.55}
"""CUDA context without and with NCCL (logged, vLLM 0.11)."""

MARGIN_GIB = 1.0
"""CUDA graphs and the difference between versions: -0.88 to +1.03 GiB in logged starts."""

BANDWIDTH_SHARE = 0.95
COMPUTE_SHARE = 0.60
FOUR_BIT_SHARE = 0.55  # of the 16 bit peak, unpacking 4 bit weights on the way
STEP_S = 0.003
SEQUENCE_S = 0.00005
LINK = {True: (60e-6, 200e9), False: (80e-6, 12e9)}
"""Latency in s and bytes/s of one all-reduce, over NVLink (True) and PCIe."""


class Roofline:
    """One variant on one machine at the profile's load.

    Attributes:
        profile, variant, gpu, count: what was sized.
        element: bytes per number of the KV cache.
        weights: bytes, of the whole machine.
        budget_gib: what vLLM may use of a GPU.
        activations_gib, overhead_gib: of a GPU.
        kv_gpu_gib: left for the KV cache of a GPU; below 0 where nothing is.
        kv_tokens: tokens of full-length sequences that the cache holds.
        length: tokens of a mean sequence, half of its answer written.
        batch: sequences decoded together.
    """

    def __init__(self, profile: Profile, variant: Variant, gpu: Gpu, count: int) -> None:
        self.profile, self.variant, self.gpu, self.count = profile, variant, gpu, count
        network, load = profile.architecture, profile.workload
        self.element = kv_element(profile.serving.flags)
        self.weights = weights_bytes(network, variant)
        self.budget_gib = gpu.memory_gib * profile.serving.gpu_memory_utilization
        self.activations_gib = ACTIVATION_BYTES * load.concurrency * network.vocab / GIB
        self.overhead_gib = OVERHEAD_GIB[count > 1]
        taken = self.weights / count / GIB + self.activations_gib + self.overhead_gib
        self.kv_gpu_gib = self.budget_gib - taken - MARGIN_GIB
        # Beyond one GPU per KV head the heads are copied, and more GPUs hold no more tokens.
        holding = min(count, network.kv_heads)
        room = max(self.kv_gpu_gib, 0.0) * GIB * holding
        per_token = kv_bytes(network, load.context, self.element) / load.context
        self.kv_tokens = int(room / per_token)
        self.length = load.input_tokens + load.output_tokens / 2
        held = int(room / kv_bytes(network, self.length, self.element))
        self.batch = max(1, min(load.concurrency, held))

    def rate(self) -> float:
        """Output tokens per second of the whole machine."""
        load = self.profile.workload
        seconds = self.prefill_s() + load.output_tokens * self.step_s()
        return self.batch * load.output_tokens / seconds

    def prefill_s(self) -> float:
        """Seconds to read the prompts of a batch."""
        prompt = self.batch * self.profile.workload.input_tokens
        return self.compute_s(prompt) + self.all_reduce_s(prompt)

    def step_s(self) -> float:
        """Seconds to decode one token of every sequence."""
        busy = max(self.reading_s(), self.compute_s(self.batch))
        return busy + STEP_S + SEQUENCE_S * self.batch + self.all_reduce_s(self.batch)

    def reading_s(self) -> float:
        """Seconds to read weights and cache once, which decoding a token of each takes."""
        bandwidth = self.count * self.gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
        return (self.weights_read() + self.cache_read()) / bandwidth

    def cache_read(self) -> float:
        """Bytes of the KV cache that one step reads."""
        return self.batch * kv_bytes(self.profile.architecture, self.length, self.element)

    def weights_read(self) -> float:
        """Bytes of weights that one step reads: of a mixture, the experts that the batch meets."""
        network = self.profile.architecture
        active, experts = network.active_parameters_b, network.experts
        if active is None or experts is None or network.active_experts is None:
            return self.weights
        chosen = network.active_experts / experts
        if chosen >= 1:
            return self.weights
        expert_share = min((network.parameters_b - active) / (1 - chosen) / network.parameters_b, 1)
        met = 1 - (1 - chosen) ** self.batch
        return self.weights * (1 - expert_share + expert_share * met)

    def compute_s(self, tokens: float) -> float:
        """Seconds to compute so many tokens."""
        network = self.profile.architecture
        parameters = (network.active_parameters_b or network.parameters_b) * 1e9
        peak = self.count * tflops(self.gpu, self.variant) * 1e12
        return 2 * parameters * tokens / (peak * COMPUTE_SHARE)

    def all_reduce_s(self, tokens: float) -> float:
        """Two all-reduces per layer."""
        count = self.count
        if count == 1:
            return 0.0
        network = self.profile.architecture
        latency, bandwidth = LINK[self.gpu.nvlink]
        moved = tokens * network.hidden * 4 * (count - 1) / count
        return 2 * network.layers * (latency + moved / bandwidth)


def weights_bytes(network: Architecture, variant: Variant) -> float:
    """Size of the loaded weights: as measured where the variant says so, else computed."""
    if variant.weights_gib is not None:
        return variant.weights_gib * GIB
    parameters = network.parameters_b * 1e9
    embeddings = network.vocab * network.hidden * (1 if network.tied_embeddings else 2)
    linear = max(parameters - embeddings, 0.0)
    return linear * LINEAR_BYTES[variant.quantization] + 2 * min(embeddings, parameters)


def kv_bytes(network: Architecture, tokens: float, element: int = 2) -> float:
    """KV cache of one sequence: every layer keeps all tokens, a sliding one only its window.

    Args:
        element: bytes per number: 2, or 1 with an fp8 cache.
    """
    per_layer = 2 * network.kv_heads * network.head_dim * element
    window = tokens if network.sliding_window is None else min(tokens, network.sliding_window)
    full = network.layers - network.sliding_layers
    return per_layer * (full * tokens + network.sliding_layers * window)


def kv_element(flags: Mapping[str, str | int | float | bool]) -> int:
    """Bytes per number of the KV cache, by the flag kv-cache-dtype."""
    return 1 if str(flags.get("kv-cache-dtype", "")).startswith(("fp8", "int8")) else 2


def tflops(gpu: Gpu, variant: Variant) -> float:
    """What the GPU computes with such weights, dense."""
    if variant.quantization is Quantization.FP8:
        return gpu.tflops_8 or gpu.tflops_16
    if variant.quantization in (Quantization.AWQ, Quantization.MXFP4):
        return gpu.tflops_16 * FOUR_BIT_SHARE
    return gpu.tflops_16
