"""The floor of quality: which variants are served, and what is refused below it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.market import sift
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.profiles import Profile, Quantization, load_profile
from arbiter.variants import BITS, at_quality
from tests.unit.fleets import NOW, fleet, offer, quote

MODEL = load_profile("llama70b")
GPUS = [("L40S", 1), ("L40S", 4), ("A100-40GB", 2), ("H100", 2), ("A100-80GB", 4), ("H200", 2)]
MARKET = [
    quote(str(1 + n), offer(instance_type=f"m{n}", gpu=gpu, gpu_count=count))
    for n, (gpu, count) in enumerate(GPUS)
]
floors = st.sampled_from([None, *Quantization])


def test_without_a_floor_every_variant_may_be_served() -> None:
    assert at_quality(MODEL, Policy()) is MODEL


@pytest.mark.parametrize(
    ("floor", "kept"),
    [("bf16", ["bf16"]), ("fp8", ["bf16", "fp8"]), ("mxfp4", None), ("awq", None)],
)
def test_a_floor_leaves_out_what_has_fewer_bits(floor: str, kept: list[str] | None) -> None:
    served = at_quality(MODEL, Policy(quality_floor=Quantization(floor)))
    stored = [one.quantization.value for one in served.variants]
    assert stored == (kept or [one.quantization.value for one in MODEL.variants])


def test_the_profiles_own_floor_comes_before_the_policys() -> None:
    strict = Policy(quality_floor=Quantization.BF16)
    assert at_quality(load_profile("gpt-oss-120b"), strict).variants
    own = replace(MODEL, quality_floor=Quantization.FP8)
    assert len(at_quality(own, strict).variants) == 2


def test_what_only_runs_below_the_floor_is_refused_for_it() -> None:
    strict = Policy(quality_floor=Quantization.FP8)
    found = sift(NOW, MARKET, MODEL, strict)
    refused = {one.offer.instance_type: one for one in found.refused}
    assert refused["m2"].rule == "below_quality_floor"  # two of 40 GB hold only 4 bits
    assert refused["m2"].reason == "only awq runs there, below the quality floor, fp8"
    assert {one.variant for one in found.candidates} <= {"bf16", "fp8"}
    assert {one.quote.offer.instance_type for one in found.candidates} >= {"m3", "m4", "m5"}


@given(floors, floors)
def test_a_higher_floor_never_lets_more_in_and_never_makes_it_cheaper(
    one: Quantization | None, other: Quantization | None
) -> None:
    low, high = sorted((one, other), key=lambda floor: BITS[floor] if floor else 0)
    lenient, strict = (
        {c.quote.offer.key: c for c in sift(NOW, MARKET, MODEL, Policy(quality_floor=f)).candidates}
        for f in (low, high)
    )
    assert strict.keys() <= lenient.keys()
    assert all(c.usd_per_mtok >= lenient[key].usd_per_mtok for key, c in strict.items())


@given(floors)
def test_no_plan_launches_below_the_floor(floor: Quantization | None) -> None:
    found = replace(fleet(), profile=replace(MODEL, serving=fleet().profile.serving))
    for action in plan(NOW, MARKET, found, Policy(quality_floor=floor)).actions:
        assert floor is None or BITS[Quantization(action.variant)] >= BITS[floor]


def test_a_floor_that_no_variant_meets_refuses_all_and_says_so() -> None:
    only: Profile = load_profile("llama70b-awq")
    found = sift(NOW, MARKET, only, Policy(quality_floor=Quantization.BF16))
    assert not found.candidates
    assert "below_quality_floor" in {one.rule for one in found.refused}
