"""What may be left out of a decision without changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.asked import Asked
from arbiter.domain import Purchase, Quote, Replica, ReplicaState
from arbiter.market import sift
from arbiter.policy import Policy
from arbiter.pools import group_of, pool_of
from arbiter.sovereignty import Level, Rule
from arbiter.spot.beliefs import Beliefs, Event, Happened, learn
from arbiter.spot.decide import Board
from arbiter.spot.priors import BAND, Seed
from arbiter.standing import Standing, Wish
from arbiter.wishes import Wishes
from tests.unit.fleets import NOW, offer, on_demand, profile, quote, replica

POLICY = Policy(sovereignty=Rule(level=Level.ANY), min_stay_s=600)
PLACES = [
    offer(region, zone)
    for region in ("eu-north-1", "eu-west-1", "us-east-1")
    for zone in ("az1", "az2", "az3")
]
prices = st.lists(st.integers(10, 120), min_size=len(PLACES), max_size=len(PLACES))
tried = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(list(Happened))), max_size=6)
told = st.dictionaries(st.sampled_from(range(len(PLACES))), st.sampled_from([0.5, 2.0]), max_size=6)
held = st.lists(
    st.tuples(st.sampled_from([*PLACES, None]), st.booleans(), st.integers(0, 9000)), max_size=5
)


def all_wishes(given_: Standing, beliefs: Beliefs) -> list[Wish]:
    """What is wanted where every pool is asked about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Asked, "_kind", lambda self, name: ("", name, 1.0))
        return Wishes(given_, POLICY, beliefs).all()


def standing(market: Sequence[Quote], replicas: Sequence[Replica], n: int) -> Standing:
    costs = {one.cluster: one.price.amount for one in replicas if one.price is not None}
    return Standing(
        now=NOW,
        service="chat",
        profile=profile(),
        notice_s={},
        replicas=n,
        market=sift(NOW, market, profile(), POLICY),
        machines=replicas,
        doomed=frozenset(),
        costs=costs,
        failures=0,
        moves_left=3,
    )


def patient_wishes(given_: Standing, beliefs: Beliefs) -> list[Wish]:
    """What is wanted where the board names one step after the other, to the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Board, "idle", lambda self, refused, *, beside: False)
        return Wishes(given_, POLICY, beliefs).all()


@settings(max_examples=60, deadline=None)
@given(prices, tried, told, held, st.integers(1, 4))
def test_pools_that_only_cost_more_may_be_left_out(
    cents: list[int], events: list, seeds: dict[int, float], machines: list, n: int
) -> None:  # type: ignore[type-arg]
    market = [quote(f"{c / 100:.2f}", one) for c, one in zip(cents, PLACES, strict=True)]
    market.append(on_demand("1.0"))
    known = learn(
        Beliefs(),
        [
            Event(NOW.timestamp() - 9000 + k, pool_of(one), group_of(one), kind)
            for k, (one, kind) in enumerate(events)
        ],
    )
    said = {pool_of(PLACES[k]): Seed(factor, BAND, "", 0.0) for k, factor in seeds.items()}
    beliefs = replace(known, seeds=said)
    bought = offer("eu-north-1", None, Purchase.ON_DEMAND)
    replicas = [
        replica(
            k,
            ReplicaState.HEALTHY if healthy else ReplicaState.STARTING,
            place or bought,
            "0.5",
            age_s=age,
        )
        for k, (place, healthy, age) in enumerate(machines, 1)
    ]
    replicas = [
        one if one.state is ReplicaState.HEALTHY else replace(one, healthy_at=None)
        for one in replicas
    ]
    given_ = standing(market, replicas, n)
    later = replace(given_, now=NOW + timedelta(minutes=30))
    for one in (given_, later, replace(given_, moves_left=0)):
        wanted = Wishes(one, POLICY, beliefs).all()
        assert wanted == all_wishes(one, beliefs)
        assert wanted == patient_wishes(one, beliefs)
