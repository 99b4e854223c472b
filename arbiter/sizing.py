"""Where a model fits, and how many tokens a second it makes there. Pure.

The calculation is in `arbiter.roofline`, its lines for people in `arbiter.breakdown`.

How good it is: `ERROR` says, by how the weights are stored; benchmarks/throughput.py makes those
figures from published measurements. Good enough to rank offers, not to promise a rate: live
counters correct the estimate as soon as a replica is busy. On AMD the errors are about twice as
large. Four bit weights come out too fast on large GPUs under an old vLLM, too slow under a newer
one, and the order of GPUs is worst for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

from arbiter.calibration import ESTIMATE, Calibration, Evidence
from arbiter.gpus import GPUS, RECORDED_ONLY, Gpu
from arbiter.money import Price
from arbiter.profiles import Profile, Quantization, Variant
from arbiter.roofline import GIB, Roofline

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
        sized: the calculation.
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
    estimated: Decimal
    sized: Roofline = field(compare=False, repr=False)
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


_TO_4_DECIMALS = Decimal("0.0001")


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
    return exact.quantize(_TO_4_DECIMALS, ROUND_HALF_EVEN)


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


class _Trial:
    """One variant on one machine, and whether it runs there."""

    def __init__(self, profile: Profile, variant: Variant, gpu: Gpu, count: int) -> None:
        self._sized = Roofline(profile, variant, gpu, count)
        self._gpu, self._count = gpu, count

    @property
    def kv_gpu_gib(self) -> float:
        """Left for the KV cache of a GPU."""
        return self._sized.kv_gpu_gib

    @property
    def missing(self) -> str | None:
        """What is missing for this variant to run, or None."""
        machine = f"{self._count} {self._gpu.name}"
        stored = self._sized.variant.quantization
        if self.kv_gpu_gib <= 0:
            lack = -self.kv_gpu_gib
            return f"{stored} needs {lack:.1f} GiB more per GPU than {machine} can give"
        if self._sized.kv_tokens < self._sized.profile.workload.context:
            return (
                f"{stored} on {machine} leaves room for {self._sized.kv_tokens:,} tokens, "
                f"the context has {self._sized.profile.workload.context:,}"
            )
        return None

    def result(self, calibration: Calibration | None) -> Fit:
        """The fit, once nothing is missing."""
        rate, evidence = self._sized.rate(), ESTIMATE
        if calibration is not None:
            stored = self._sized.variant.quantization.value
            evidence = calibration.of(stored, self._gpu.name, self._count)
        return Fit(
            variant=self._sized.variant,
            tensor_parallel=self._count,
            weights_gib=self._sized.weights / GIB,
            kv_gib=self.kv_gpu_gib * self._count,
            kv_tokens=self._sized.kv_tokens,
            batch=self._sized.batch,
            tokens_per_s=tenths(rate * evidence.factor),
            estimated=tenths(rate),
            sized=self._sized,
            evidence=evidence,
        )


def tenths(rate: float) -> Decimal:
    """To 0.1, and above 0."""
    return max(Decimal(repr(rate)).quantize(Decimal("0.1")), Decimal("0.1"))


def _runs(variant: Variant, gpu: Gpu) -> bool:
    if not gpu.capability:
        return variant.quantization in ON_AMD
    return gpu.capability >= LEAST_CAPABILITY[variant.quantization]
