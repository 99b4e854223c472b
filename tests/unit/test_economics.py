"""What a launch was expected to save and to cost, in the record of a decision."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.domain import Purchase, Quote
from arbiter.economics import expected_line, pays
from arbiter.egress import egress_usd
from arbiter.explain import plan_dict, plan_lines
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.pools import pool_of
from arbiter.profiles import Quantization, Variant
from arbiter.spot.beliefs import Beliefs, hazard_now
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, replica

ALONE = Policy(max_spares=0)
OLD = replica(of=offer("eu-north-1", None, Purchase.ON_DEMAND), price="0.9", age_s=90_000)


def moved(price: str = "0.20") -> list[Quote]:
    return [quote(price, offer("eu-west-1")), on_demand("0.9")]


def test_a_move_says_what_it_saves_and_what_it_costs() -> None:
    (action,) = plan(NOW, moved(), fleet(OLD), ALONE).actions
    found = action.expected
    assert found is not None
    assert found.saving_usd_hour is not None
    assert Decimal("0.3") < found.saving_usd_hour < Decimal("0.7")
    assert found.cold_start_s == pytest.approx(600)
    assert found.double_running_usd == Decimal("0.0333")  # 600 s at 0.20 USD an hour
    assert found.missing_after > found.missing_before == 0.0
    where = offer("eu-west-1")
    assert found.losses_per_h == hazard_now(
        Beliefs(), pool_of(where), "aws/eu-west-1", NOW.timestamp()
    )
    assert found.pays_back_h == pytest.approx(
        float(found.double_running_usd / found.saving_usd_hour), rel=1e-3
    )
    assert pays(found)


def test_people_and_programs_see_the_figures() -> None:
    made = plan(NOW, moved(), fleet(OLD), ALONE)
    line = next(line for line in plan_lines(made) if "expected:" in line)
    assert "USD an hour" in line
    assert "(600 s)" in line
    assert "losses an hour there" in line
    assert plan_dict(made)["actions"][0]["expected"]["double_running_usd"] == Decimal("0.0333")


def test_without_an_on_demand_price_the_saving_is_unknown_and_said_to_be() -> None:
    (action,) = plan(NOW, [quote("0.2")], fleet(), ALONE).actions
    assert action.expected is not None
    assert action.expected.saving_usd_hour is None
    assert action.expected.pays_back_h is None
    assert "saving unknown" in expected_line(action.expected)


def test_what_is_paid_once_must_come_back_within_the_stay() -> None:
    (action,) = plan(NOW, moved(), fleet(OLD), ALONE).actions
    found = action.expected
    assert found is not None
    assert found.saving_usd_hour is not None
    dear = replace(found, egress_usd=found.saving_usd_hour * 4)
    assert not pays(dear)
    assert pays(replace(dear, saving_usd_hour=None))


def test_a_bucket_elsewhere_is_billed_and_what_is_not_known_is_none() -> None:
    def variant(repository: str) -> Variant:
        return Variant(Quantization.BF16, repository)

    hub, bucket = variant("meta-llama/Llama-3.1-8B-Instruct"), variant("s3://models/llama")
    assert egress_usd(hub, "aws", 16e9) == 0
    assert egress_usd(hub, "vast", 16e9) is None
    assert egress_usd(bucket, "gcp", 100e9) == Decimal("9.0000")
    assert egress_usd(bucket, "aws", 16e9) is None
    assert egress_usd(variant("/models/llama"), "aws", 16e9) is None


@given(st.decimals("0.01", "1.5", places=3), st.integers(0, 200_000))
def test_no_move_is_made_that_does_not_pay(price: Decimal, age_s: int) -> None:
    old = replica(of=offer("eu-north-1", None, Purchase.ON_DEMAND), price="0.9", age_s=age_s)
    for action in plan(NOW, moved(price=str(price)), fleet(old), ALONE).actions:
        if action.for_money:
            assert action.expected is not None
            assert pays(action.expected)
