"""Where a model fits, and how many tokens a second it makes there. Pure.

Memory, per GPU, in the order in which vLLM fills it:

    usable x share  =  weights / TP + activations + CUDA context and NCCL + margin + KV cache

Throughput is a roofline of decoding plus the prefill of every request and the all-reduces of
tensor parallelism, with constants fitted on 658 public measurements of vLLM on NVIDIA GPUs.

How good it is: `ERROR` says, by how the weights are stored; benchmarks/throughput.py makes those
figures from published measurements. Good enough to rank offers, not to promise a rate: live
counters correct the estimate as soon as a replica is busy. On AMD the errors are about twice as
large. Four bit weights come out too fast on large GPUs under an old vLLM, too slow under a newer
one, and the order of GPUs is worst for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from arbiter.calibration import ESTIMATE, Calibration, Evidence
from arbiter.gpus import GPUS, RECORDED_ONLY, Gpu
from arbiter.money import Price
from arbiter.profiles import Architecture, Profile, Quantization, Variant

GIB = 2**30

LINEAR_BYTES = {
    Quantization.BF16: 2.0,
    Quantization.FP8: 1.0,
    Quantization.AWQ: 0.5 + (2 + 0.5) / 128,  # a 16 bit scale and a 4 bit zero per 128 weights
    Quantization.MXFP4: 0.5 + 1 / 32,  # an 8 bit scale per 32 weights
}
"""Bytes per weight of the linear layers; both embeddings stay at 16 bits."""

ERROR: dict[Quantization, tuple[int, int]] = {
    Quantization.BF16: (23, 84),
    Quantization.FP8: (18, 23),
    Quantization.AWQ: (48, 69),
}
"""Per cent by which the estimate misses published measurements: half of them by no more than the
first, nine of ten by no more than the second. 28, 11 and 15 measurements on NVIDIA GPUs, vLLM 0.4.3
to 0.20.1; none is known of mxfp4. Written by benchmarks/throughput.py, rounded up."""

LEAST_CAPABILITY = {
    Quantization.BF16: 75,  # held as fp16 before 80
    Quantization.FP8: 80,  # from 89 on in fp8 units, before that weights only
    Quantization.AWQ: 75,
    Quantization.MXFP4: 80,
}
"""CUDA compute capability times ten, by the kernels in the vLLM 0.33 wheel (none below 7.5)."""

ON_AMD = frozenset({Quantization.BF16, Quantization.FP8})

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


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the calculation, for people.

    Attributes:
        value: in the unit.
        formula: how it was found.
    """

    name: str
    value: float
    unit: str
    formula: str


@dataclass(frozen=True, slots=True)
class Fit:
    """The model fits.

    Attributes:
        variant: the one that makes most tokens a second there.
        tensor_parallel: GPUs that share each layer: all of the machine.
        weights_gib: of the whole machine.
        kv_gib: memory left for the KV cache, of the whole machine.
        kv_tokens: tokens of full-length sequences that it holds.
        batch: sequences decoded together at the profile's load.
        tokens_per_s: output tokens per second of the whole machine, to 0.1, above 0.
        breakdown: the calculation, without what was measured.
        estimated: tokens per second by the calculation alone.
        evidence: how it was corrected by what was measured.
    """

    variant: Variant
    tensor_parallel: int
    weights_gib: float
    kv_gib: float
    kv_tokens: int
    batch: int
    tokens_per_s: Decimal
    breakdown: tuple[Figure, ...]
    estimated: Decimal
    evidence: Evidence = ESTIMATE


@dataclass(frozen=True, slots=True)
class NoFit:
    """The model does not run there.

    Attributes:
        rule: "gpu_unknown", "gpu_not_supported", "gpu_not_in_profile" or "does_not_fit".
        reason: one sentence without a full stop.
    """

    rule: str
    reason: str


def fit(
    profile: Profile, gpu: str, count: int, calibration: Calibration | None = None
) -> Fit | NoFit:
    """Whether a profile fits on a machine, and the variant that is fastest there.

    Args:
        gpu: a name in the vocabulary of arbiter.gpus.
        count: GPUs of the machine; all are used.
        calibration: what was measured of this model.
    """
    found = GPUS.get(gpu)
    if found is None and gpu in RECORDED_ONLY:
        return NoFit("gpu_not_supported", f"no current vLLM runs on {gpu}")
    if found is None:
        return NoFit("gpu_unknown", f"nothing is known of the GPU {gpu}")
    if profile.gpus and gpu not in profile.gpus:
        return NoFit("gpu_not_in_profile", f"{profile.name} allows only {', '.join(profile.gpus)}")
    return fit_on(profile, found, count, calibration)


