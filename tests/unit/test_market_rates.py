"""Offers are ranked by what was measured, and at what is asked for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from arbiter.calibration import Basis, Rate, Rates, kind
from arbiter.domain import Candidate, Quote
from arbiter.market import demand_per_replica, sift
from arbiter.planner import demand, plan
from arbiter.policy import Policy
from arbiter.profiles import Profile, load_profile
from tests.unit.fleets import NOW, fleet, offer, quote, replica, service

EIGHT = load_profile("llama8b")
SMALL = quote("0.50", offer("eu-north-1", gpu="L4"))
LARGE = quote("2.40", offer("eu-west-1", instance_type="p5.4xlarge", gpu="H100"))
HOURS = 3600 * 24 * 365.0


def candidates(
    quotes: list[Quote],
    profile: Profile = EIGHT,
    policy: Policy | None = None,
    rates: Rates | None = None,
    asked: Decimal | None = None,
) -> tuple[Candidate, ...]:
    return sift(NOW, quotes, profile, policy or Policy(), rates=rates, demand=asked).candidates


def first(*args: object, **kwargs: object) -> str:
    return candidates(*args, **kwargs)[0].quote.offer.gpu  # type: ignore[arg-type]


def measured(gpu: str, share: float, *variants: str) -> Rates:
    rate = Rate(HOURS * share, HOURS, NOW.timestamp())
    return {kind("llama8b", variant, gpu, 1): rate for variant in variants}


def test_by_the_estimate_the_large_machine_is_the_cheaper_one() -> None:
    small, large = sorted(candidates([SMALL, LARGE]), key=lambda one: one.quote.offer.gpu)[::-1]
    assert first([SMALL, LARGE]) == "H100"
    assert large.tokens_per_s > 5 * small.tokens_per_s
    assert {one.evidence.basis for one in (small, large)} == {Basis.ESTIMATED}


def test_a_machine_that_was_measured_slow_comes_last() -> None:
    rates = measured("H100", 0.2, *(one.quantization for one in EIGHT.variants))
    found = {one.quote.offer.gpu: one for one in candidates([SMALL, LARGE], rates=rates)}
    assert first([SMALL, LARGE], rates=rates) == "L4"
    assert found["H100"].evidence.basis is Basis.MEASURED
    before = candidates([LARGE])[0]
    assert found["H100"].tokens_per_s < before.tokens_per_s * Decimal("0.75")
    assert found["H100"].usd_per_mtok > before.usd_per_mtok


def test_where_one_variant_is_measured_slow_another_may_be_the_fastest() -> None:
    fast = candidates([LARGE])[0].variant
    other = {one.quantization.value for one in EIGHT.variants} - {fast}
    found = candidates([LARGE], rates=measured("H100", 0.2, fast))[0]
    assert found.variant in other
    assert found.evidence.basis is Basis.CORRECTED


def test_what_is_not_asked_for_is_not_paid_for() -> None:
    asked = Decimal(50)
    assert first([SMALL, LARGE], asked=asked) == "L4"
    found = candidates([SMALL, LARGE], asked=asked)
    # dollars an hour over the tokens of an hour, at 50 a second
    assert [one.usd_per_mtok for one in found] == [Decimal("2.7778"), Decimal("13.3333")]


def test_a_demand_that_only_the_large_machine_meets_makes_it_the_cheaper_one() -> None:
    small = candidates([SMALL])[0].tokens_per_s
    loads = (small, 5 * small, 1000 * small)
    assert [first([SMALL, LARGE], asked=asked) for asked in loads] == ["L4", "H100", "H100"]
    assert candidates([SMALL, LARGE], asked=1000 * small) == candidates([SMALL, LARGE])


def test_a_cap_on_the_cost_of_tokens_is_about_full_load() -> None:
    policy = Policy(max_usd_per_mtok=Decimal(2))
    assert len(candidates([SMALL, LARGE], policy=policy)) == 2
    assert len(candidates([SMALL, LARGE], policy=policy, asked=Decimal("0.1"))) == 2


def test_the_profile_states_the_demand_or_else_it_is_shared_out() -> None:
    stated = replace(EIGHT, workload=replace(EIGHT.workload, demand_tokens_per_s=120.0))
    assert demand_per_replica(stated, 4, 900.0) == Decimal("120.0")
    assert demand_per_replica(EIGHT, 4, 900.0) == Decimal("225.0")
    assert demand_per_replica(EIGHT, 4, 0.0) == Decimal("0.1")
    assert demand_per_replica(EIGHT, 4) is None
    assert demand_per_replica(EIGHT, 0, 900.0) is None


def test_the_plan_moves_from_speed_that_nobody_asks_for() -> None:
    running = replica(of=LARGE.offer, price="2.40")
    calm = replace(fleet(running, order=service()), profile=EIGHT)
    assert plan(NOW, [SMALL, LARGE], calm, Policy()).actions == ()
    known = replace(calm, demand=40.0)
    assert demand(known) == Decimal("40.0")
    (move,) = plan(NOW, [SMALL, LARGE], known, Policy()).actions
    assert move.for_money
    assert move.offer == SMALL.offer
