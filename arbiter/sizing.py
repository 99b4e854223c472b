"""Where a model fits, and how many tokens a second it makes there. Pure.

The calculation is in `arbiter.roofline`, its lines for people in `arbiter.breakdown`.

How good it is: `ERROR` says, by how the weights are stored; benchmarks/throughput.py makes those
figures from published measurements. Good enough to rank offers, not to promise a rate: live
counters correct the estimate as soon as a replica is busy. On AMD the errors are about twice as
large. Four bit weights come out too fast on large GPUs under an old vLLM, too slow under a newer
one, and the order of GPUs is worst for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from operator import attrgetter

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
    return _fastest(_named(_Same(profile), gpu, count), calibration)


def fit_on(
    profile: Profile, gpu: Gpu, count: int, calibration: Calibration | None = None
) -> Fit | NoFit:
    """As `fit`, on a GPU given by its figures."""
    return _fastest(_estimated(profile, gpu, count), calibration)


class _Same:
    """A value that is equal to itself alone: what is asked of it again is found without reading it.

    Every plan asks about the same profiles, which are too large to compare.
    """

    __slots__ = ("of",)

    def __init__(self, of: Profile) -> None:
        self.of = of

    def __hash__(self) -> int:
        return id(self.of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.of is other.of


@lru_cache(maxsize=1024)
def _named(profile: _Same, gpu: str, count: int) -> tuple[Fit, ...] | NoFit:
    """`_estimated` on a GPU given by its name."""
    found, asked = GPUS.get(gpu), profile.of
    if found is None and gpu in RECORDED_ONLY:
        return NoFit("gpu_not_supported", f"no current vLLM runs on {gpu}")
    if found is None:
        return NoFit("gpu_unknown", f"nothing is known of the GPU {gpu}")
    if asked.gpus and gpu not in asked.gpus:
        return NoFit("gpu_not_in_profile", f"{asked.name} allows only {', '.join(asked.gpus)}")
    return _estimated(asked, found, count)


def _estimated(profile: Profile, gpu: Gpu, count: int) -> tuple[Fit, ...] | NoFit:
    """The variants that fit, before anything is measured; why none does."""
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
    tried = [Roofline(profile, variant, gpu, count) for variant in runnable]
    fitting = tuple(_fit(sized) for sized in tried if _missing(sized) is None)
    if fitting:
        return fitting
    closest = max(tried, key=lambda sized: sized.kv_gpu_gib)
    return NoFit("does_not_fit", _missing(closest) or "")


def _fastest(fitting: tuple[Fit, ...] | NoFit, calibration: Calibration | None) -> Fit | NoFit:
    """The variant that makes most tokens, by what was measured."""
    if isinstance(fitting, NoFit):
        return fitting
    known = fitting if calibration is None else [_corrected(one, calibration) for one in fitting]
    return max(known, key=attrgetter("tokens_per_s"))


def _corrected(estimate: Fit, calibration: Calibration) -> Fit:
    sized = estimate.sized
    evidence = calibration.of(sized.variant.quantization.value, sized.gpu.name, sized.count)
    if evidence is ESTIMATE:
        return estimate
    return replace(estimate, tokens_per_s=tenths(sized.rate() * evidence.factor), evidence=evidence)


def _fit(sized: Roofline) -> Fit:
    """The fit, once nothing is missing."""
    rate = tenths(sized.rate())
    return Fit(
        variant=sized.variant,
        tensor_parallel=sized.count,
        weights_gib=sized.weights / GIB,
        kv_gib=sized.kv_gpu_gib * sized.count,
        kv_tokens=sized.kv_tokens,
        batch=sized.batch,
        tokens_per_s=rate,
        estimated=rate,
        sized=sized,
    )


def _missing(sized: Roofline) -> str | None:
    """What is missing for a variant to run on a machine, or None."""
    machine = f"{sized.count} {sized.gpu.name}"
    stored = sized.variant.quantization
    if sized.kv_gpu_gib <= 0:
        lack = -sized.kv_gpu_gib
        return f"{stored} needs {lack:.1f} GiB more per GPU than {machine} can give"
    if sized.kv_tokens < sized.profile.workload.context:
        return (
            f"{stored} on {machine} leaves room for {sized.kv_tokens:,} tokens, "
            f"the context has {sized.profile.workload.context:,}"
        )
    return None


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


def tenths(rate: float) -> Decimal:
    """To 0.1, and above 0."""
    return max(Decimal(repr(rate)).quantize(Decimal("0.1")), Decimal("0.1"))


def _runs(variant: Variant, gpu: Gpu) -> bool:
    if not gpu.capability:
        return variant.quantization in ON_AMD
    return gpu.capability >= LEAST_CAPABILITY[variant.quantization]
