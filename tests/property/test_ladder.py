"""Places that become cheaper one after the other: a service does not climb every rung."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.domain import Purchase
from arbiter.policy import Policy
from tests.property.test_planner_properties import World
from tests.unit.fleets import NOW, offer, quote

RUNGS = [offer("eu-north-1", f"az{letter}") for letter in "ABCDE"]
FIXED = offer("eu-central-1", None, Purchase.ON_DEMAND)
STEP = timedelta(minutes=5)


def climbed(policy: Policy, shares: list[Decimal], hours: int = 12) -> World:
    """A world after the rungs A to E fell in price in turn, again and again."""
    world = World(NOW, [])
    prices = [Decimal("0.60")] * len(RUNGS)
    for step in range(hours * 12):
        rung = step % len(RUNGS)
        cheapest = min(prices)
        prices[rung] = max(Decimal("0.01"), cheapest * (1 - shares[step % len(shares)]))
        if prices[rung] <= Decimal("0.02"):
            prices = [Decimal("0.60")] * len(RUNGS)  # the ladder begins again
        market = [
            quote(f"{price:.4f}", one, at=world.now)
            for price, one in zip(prices, RUNGS, strict=True)
        ]
        world.tick([*market, quote("0.9", FIXED, at=world.now)], policy)
        world.now += STEP
    return world


def test_steps_smaller_than_the_least_saving_are_not_all_taken() -> None:
    """Each rung is 10 % cheaper than the one before; a move has to save 20 %."""
    world = climbed(Policy(max_spares=0), [Decimal("0.10")], hours=2)
    assert len(world.moves) <= 2 * 3600 // Policy().min_stay_s
    patient = climbed(Policy(max_spares=0, min_saving=Decimal("0.9")), [Decimal("0.10")], hours=1)
    assert patient.moves == ()


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.decimals("0.02", "0.6", places=2), min_size=3, max_size=12),
    st.integers(0, 5),
    st.sampled_from([1200, 3600]),
)
def test_no_ladder_of_prices_moves_more_than_the_bounds_allow(
    shares: list[Decimal], most: int, stay_s: int
) -> None:
    policy = Policy(max_spares=0, max_moves_per_day=most, min_stay_s=stay_s)
    world = climbed(policy, shares)
    assert len(world.moves) <= min(most, 1 + 12 * 3600 // stay_s)
    assert world.launches <= 1 + len(world.moves)
    instants = sorted(world.moves)
    gaps = [b - a for a, b in pairwise(instants)]
    assert all(gap >= timedelta(seconds=stay_s) for gap in gaps)
