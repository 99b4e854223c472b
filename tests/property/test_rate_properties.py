"""What holds for any measured rates and any demand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.calibration import Rate, Rates, kind
from arbiter.domain import Candidate
from arbiter.market import sift
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.profiles import load_profile
from arbiter.replay import replay
from arbiter.spot.beliefs import Beliefs
from arbiter.store.journal import Inputs, encode
from arbiter.typed import decode
from tests.unit.fleets import NOW, fleet, offer, quote, replica

EIGHT = load_profile("llama8b")
GPUS = ("L4", "A10G", "L40S", "A100-80GB", "H100")
QUOTES = [
    quote(price, offer("eu-north-1", zone, instance_type=gpu.lower(), gpu=gpu))
    for gpu, price in zip(GPUS, ("0.50", "0.70", "1.10", "1.60", "2.60"), strict=True)
    for zone in ("az1", "az2")
]

rates: st.SearchStrategy[Rates] = st.dictionaries(
    st.builds(
        kind,
        st.sampled_from(["llama8b", "llama70b"]),
        st.sampled_from(["bf16", "fp8"]),
        st.sampled_from(GPUS),
        st.just(1),
    ),
    st.builds(
        lambda busy, share, age: Rate(busy * share, busy, NOW.timestamp() - age),
        st.floats(0.1, 1e6),
        st.floats(0.1, 10),
        st.floats(0, 1e7),
    ),
    max_size=6,
)
demands = st.none() | st.decimals(Decimal("0.1"), Decimal(100_000), places=1)


def keys(found: tuple[Candidate, ...]) -> list[str]:
    return sorted(str(one.quote.offer.key) for one in found)


@settings(deadline=None)
@given(rates, demands)
def test_neither_changes_what_may_be_used_only_its_order(
    known: Rates, demand: Decimal | None
) -> None:
    plain = sift(NOW, QUOTES, EIGHT, Policy())
    found = sift(NOW, QUOTES, EIGHT, Policy(), rates=known, demand=demand)
    assert keys(found.candidates) == keys(plain.candidates)
    assert found.refused == plain.refused
    costs = [one.usd_per_mtok for one in found.candidates]
    assert costs == sorted(costs)
    assert all(
        one.tokens_per_s > 0 and cost > 0 for one, cost in zip(found.candidates, costs, strict=True)
    )


@settings(deadline=None)
@given(rates, st.decimals(Decimal("0.1"), Decimal(100_000), places=1))
def test_more_demand_never_makes_a_token_dearer(known: Rates, demand: Decimal) -> None:
    less = sift(NOW, QUOTES, EIGHT, Policy(), rates=known, demand=demand).candidates
    more = sift(NOW, QUOTES, EIGHT, Policy(), rates=known, demand=demand * 2).candidates
    full = sift(NOW, QUOTES, EIGHT, Policy(), rates=known).candidates
    at = [
        {str(one.quote.offer.key): one.usd_per_mtok for one in some} for some in (less, more, full)
    ]
    for key, cost in at[0].items():
        assert cost >= at[1][key] >= at[2][key]


@settings(deadline=None, max_examples=30)
@given(rates, st.none() | st.floats(0, 1e5))
def test_the_same_inputs_give_the_same_plan_byte_for_byte(
    known: Rates, demand: float | None
) -> None:
    running = replica(of=QUOTES[-1].offer, price="2.60")
    asked = replace(fleet(running), profile=EIGHT, demand=demand)
    beliefs = Beliefs(rates=known)
    made = plan(NOW, QUOTES, asked, Policy(), beliefs)
    inputs = Inputs(NOW, tuple(QUOTES), asked, Policy(), beliefs)
    stored = decode(encode(inputs), Inputs)
    assert encode(replay(stored)) == encode(made)
