"""Replicas that are always on demand, and machines that are paid for already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.commitments import COMMITTED, Commitment, covered, in_force, in_use
from arbiter.domain import Action, ActionKind, Offer, Purchase, Quote, Replica, ReplicaState
from arbiter.explain import plan_dict, plan_lines
from arbiter.market import sift
from arbiter.planner import plan
from arbiter.policy import Policy
from tests.unit.fleets import NOW, fleet, offer, on_demand, profile, quote, replica, service

BOUGHT = offer("eu-north-1", None, Purchase.ON_DEMAND)
HELD = Commitment("aws", "eu-north-1", "g6.xlarge", 2, date(2027, 1, 1))
PAID = Policy(commitments=(HELD,), max_spares=0)
MARKET = [quote("0.30", offer("eu-west-1")), quote("0.32", offer("eu-central-1")), on_demand("0.9")]


def launches(*replicas: Replica, policy: Policy, n: int = 1, **changes: object) -> list[Action]:
    order = service(n, generation=len(replicas))
    made = plan(NOW, MARKET, fleet(*replicas, order=order, **changes), policy)
    return [one for one in made.actions if one.kind is ActionKind.LAUNCH]


def kinds(actions: list[Action]) -> Counter[Purchase]:
    return Counter(one.offer.purchase for one in actions if one.offer is not None)


# --- always on demand ---------------------------------------------------------------------------


def test_so_many_replicas_are_always_on_demand() -> None:
    found = launches(policy=Policy(base_on_demand=1, max_spares=0), n=3)
    assert kinds(found) == {Purchase.ON_DEMAND: 1, Purchase.SPOT: 2}
    assert found[0].reason == "on demand, as 1 of 3 replicas always are"


def test_a_base_above_the_order_is_all_of_it_and_is_left_alone() -> None:
    policy = Policy(base_on_demand=5, max_spares=0)
    assert kinds(launches(policy=policy, n=2)) == {Purchase.ON_DEMAND: 2}
    both = [replica(n, of=BOUGHT, price="0.9", age_s=90_000) for n in (1, 2)]
    assert launches(*both, policy=policy, n=2) == []
    assert launches(*both, policy=Policy(max_spares=0), n=2) != []  # otherwise they move to spot


def test_where_none_can_be_bought_spot_serves() -> None:
    order = service(2)
    made = plan(NOW, MARKET[:2], fleet(order=order), Policy(base_on_demand=2, max_spares=0))
    assert kinds(list(made.actions)) == {Purchase.SPOT: 2}


def test_nothing_is_ended_for_it_before_the_machine_on_demand_answers() -> None:
    policy = Policy(base_on_demand=1, max_spares=0)
    spot = [replica(n, of=offer("eu-west-1"), price="0.3", age_s=90_000) for n in (1, 2)]
    (bought,) = launches(*spot, policy=policy, n=2)
    assert bought.offer == BOUGHT
    coming = replica(3, ReplicaState.STARTING, BOUGHT, "0.9", age_s=60)
    made = plan(NOW, MARKET, fleet(*spot, coming, order=service(2)), policy)
    assert made.actions == ()
    there = replica(3, of=BOUGHT, price="0.9", age_s=60)
    made = plan(NOW, MARKET, fleet(*spot, there, order=service(2)), policy)
    assert [one.kind for one in made.actions] == [ActionKind.DRAIN]
    assert made.actions[0].cluster != there.cluster


machines = st.lists(
    st.tuples(st.booleans(), st.sampled_from(list(ReplicaState)), st.integers(0, 20_000)),
    max_size=5,
)


@given(machines, st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_the_base_is_there_or_coming_and_no_answer_is_given_up_for_it(
    which: list[tuple[bool, ReplicaState, int]], n: int, base: int, paid: bool
) -> None:
    policy = Policy(base_on_demand=base, commitments=(HELD,) if paid else ())
    fleet_now = fleet(
        *(
            replica(number, state, BOUGHT if bought else offer("eu-west-1"), "0.5", age_s=age)
            for number, (bought, state, age) in enumerate(which, 1)
        ),
        order=service(n, generation=len(which)),
    )
    going = [one.cluster for one in fleet_now.replicas if one.state is ReplicaState.ENDING]
    fleet_now = replace(fleet_now, ending=tuple(going))
    made = plan(NOW, MARKET, fleet_now, policy)
    ended = {one.cluster for one in made.actions if one.kind is not ActionKind.LAUNCH}
    leaving = (ReplicaState.DRAINING, ReplicaState.ENDING)
    stay = [
        one
        for one in fleet_now.replicas
        if one.cluster not in ended and one.state.alive and one.state not in leaving
    ]
    bought = sum(one.offer.purchase is Purchase.ON_DEMAND for one in stay)
    new = kinds([one for one in made.actions if one.kind is ActionKind.LAUNCH])
    assert bought + new[Purchase.ON_DEMAND] >= min(base, n)
    healthy = [one for one in fleet_now.replicas if one.state is ReplicaState.HEALTHY]
    left = [one for one in healthy if one.cluster not in ended]
    assert len(left) >= min(len(healthy), n)


# --- paid for already ---------------------------------------------------------------------------


def test_what_is_paid_for_comes_first_and_is_shown_as_such() -> None:
    order = service(3)
    made = plan(NOW, MARKET, fleet(order=order), PAID)
    assert kinds(list(made.actions)) == {Purchase.ON_DEMAND: 2, Purchase.SPOT: 1}
    assert made.actions[0].reason == "it is paid for already"
    assert made.candidates[0].usd_per_mtok == 0
    assert made.candidates[0].marks == (COMMITTED,)
    assert "committed" in "\n".join(plan_lines(made))
    said = "the commitment of 2 g6.xlarge in aws/eu-north-1, until 2027-01-01: 0 in use"
    assert plan_dict(made)["notes"] == [said]


def test_no_more_than_are_paid_for_are_counted_so_of_all_services() -> None:
    assert kinds(launches(policy=PAID, elsewhere={HELD.machine: 1}, n=2)) == {
        Purchase.ON_DEMAND: 1,
        Purchase.SPOT: 1,
    }
    assert kinds(launches(policy=PAID, elsewhere={HELD.machine: 5}, n=2)) == {Purchase.SPOT: 2}


def test_a_replica_moves_onto_a_free_one_within_the_bounds_on_moving() -> None:
    spot = replica(of=offer("eu-west-1"), price="0.3", age_s=90_000)
    (moved,) = launches(spot, policy=PAID)
    assert (moved.offer, moved.replaces, moved.for_money) == (BOUGHT, spot.cluster, True)
    young = replica(of=offer("eu-west-1"), price="0.3", age_s=60)
    assert launches(young, policy=PAID) == []
    assert launches(spot, policy=replace(PAID, max_moves_per_day=0)) == []


def test_one_that_stands_on_it_costs_nothing_and_stays() -> None:
    there = replica(of=BOUGHT, price="0.9", age_s=90_000)
    made = plan(NOW, MARKET, fleet(there), PAID)
    assert made.actions == ()
    assert made.cost_share == 0.0
    assert "1 in use" in made.notes[0]


def test_an_agreed_price_that_is_dearer_than_spot_is_not_paid() -> None:
    dear = replace(HELD, usd_per_hour=Decimal("0.5"))
    assert kinds(launches(policy=Policy(commitments=(dear,), max_spares=0))) == {Purchase.SPOT: 1}
    cheap = replace(HELD, usd_per_hour=Decimal("0.1"))
    found = launches(policy=Policy(commitments=(cheap,), max_spares=0))
    assert kinds(found) == {Purchase.ON_DEMAND: 1}


def test_a_cap_counts_only_what_using_it_costs_besides() -> None:
    capped = replace(PAID, max_usd_per_hour=Decimal("0.5"))
    assert kinds(launches(policy=capped)) == {Purchase.ON_DEMAND: 1}


@pytest.mark.parametrize(
    ("market", "policy", "said"),
    [
        (MARKET, replace(PAID, commitments=(replace(HELD, until=date(2026, 11, 1)),)), "ended on"),
        (MARKET[:2], PAID, "is not used: no on-demand offer of it is known"),
        (MARKET, replace(PAID, on_demand=False), "is not used: purchase_not_allowed"),
    ],
)
def test_one_that_cannot_be_used_says_why(market: list[Quote], policy: Policy, said: str) -> None:
    made = plan(NOW, market, fleet(), policy)
    assert kinds(list(made.actions)) == {Purchase.SPOT: 1}
    assert said in made.notes[0]


def test_the_law_comes_before_what_is_paid_for() -> None:
    abroad = Commitment("aws", "us-east-1", "g6.xlarge", 2, date(2027, 1, 1))
    american = quote("0.9", offer("us-east-1", None, Purchase.ON_DEMAND))
    made = plan(NOW, [*MARKET, american], fleet(), Policy(commitments=(abroad,), max_spares=0))
    assert all(one.offer and one.offer.region != "us-east-1" for one in made.actions)
    assert "is not used: country_outside_eu" in made.notes[0]


def test_the_oldest_stand_on_what_is_paid_for() -> None:
    three = [replica(n, of=BOUGHT, age_s=1000 * n) for n in (1, 2, 3)]
    found = covered(in_force([HELD], NOW), three, {})
    assert set(found) == {three[1].cluster, three[2].cluster}
    assert in_use([*three, replica(4, of=offer("eu-west-1"))]) == {HELD.machine: 3}
    assert in_force([HELD], NOW + timedelta(days=365)) == {}


@given(st.integers(0, 3), st.integers(1, 3))
def test_a_commitment_never_makes_an_offer_dearer(used: int, count: int) -> None:
    policy = Policy(commitments=(replace(HELD, count=count),))
    with_, without = (
        {one.quote.offer: one.usd_per_mtok for one in found.candidates}
        for found in (
            sift(NOW, MARKET, profile(), policy, committed={HELD.machine: used}),
            sift(NOW, MARKET, profile(), Policy()),
        )
    )
    assert with_.keys() == without.keys()
    assert all(_at_most(one, with_, without) for one in with_)
    assert (with_[BOUGHT] == 0) == (used < count)


def _at_most(one: Offer, with_: Mapping[Offer, Decimal], without: Mapping[Offer, Decimal]) -> bool:
    return with_[one] <= without[one]
