"""A fallback that is parked: what is stopped instead of ended, and started instead of launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from arbiter.domain import Action, ActionKind, Offer, Purchase, Quote, Replica, ReplicaState
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.sovereignty import Level, Rule
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, replica, service

POLICY = Policy(parked=1, max_spares=0)
BOUGHT = offer("eu-north-1", None, Purchase.ON_DEMAND)
SPOT = replica(1)
DRAINED = replica(2, ReplicaState.DRAINING, BOUGHT, "0.9")
PARKED = replace(
    replica(2, ReplicaState.PARKED, BOUGHT, "0.9"),
    parked_at=NOW - timedelta(hours=2),
    healthy_at=NOW - timedelta(hours=5),
)
MARKET = [quote("0.3"), on_demand("0.9")]
SHORT = [on_demand("0.9")]


def steps(
    quotes: Sequence[Quote], *replicas: Replica, policy: Policy = POLICY, **changes: object
) -> list[tuple[ActionKind, str]]:
    changes.setdefault("parkable", tuple(one.cluster for one in replicas))
    made = plan(NOW, quotes, fleet(*replicas, **changes), policy)
    return [(one.kind, one.cluster[-1]) for one in made.actions]


def test_a_drained_fallback_is_parked_where_spot_serves() -> None:
    assert steps(MARKET, SPOT, DRAINED) == [(ActionKind.PARK, "2")]


@pytest.mark.parametrize(
    ("others", "changes"),
    [
        ((SPOT,), {"policy": replace(POLICY, parked=0)}),
        ((SPOT,), {"policy": replace(POLICY, spot=False)}),
        ((SPOT,), {"parkable": ()}),
        ((replica(1, of=BOUGHT),), {}),
        ((SPOT, replace(PARKED, cluster="arb-0a1b2c3d-chat-9")), {}),
        ((SPOT, replica(9, ReplicaState.PARKING, BOUGHT, age_s=5)), {}),
    ],
    ids=["off", "no spot allowed", "cannot", "no spot serves", "one is", "one is being"],
)
def test_otherwise_it_is_ended(others: tuple[Replica, ...], changes: dict[str, object]) -> None:
    found = steps(MARKET, *others, DRAINED, **changes)  # type: ignore[arg-type]
    assert (ActionKind.TERMINATE, "2") in found
    assert ActionKind.PARK not in [kind for kind, _ in found]


def test_spot_is_never_parked() -> None:
    drained = replica(2, ReplicaState.DRAINING, offer(zone="az2"))
    assert steps(MARKET, SPOT, drained) == [(ActionKind.TERMINATE, "2")]


def test_two_drained_at_once_are_parked_as_far_as_the_policy_goes() -> None:
    second = replace(DRAINED, cluster="arb-0a1b2c3d-chat-3")
    both = (SPOT, replica(4, of=offer(zone="az2")), DRAINED, second)
    order = service(2)
    kinds = [kind for kind, _ in steps(MARKET, *both, order=order)]
    assert kinds == [ActionKind.PARK, ActionKind.TERMINATE]
    more = replace(POLICY, parked=5)
    assert [kind for kind, _ in steps(MARKET, *both, order=order, policy=more)] == [
        ActionKind.PARK
    ] * 2


def test_a_parked_machine_is_started_in_place_of_a_launch() -> None:
    (action,) = made(SHORT, PARKED).actions
    assert (action.kind, action.cluster) == (ActionKind.START, PARKED.cluster)
    assert action.offer == BOUGHT
    assert action.price is not None
    assert str(action.price.amount).startswith("0.9")


def test_the_sentence_says_so() -> None:
    assert made(SHORT, PARKED).sentence.startswith(
        f"chat: started {PARKED.cluster} on aws/eu-north-1 g6.xlarge L4:1 on_demand at "
    )
    assert (
        "parked arb-0a1b2c3d-chat-2 on aws/eu-north-1 (drained"
        in made(MARKET, SPOT, DRAINED).sentence
    )


def made(quotes: Sequence[Quote], *replicas: Replica, policy: Policy = POLICY):  # type: ignore[no-untyped-def]
    parkable = tuple(one.cluster for one in replicas)
    return plan(NOW, quotes, fleet(*replicas, parkable=parkable), policy)


def test_spot_is_launched_all_the_same() -> None:
    (action,) = made([quote("0.3")], PARKED).actions
    assert action.kind is ActionKind.LAUNCH
    assert launched(action).purchase is Purchase.SPOT


def launched(action: Action) -> Offer:
    assert action.offer is not None
    return action.offer


def test_a_base_that_is_always_on_demand_is_started_too() -> None:
    policy = replace(POLICY, base_on_demand=1)
    assert [one.kind for one in made(MARKET, PARKED, policy=policy).actions] == [ActionKind.START]


def test_each_is_started_once() -> None:
    found = steps(SHORT, PARKED, order=service(2))
    assert [kind for kind, _ in found] == [ActionKind.START, ActionKind.LAUNCH]
    assert found[0][1] == "2"


def test_where_its_place_has_refused_a_launch_goes_elsewhere() -> None:
    from arbiter.domain import Refusal

    refusal = Refusal(BOUGHT.key, NOW, NOW + timedelta(minutes=5), 1, "no capacity")
    quotes = [on_demand("0.9"), on_demand("1.0", "eu-west-1")]
    found = plan(NOW, quotes, fleet(PARKED, refusals=(refusal,)), POLICY).actions
    assert [(one.kind, launched(one).region) for one in found] == [(ActionKind.LAUNCH, "eu-west-1")]


def test_one_that_is_dearer_by_more_than_the_premium_stays_parked() -> None:
    quotes = [on_demand("0.9"), on_demand("0.5", "eu-west-1")]
    (action,) = made(quotes, PARKED).actions
    assert (action.kind, launched(action).region) == (ActionKind.LAUNCH, "eu-west-1")
    near = [on_demand("0.9"), on_demand("0.8", "eu-west-1")]
    assert [one.kind for one in made(near, PARKED).actions] == [ActionKind.START]


def test_a_price_above_the_cap_starts_nothing() -> None:
    assert (
        made(SHORT, PARKED, policy=replace(POLICY, max_usd_per_hour=Decimal("0.5"))).actions == ()
    )


@pytest.mark.parametrize(
    ("changed", "policy", "why"),
    [
        ({}, replace(POLICY, parked=0), "nothing is parked by this policy"),
        ({}, replace(POLICY, parked_max_s=3600), "it was parked for 1:00:00 and not needed"),
        (
            {"offer": offer("us-east-1", None, Purchase.ON_DEMAND)},
            replace(POLICY, sovereignty=Rule(Level.EU)),
            "it stands where the rule refuses",
        ),
    ],
    ids=["off", "old", "rule"],
)
def test_what_may_not_stay_parked_is_ended(
    changed: dict[str, object], policy: Policy, why: str
) -> None:
    one = replace(PARKED, **changed)  # type: ignore[arg-type]
    found = made(MARKET, SPOT, one, policy=policy).actions
    assert [action.kind for action in found] == [ActionKind.TERMINATE]
    assert found[0].reason.startswith(why)


def test_where_fewer_may_be_parked_the_longest_parked_goes() -> None:
    older = replace(PARKED, cluster="arb-0a1b2c3d-chat-3", parked_at=NOW - timedelta(hours=3))
    assert steps(MARKET, SPOT, PARKED, older) == [(ActionKind.TERMINATE, "3")]


def test_down_ends_it() -> None:
    order = replace(service(), down=True)
    parking = replica(3, ReplicaState.PARKING, BOUGHT, age_s=5)
    assert steps(MARKET, PARKED, parking, order=order) == [
        (ActionKind.TERMINATE, "2"),
        (ActionKind.TERMINATE, "3"),
    ]


def test_it_counts_as_no_replica() -> None:
    assert not ReplicaState.PARKED.alive
    order = service(2)
    found = steps(MARKET, SPOT, PARKED, order=order)
    assert [kind for kind, _ in found] == [ActionKind.LAUNCH]


def test_one_that_does_not_stop_is_ended() -> None:
    parking = replica(2, ReplicaState.PARKING, BOUGHT, age_s=5)
    assert steps(MARKET, SPOT, parking) == []
    stuck = replica(2, ReplicaState.PARKING, BOUGHT, age_s=600)
    assert steps(MARKET, SPOT, stuck) == [(ActionKind.TERMINATE, "2")]


def test_where_nothing_is_parked_the_plan_says_why() -> None:
    why = {"lambda": "SkyPilot cannot stop a machine there and start it again"}
    of = fleet(SPOT, not_parkable=why)
    assert plan(NOW, MARKET, of, POLICY).notes == (f"nothing is parked on lambda: {why['lambda']}",)
    assert plan(NOW, MARKET, of, replace(POLICY, parked=0)).notes == ()
