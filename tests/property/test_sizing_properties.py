"""What holds for every model and every machine."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arbiter.gpus import GPUS, RECORDED_ONLY, Gpu
from arbiter.money import Price
from arbiter.profiles import (
    Architecture,
    Profile,
    Quantization,
    Serving,
    Variant,
    Workload,
)
from arbiter.sizing import Fit, NoFit, fit, fit_on, usd_per_mtok

RULES = {"gpu_unknown", "gpu_not_supported", "gpu_not_in_profile", "does_not_fit"}
counts = st.sampled_from((1, 2, 4, 8))
gpus = st.sampled_from(sorted(GPUS.values(), key=lambda gpu: gpu.name))


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    kv_heads = draw(st.sampled_from((1, 2, 4, 8)))
    layers = draw(st.integers(1, 100))
    experts = draw(st.sampled_from((None, 8, 128)))
    parameters = draw(st.floats(0.0001, 200))
    network = Architecture(
        parameters_b=parameters,
        active_parameters_b=parameters * draw(st.floats(0.01, 1)) if experts else None,
        layers=layers,
        hidden=draw(st.integers(64, 16_384)),
        heads=kv_heads * draw(st.sampled_from((1, 2, 4, 8))),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from((32, 64, 128))),
        vocab=draw(st.integers(256, 262_144)),
        tied_embeddings=draw(st.booleans()),
        sliding_window=128,
        sliding_layers=draw(st.integers(0, layers)),
        experts=experts,
        active_experts=draw(st.integers(1, experts)) if experts else None,
    )
    stored = draw(st.lists(st.sampled_from(Quantization), min_size=1, max_size=3, unique=True))
    context = draw(st.integers(16, 131_072))
    return Profile(
        name="drawn",
        description="",
        architecture=network,
        variants=tuple(Variant(quantization, "me/model") for quantization in stored),
        workload=Workload(
            context,
            concurrency=draw(st.integers(1, 512)),
            input_tokens=draw(st.integers(1, context // 2)),
            output_tokens=draw(st.integers(1, context // 2)),
        ),
        serving=Serving(flags=draw(st.sampled_from(({}, {"kv-cache-dtype": "fp8"})))),
    )


@given(profiles(), gpus, counts)
def test_a_fit_is_possible_and_a_refusal_has_a_reason(
    profile: Profile, gpu: Gpu, count: int
) -> None:
    found = fit(profile, gpu.name, count)
    if isinstance(found, NoFit):
        assert found.rule in RULES
        assert found.reason
        return
    assert found.tokens_per_s > 0
    assert found.variant in profile.variants
    assert found.tensor_parallel == count
    assert found.weights_gib + found.kv_gib < gpu.memory_gib * count
    assert found.kv_tokens >= profile.workload.context
    assert 1 <= found.batch <= profile.workload.concurrency


@given(profiles(), gpus, counts, st.floats(1, 4))
def test_more_memory_never_un_fits_and_never_slows(
    profile: Profile, gpu: Gpu, count: int, factor: float
) -> None:
    small = fit_on(profile, gpu, count)
    assume(isinstance(small, Fit))
    assert isinstance(small, Fit)
    large = fit_on(profile, replace(gpu, memory_gib=gpu.memory_gib * factor), count)
    assert isinstance(large, Fit)
    assert large.tokens_per_s >= small.tokens_per_s
    if large.variant == small.variant:  # another one may fit now, with more weights and less KV
        assert large.kv_tokens >= small.kv_tokens
        assert large.batch >= small.batch


@given(profiles(), gpus, counts, st.floats(1, 4))
def test_a_faster_gpu_is_never_slower(
    profile: Profile, gpu: Gpu, count: int, factor: float
) -> None:
    slow = fit_on(profile, gpu, count)
    assume(isinstance(slow, Fit))
    quick = replace(
        gpu,
        bandwidth_gbs=gpu.bandwidth_gbs * factor,
        tflops_16=gpu.tflops_16 * factor,
        tflops_8=gpu.tflops_8 and gpu.tflops_8 * factor,
    )
    fast = fit_on(profile, quick, count)
    assert isinstance(slow, Fit)
    assert isinstance(fast, Fit)
    assert fast.tokens_per_s >= slow.tokens_per_s


@given(profiles(), gpus, counts)
def test_one_more_variant_never_makes_it_slower(profile: Profile, gpu: Gpu, count: int) -> None:
    first = replace(profile, variants=profile.variants[:1])
    alone, among = fit_on(first, gpu, count), fit_on(profile, gpu, count)
    if isinstance(alone, Fit):
        assert isinstance(among, Fit)
        assert among.tokens_per_s >= alone.tokens_per_s


@given(profiles(), gpus, counts)
def test_a_shorter_context_never_un_fits(profile: Profile, gpu: Gpu, count: int) -> None:
    if isinstance(fit_on(profile, gpu, count), Fit):
        load = replace(profile.workload, context=max(1, profile.workload.context // 2))
        assert isinstance(fit_on(replace(profile, workload=load), gpu, count), Fit)


@given(profiles(), st.sampled_from(sorted(RECORDED_ONLY)) | st.text(max_size=8), counts)
def test_what_is_not_in_the_table_never_fits(profile: Profile, name: str, count: int) -> None:
    assume(name not in GPUS)
    assert isinstance(fit(profile, name, count), NoFit)


@settings(max_examples=200)
@given(
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.decimals(Decimal("0.1"), 100_000, places=1),
    st.decimals(0, 100_000, places=1),
)
def test_cost_rises_with_the_price_and_falls_with_the_rate(
    micros: int, more: int, rate: Decimal, faster: Decimal
) -> None:
    cost = usd_per_mtok(Price(micros), rate)
    assert usd_per_mtok(Price(micros + more), rate) >= cost
    assert usd_per_mtok(Price(micros), rate + faster) <= cost
    assert abs(cost * 3600 * rate - Decimal(micros)) <= Decimal("0.00005") * 3600 * rate