def fit_on(
    profile: Profile, gpu: Gpu, count: int, calibration: Calibration | None = None
) -> Fit | NoFit:
    """As `fit`, on a GPU given by its figures."""
    if 0 < gpu.capability < min(LEAST_CAPABILITY.values()):
        return NoFit("gpu_not_supported", f"vLLM has no kernels for {gpu.name}")
    if not gpu.capability and gpu.name not in profile.gpus:
        return NoFit(
            "gpu_not_supported", f"{gpu.name} is from AMD, and {profile.name} does not list it"
        )
    runnable = [variant for variant in profile.variants if _runs(variant, gpu)]
    if not runnable:
        stored = ", ".join(variant.quantization for variant in profile.variants)
        return NoFit("gpu_not_supported", f"vLLM has no {stored} kernels for {gpu.name}")
    heads = profile.architecture.heads
    if count < 1 or count & (count - 1) or heads % count:
        return NoFit("does_not_fit", f"{heads} heads cannot be shared by {count} GPUs")
    tried = [_Trial(profile, variant, gpu, count) for variant in runnable]
    fitting = [trial.result(calibration) for trial in tried if trial.missing is None]
    if fitting:
        return max(fitting, key=lambda result: result.tokens_per_s)
    closest = max(tried, key=lambda trial: trial.kv_gpu_gib)
    return NoFit("does_not_fit", closest.missing or "")


def usd_per_mtok(price: Price, tokens_per_s: Decimal) -> Decimal:
    """USD per million output tokens, to 4 decimals.

    Args:
        price: per hour for the whole machine, in USD.
        tokens_per_s: output tokens per second of the whole machine, above 0.

    Raises:
        ValueError: another currency, or no tokens.
    """
    if price.currency != "USD":
        raise ValueError(f"a price in {price.currency} is not a cost in USD")
    if tokens_per_s <= 0:
        raise ValueError(f"no cost per token at {tokens_per_s} tokens a second")
    exact = Decimal(price.micros) / (3600 * tokens_per_s)
    return exact.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN)


def error_sentence(stored: Quantization) -> str:
    """How far the estimate is to be trusted, without a full stop."""
    known = ERROR.get(stored)
    if known is None:
        return f"an estimate, and no measurement of {stored} weights is known to check it by"
    half, most = known
    return (
        f"an estimate: half of the published measurements were within {half} % of it, "
        f"nine of ten within {most} %"
    )


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


