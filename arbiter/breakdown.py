"""How an offer was sized, line by line, with where each figure comes from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from arbiter.calibration import Basis
from arbiter.profiles import Quantization
from arbiter.roofline import (
    ACTIVATION_BYTES,
    BANDWIDTH_SHARE,
    COMPUTE_SHARE,
    FOUR_BIT_SHARE,
    GIB,
    LINEAR_BYTES,
    MARGIN_GIB,
    SEQUENCE_S,
    STEP_S,
    Roofline,
    kv_bytes,
    tflops,
)
from arbiter.sizing import Fit

SOURCES = {
    "A": "GPU table: the datasheet, as NVIDIA's aiconfigurator has it",
    "B": "GPU table: a public table",
    "U": "GPU table: the datasheet from memory, unconfirmed",
}
"""Where the figures of a GPU come from, by `Gpu.source`."""

LOGGED = "fact: starts that vLLM 0.11 logged"
FITTED = "fitted on 658 public measurements"
PROFILE = "the profile"
COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the calculation.

    Attributes:
        value: in the unit.
        formula: how it was found.
        source: where it, or what is new in its formula, comes from.
    """

    name: str
    value: float
    unit: str
    formula: str
    source: str


def breakdown(fitted: Fit, now: datetime, demand: Decimal | None = None) -> list[Figure]:
    """All lines, from the memory of a GPU to the tokens that are counted on.

    Args:
        demand: output tokens per second that a replica is asked for; None: not known.
    """
    sized = fitted.sized
    return [*_memory(sized), *_speed(sized), *_rate(fitted, now, demand)]


def _memory(sized: Roofline) -> Iterator[Figure]:
    profile, variant, count = sized.profile, sized.variant, sized.count
    load, share = profile.workload, profile.serving.gpu_memory_utilization
    per_gpu, table = "GiB per GPU", SOURCES[sized.gpu.source]
    yield Figure(
        "memory", sized.budget_gib, per_gpu, f"{sized.gpu.memory_gib} x {share} of it",
        f"{table}; {PROFILE}",
    )  # fmt: skip
    per_weight = LINEAR_BYTES[variant.quantization]
    computed = f"{per_weight:.4g} bytes x linear weights + 2 bytes x embeddings"
    known = variant.weights_gib is not None
    over = "" if count == 1 else f", over {count} GPUs"
    yield Figure(
        "weights", sized.weights / count / GIB, per_gpu,
        f"{'as loaded' if known else computed}{over}",
        "the profile: measured" if known else f"{PROFILE}: {profile.architecture.parameters_b} B",
    )  # fmt: skip
    yield Figure(
        "activations", sized.activations_gib, per_gpu,
        f"{ACTIVATION_BYTES:.4g} bytes x {load.concurrency} sequences x vocabulary", LOGGED,
    )  # fmt: skip
    context = "CUDA context" if count == 1 else "CUDA context and NCCL"
    yield Figure("overhead", sized.overhead_gib, per_gpu, context, LOGGED)
    yield Figure("margin", MARGIN_GIB, per_gpu, "CUDA graphs, versions", LOGGED)
    per_token = kv_bytes(profile.architecture, load.context, sized.element) / load.context
    yield Figure("KV cache", sized.kv_gpu_gib, per_gpu, "what is left", COMPUTED)
    yield Figure(
        "KV cache per token", per_token, "bytes",
        f"2 x layers x KV heads x head size x {sized.element}, at full context", PROFILE,
    )  # fmt: skip
    yield Figure("KV cache holds", sized.kv_tokens, "tokens", "KV cache / per token", COMPUTED)
    bound = PROFILE if sized.batch == load.concurrency else "the KV cache, which holds no more"
    yield Figure(
        "batch", sized.batch, "sequences",
        f"at most {load.concurrency}, of {sized.length:g} tokens each", bound,
    )  # fmt: skip


def _speed(sized: Roofline) -> Iterator[Figure]:
    """The terms of a step, which writes one token of every sequence."""
    gpu, count, batch = sized.gpu, sized.count, sized.batch
    table, many = SOURCES[gpu.source], "" if count == 1 else f"{count} x "
    yield Figure(
        "reading", sized.reading_s() * 1000, "ms",
        f"({sized.weights_read() / 1e9:.1f} GB of weights + {sized.cache_read() / 1e9:.1f} GB of "
        f"cache) / ({many}{gpu.bandwidth_gbs:g} GB/s x {BANDWIDTH_SHARE})",
        f"{table}; {FITTED}",
    )  # fmt: skip
    peak = f"{many}{tflops(gpu, sized.variant):g} TFLOPS x {COMPUTE_SHARE}"
    yield Figure(
        "computing", sized.compute_s(batch) * 1000, "ms",
        f"2 x {_active_b(sized):g} B x {batch} / ({peak})", f"{table}; {FITTED}{_peak(sized)}",
    )  # fmt: skip
    yield Figure(
        "fixed", (STEP_S + SEQUENCE_S * batch) * 1000, "ms",
        f"{STEP_S * 1000:g} + {SEQUENCE_S * 1000:g} x {batch}", FITTED,
    )  # fmt: skip
    link = "none: one GPU" if count == 1 else f"two per layer, over {_link(sized)}"
    source = COMPUTED if count == 1 else FITTED
    yield Figure("all-reduce", sized.all_reduce_s(batch) * 1000, "ms", link, source)
    larger = "max(reading, computing) + fixed + all-reduce"
    yield Figure("step", sized.step_s() * 1000, "ms", larger, COMPUTED)
    prompt = sized.profile.workload.input_tokens
    yield Figure(
        "prefill", sized.prefill_s() * 1000, "ms", f"computing {batch} prompts of {prompt} tokens",
        COMPUTED,
    )  # fmt: skip


def _rate(fitted: Fit, now: datetime, demand: Decimal | None) -> Iterator[Figure]:
    output = fitted.sized.profile.workload.output_tokens
    unit, evidence = "output tokens/s", fitted.evidence
    yield Figure(
        "estimate", float(fitted.estimated), unit,
        f"batch x {output} / (prefill + {output} steps)", COMPUTED,
    )  # fmt: skip
    if evidence.basis is not Basis.ESTIMATED:
        yield Figure(
            "correction", evidence.factor, "x", _measured(fitted, now), "counters of servers"
        )
        yield Figure(
            "rate", float(fitted.tokens_per_s), unit, "estimate x correction", evidence.basis.value
        )
    if demand is not None:
        count = min(demand, fitted.tokens_per_s)
        stated = fitted.sized.profile.workload.demand_tokens_per_s is not None
        source = PROFILE if stated else "counters of servers"
        yield Figure("counted on", float(count), unit, f"min(rate, {demand} asked for)", source)


def _measured(fitted: Fit, now: datetime) -> str:
    evidence = fitted.evidence
    if evidence.seen_at is None:
        return "half of what other machines have measured, or less"
    minutes, hours = evidence.busy_s / 60, (now - evidence.seen_at).total_seconds() / 3600
    return f"{minutes:.1f} busy minutes, the last {hours:.1f} h ago, against 10 of the estimate"


def _active_b(sized: Roofline) -> float:
    network = sized.profile.architecture
    return network.active_parameters_b or network.parameters_b


def _peak(sized: Roofline) -> str:
    """What the figure of a GPU is for such weights."""
    stored = sized.variant.quantization
    if stored in (Quantization.AWQ, Quantization.MXFP4):
        return f", {FOUR_BIT_SHARE} of 16 bit for 4 bit weights"
    return ""


def _link(sized: Roofline) -> str:
    return "NVLink" if sized.gpu.nvlink else "PCIe"