class _Trial:
    """One variant on one machine."""

    def __init__(self, profile: Profile, variant: Variant, gpu: Gpu, count: int) -> None:
        self._profile, self._variant, self._gpu, self._count = profile, variant, gpu, count
        network, load = profile.architecture, profile.workload
        self._element = kv_element(profile.serving.flags)
        self._weights = weights_bytes(network, variant)
        self._budget_gib = gpu.memory_gib * profile.serving.gpu_memory_utilization
        self._activations_gib = ACTIVATION_BYTES * load.concurrency * network.vocab / GIB
        self._overhead_gib = OVERHEAD_GIB[count > 1]
        taken = self._weights / count / GIB + self._activations_gib + self._overhead_gib
        self.kv_gpu_gib = self._budget_gib - taken - MARGIN_GIB
        # Beyond one GPU per KV head the heads are copied, and more GPUs hold no more tokens.
        holding = min(count, network.kv_heads)
        room = max(self.kv_gpu_gib, 0.0) * GIB * holding
        per_token = kv_bytes(network, load.context, self._element) / load.context
        self._kv_tokens = int(room / per_token)
        self._length = load.input_tokens + load.output_tokens / 2
        held = int(room / kv_bytes(network, self._length, self._element))
        self._batch = max(1, min(load.concurrency, held))

    @property
    def missing(self) -> str | None:
        """What is missing for this variant to run, or None."""
        machine = f"{self._count} {self._gpu.name}"
        stored = self._variant.quantization
        if self.kv_gpu_gib <= 0:
            lack = -self.kv_gpu_gib
            return f"{stored} needs {lack:.1f} GiB more per GPU than {machine} can give"
        if self._kv_tokens < self._profile.workload.context:
            return (
                f"{stored} on {machine} leaves room for {self._kv_tokens:,} tokens, "
                f"the context has {self._profile.workload.context:,}"
            )
        return None

    def result(self, calibration: Calibration | None) -> Fit:
        """The fit, once nothing is missing."""
        rate, evidence = self._rate(), ESTIMATE
        if calibration is not None:
            stored = self._variant.quantization.value
            evidence = calibration.of(stored, self._gpu.name, self._count)
        estimated = tenths(rate)
        return Fit(
            variant=self._variant,
            tensor_parallel=self._count,
            weights_gib=self._weights / GIB,
            kv_gib=self.kv_gpu_gib * self._count,
            kv_tokens=self._kv_tokens,
            batch=self._batch,
            tokens_per_s=tenths(rate * evidence.factor),
            breakdown=self._breakdown(estimated),
            estimated=estimated,
            evidence=evidence,
        )

    def _rate(self) -> float:
        """Output tokens per second of the whole machine at the profile's load."""
        load, batch = self._profile.workload, self._batch
        prompt = batch * load.input_tokens
        prefill = self._compute_s(prompt) + self._all_reduce_s(prompt)
        return batch * load.output_tokens / (prefill + load.output_tokens * self._step_s())

    def _step_s(self) -> float:
        """Seconds to decode one token of every sequence."""
        batch = self._batch
        cache = batch * kv_bytes(self._profile.architecture, self._length, self._element)
        bandwidth = self._count * self._gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE
        reading = (self._weights_read() + cache) / bandwidth
        busy = max(reading, self._compute_s(batch))
        return busy + STEP_S + SEQUENCE_S * batch + self._all_reduce_s(batch)

    def _weights_read(self) -> float:
        """Bytes of weights that one step reads: of a mixture, the experts that the batch meets."""
        network = self._profile.architecture
        active, experts = network.active_parameters_b, network.experts
        if active is None or experts is None or network.active_experts is None:
            return self._weights
        chosen = network.active_experts / experts
        if chosen >= 1:
            return self._weights
        expert_share = min((network.parameters_b - active) / (1 - chosen) / network.parameters_b, 1)
        met = 1 - (1 - chosen) ** self._batch
        return self._weights * (1 - expert_share + expert_share * met)

    def _compute_s(self, tokens: float) -> float:
        network = self._profile.architecture
        parameters = (network.active_parameters_b or network.parameters_b) * 1e9
        peak = self._count * _tflops(self._gpu, self._variant) * 1e12
        return 2 * parameters * tokens / (peak * COMPUTE_SHARE)

    def _all_reduce_s(self, tokens: float) -> float:
        """Two all-reduces per layer."""
        count = self._count
        if count == 1:
            return 0.0
        network = self._profile.architecture
        latency, bandwidth = LINK[self._gpu.nvlink]
        moved = tokens * network.hidden * 4 * (count - 1) / count
        return 2 * network.layers * (latency + moved / bandwidth)

    def _breakdown(self, rate: Decimal) -> tuple[Figure, ...]:
        load, count, gpu = self._profile.workload, self._count, self._gpu
        share = self._profile.serving.gpu_memory_utilization
        measured = self._variant.weights_gib is not None
        per_weight = LINEAR_BYTES[self._variant.quantization]
        computed = f"{per_weight:.4g} bytes x linear weights + 2 bytes x embeddings"
        return (
            Figure("memory", self._budget_gib, "GiB per GPU", f"{gpu.memory_gib} x {share}"),
            Figure(
                "weights",
                self._weights / count / GIB,
                "GiB per GPU",
                f"{'as measured' if measured else computed}, over {count} GPUs",
            ),
            Figure(
                "activations",
                self._activations_gib,
                "GiB per GPU",
                f"{ACTIVATION_BYTES:.4g} bytes x {load.concurrency} sequences x vocabulary",
            ),
            Figure(
                "overhead",
                self._overhead_gib,
                "GiB per GPU",
                "CUDA context" if count == 1 else "CUDA context and NCCL",
            ),
            Figure("margin", MARGIN_GIB, "GiB per GPU", "CUDA graphs, versions"),
            Figure("KV cache", self.kv_gpu_gib, "GiB per GPU", "what is left"),
            Figure(
                "KV cache per token",
                kv_bytes(self._profile.architecture, load.context, self._element) / load.context,
                "bytes",
                f"2 x layers x KV heads x head size x {self._element}, at full context",
            ),
            Figure("KV cache holds", self._kv_tokens, "tokens", "KV cache / per token"),
            Figure(
                "batch",
                self._batch,
                "sequences",
                f"at most {load.concurrency}, of {self._length:g} tokens each",
            ),
            Figure(
                "step", self._step_s() * 1000, "ms", "max(reading, computing) + fixed + all-reduce"
            ),
            Figure(
                "rate",
                float(rate),
                "output tokens/s",
                f"batch x {load.output_tokens} / (prefill + {load.output_tokens} steps)",
            ),
        )


def tenths(rate: float) -> Decimal:
    """To 0.1, and above 0."""
    return max(Decimal(repr(rate)).quantize(Decimal("0.1")), Decimal("0.1"))


def _runs(variant: Variant, gpu: Gpu) -> bool:
    if not gpu.capability:
        return variant.quantization in ON_AMD
    return gpu.capability >= LEAST_CAPABILITY[variant.quantization]


def _tflops(gpu: Gpu, variant: Variant) -> float:
    if variant.quantization is Quantization.FP8:
        return gpu.tflops_8 or gpu.tflops_16
    if variant.quantization in (Quantization.AWQ, Quantization.MXFP4):
        return gpu.tflops_16 * FOUR_BIT_SHARE
    return gpu.tflops_16
