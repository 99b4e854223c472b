"""The decision, one situation a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from arbiter.domain import ActionKind, OfferKey, Plan, Purchase, Refusal, ReplicaState
from arbiter.planner import plan
from arbiter.policy import Policy, next_refusal
from arbiter.sovereignty import Level, Rule
from tests.unit.fleets import NOW, fleet, offer, on_demand, place, quote, replica, service

EU = Policy()


def kinds(made: Plan) -> list[str]:
    return [action.kind.value for action in made.actions]


def test_launches_the_cheapest_allowed_spot() -> None:
    quotes = [
        quote("0.10", offer("eu-west-2")),
        quote("0.11", offer("us-east-1")),
        quote("0.40", offer("eu-west-1")),
        quote("0.30", offer("eu-north-1")),
        on_demand("0.80"),
    ]
    made = plan(NOW, quotes, fleet(), EU)
    assert kinds(made) == ["launch"]
    chosen = made.actions[0].offer
    assert chosen is not None
    assert (chosen.region, chosen.purchase) == ("eu-north-1", Purchase.SPOT)
    assert made.actions[0].cluster == "arb-0a1b2c3d-chat-1"
    assert made.refused_by_rule == {"country_outside_eu": 2}
    assert made.eligible == 3
    assert "chose aws/eu-north-1/az1" in made.sentence
    assert "2 refused" in made.sentence


def test_the_name_of_a_region_is_not_its_country() -> None:
    made = plan(NOW, [quote("0.1", offer("eu-west-2"))], fleet(), EU)
    assert made.actions == ()
    assert "found no eligible offer" in made.sentence
    assert "country_outside_eu" in made.sentence


def test_an_unknown_region_is_refused() -> None:
    made = plan(NOW, [quote("0.1", offer("eu-nowhere-9"))], fleet(), EU)
    assert made.refused_by_rule == {"country_unknown": 1}


def test_an_unknown_price_drops_the_offer() -> None:
    made = plan(NOW, [quote(None)], fleet(), EU)
    assert made.refused_by_rule == {"price_unknown": 1}


def test_an_old_quote_is_stale_and_one_from_the_future_too() -> None:
    quotes = [quote("0.1", age_s=4000), quote("0.1", offer(zone="az2"), age_s=-4000)]
    assert plan(NOW, quotes, fleet(), EU).refused_by_rule == {"stale": 2}


@pytest.mark.parametrize("spot", ["0.80", "0.90"])
def test_spot_without_a_discount_is_marked_and_comes_after_on_demand(spot: str) -> None:
    quotes = [quote(spot), on_demand("0.80")]
    made = plan(NOW, quotes, fleet(), EU)
    assert made.refused_by_rule == {}
    assert [one.marks for one in made.candidates] == [(), ("no_discount",)]
    assert made.actions[0].offer is not None
    assert made.actions[0].offer.purchase is Purchase.ON_DEMAND


def test_spot_without_a_discount_is_taken_where_nothing_else_is_allowed() -> None:
    made = plan(NOW, [quote("0.80"), on_demand("0.80")], fleet(), replace(EU, on_demand=False))
    assert made.actions[0].offer is not None
    assert made.actions[0].offer.purchase is Purchase.SPOT


def test_a_discount_is_seen_by_machine_region_and_currency() -> None:
    quotes = [quote("0.80"), on_demand("0.81"), on_demand("0.10", region="eu-west-1")]
    marks = {
        one.quote.offer.purchase: one.marks for one in plan(NOW, quotes, fleet(), EU).candidates
    }
    assert marks == {Purchase.SPOT: (), Purchase.ON_DEMAND: ()}


def test_a_cap_refuses_what_is_above_it() -> None:
    capped = replace(EU, max_usd_per_hour=Decimal("0.2"))
    assert plan(NOW, [quote("0.3")], fleet(), capped).refused_by_rule == {"price_above_cap": 1}


def test_a_cloud_that_cannot_be_launched_on_is_only_recorded() -> None:
    blocked = fleet(not_launchable={"aws": "SkyPilot does not support it"})
    assert plan(NOW, [quote("0.3")], blocked, EU).refused_by_rule == {"not_launchable": 1}


def test_a_tier_that_cannot_be_launched_on_leaves_the_others_of_its_cloud() -> None:
    asked = replace(EU, sovereignty=Rule(Level.ANY))
    community = quote("0.3")
    community = replace(community, offer=replace(community.offer, tier="community"))
    blocked = fleet(not_launchable={"aws/community": "SkyPilot does not know it"})
    made = plan(NOW, [quote("0.5"), community], blocked, asked)
    assert made.refused_by_rule == {"not_launchable": 1}
    assert made.actions[0].offer is not None
    assert made.actions[0].offer.tier == "standard"


def test_a_kept_replica_needs_nothing() -> None:
    made = plan(NOW, [quote("0.5")], fleet(replica()), EU)
    assert made.actions == ()
    assert "kept 1 replica, 1 healthy" in made.sentence


def test_a_launching_replica_is_not_launched_again() -> None:
    launching = replica(state=ReplicaState.LAUNCHING, age_s=60)
    assert plan(NOW, [quote("0.1")], fleet(launching), EU).actions == ()


def test_a_lost_replica_is_replaced_and_cleaned_up() -> None:
    lost = replica(state=ReplicaState.LOST)
    made = plan(NOW, [quote("0.5", offer("eu-west-1"))], fleet(lost), EU)
    assert kinds(made) == ["launch", "terminate"]


def refused(of: OfferKey, minutes_ago: float, failures: int = 1) -> Refusal:
    at = NOW - timedelta(minutes=minutes_ago)
    return Refusal(of, at, EU.remembered_until(at, failures), failures, "no capacity")


def test_refused_capacity_is_remembered_and_forgotten() -> None:
    key = offer().key
    fresh = plan(NOW, [quote("0.5")], fleet(refusals=(refused(key, 4),)), EU)
    assert fresh.refused_by_rule == {"capacity_refused": 1}
    later = plan(NOW, [quote("0.5")], fleet(refusals=(refused(key, 6),)), EU)
    assert kinds(later) == ["launch"]


def test_the_memory_grows_with_failures_in_a_row_and_ends_at_its_bound() -> None:
    past: list[Refusal] = []
    waits = []
    at = NOW
    for _ in range(10):
        new = next_refusal(EU, past, offer().key, at, "no capacity", lost=False)
        past.append(new)
        waits.append((new.until - new.at).total_seconds())
        at = new.until
    assert waits[:4] == [300, 600, 1200, 2400]
    assert waits[-1] == EU.refusal_max_s
    much_later = at + timedelta(days=1)
    forgiven = next_refusal(EU, past, offer().key, much_later, "no capacity", lost=False)
    assert forgiven.failures == 1


def test_falls_back_to_on_demand_after_repeated_spot_failures_and_returns() -> None:
    failures = tuple(refused(offer(zone=f"az{n}").key, 1) for n in (1, 2, 3))
    quotes = [quote("0.3", offer("eu-west-1")), on_demand("0.9")]
    made = plan(NOW, quotes, fleet(refusals=failures), EU)
    assert made.actions[0].offer is not None
    assert made.actions[0].offer.purchase is Purchase.ON_DEMAND
    assert "after 3 spot failures" in made.actions[0].reason
    standing = replica(of=offer(zone=None, purchase=Purchase.ON_DEMAND), price="0.9")
    young = replace(standing, healthy_at=NOW - timedelta(seconds=EU.min_stay_s - 1))
    assert plan(NOW, quotes, fleet(young, refusals=failures), EU).actions == ()
    # Nothing is missing any more: what another refusal costs is nobody's time.
    back = plan(NOW, quotes, fleet(standing, refusals=failures), EU)
    assert kinds(back) == ["launch"]
    assert back.actions[0].replaces == standing.cluster
    assert back.actions[0].for_money


def test_moves_only_for_a_worthwhile_saving() -> None:
    settled = replica(price="0.50")
    own = quote("0.50")
    little = plan(NOW, [own, quote("0.41", offer("eu-west-1"))], fleet(settled), EU)
    assert little.actions == ()
    enough = plan(NOW, [own, quote("0.20", offer("eu-west-1"))], fleet(settled), EU)
    assert kinds(enough) == ["launch"]
    assert enough.actions[0].replaces == settled.cluster


def test_moves_neither_too_soon_nor_too_often() -> None:
    cheaper = [quote("0.50"), quote("0.10", offer("eu-west-1"))]
    young = replica(age_s=EU.min_stay_s - 1)
    assert plan(NOW, cheaper, fleet(young), EU).actions == ()
    moved = tuple(NOW - timedelta(hours=n) for n in range(EU.max_moves_per_day))
    assert plan(NOW, cheaper, fleet(replica(), moves=moved), EU).actions == ()
    two = fleet(replica(1), replica(2), order=service(replicas=2), moves=moved)
    assert kinds(plan(NOW, cheaper, two, EU)) == ["launch"]
    assert plan(NOW, cheaper, replace(two, moves=moved * 2), EU).actions == ()


def test_a_move_makes_before_it_breaks() -> None:
    old = replica(1)
    new = replica(
        2, ReplicaState.STARTING, offer("eu-west-1"), "0.1", age_s=60, replaces=old.cluster
    )
    quotes = [quote("0.50"), quote("0.10", offer("eu-west-1"))]
    assert plan(NOW, quotes, fleet(old, new), EU).actions == ()
    answering = replace(new, state=ReplicaState.HEALTHY, healthy_at=NOW)
    made = plan(NOW, quotes, fleet(old, answering), EU)
    assert [(a.kind, a.cluster) for a in made.actions] == [(ActionKind.DRAIN, old.cluster)]
    draining = replace(old, state=ReplicaState.DRAINING, changed_at=NOW)
    assert plan(NOW, quotes, fleet(draining, answering), EU).actions == ()
    drained = replace(draining, changed_at=NOW - timedelta(seconds=121))
    made = plan(NOW, quotes, fleet(drained, answering), EU)
    assert [(a.kind, a.cluster) for a in made.actions] == [(ActionKind.TERMINATE, old.cluster)]


def test_the_old_one_stays_when_the_new_one_fails() -> None:
    old = replica(1)
    failed = replica(2, ReplicaState.FAILED, offer("eu-west-1"), replaces=old.cluster)
    made = plan(NOW, [quote("0.50")], fleet(old, failed), EU)
    assert [(a.kind, a.cluster) for a in made.actions] == [(ActionKind.TERMINATE, failed.cluster)]


def test_a_silent_replica_gets_a_stand_in_before_it_is_ended() -> None:
    alone = replace(EU, max_spares=0)
    silent = replica(1, ReplicaState.UNHEALTHY, age_s=EU.unhealthy_s)
    quotes = [quote("0.5"), quote("0.6", offer("eu-west-1"))]
    made = plan(NOW, quotes, fleet(silent), alone)
    assert kinds(made) == ["launch"]
    assert made.actions[0].replaces == silent.cluster
    assert not made.actions[0].for_money
    stand_in = replica(2, of=offer("eu-west-1"), age_s=1, replaces=silent.cluster)
    made = plan(NOW, quotes, fleet(silent, stand_in), alone)
    assert [(a.kind, a.cluster) for a in made.actions] == [(ActionKind.TERMINATE, silent.cluster)]


def test_a_replica_outside_the_rule_is_ended_at_once() -> None:
    strayed = replace(replica(), observed_region="eu-west-2", observed_place=place("eu-west-2"))
    made = plan(NOW, [quote("0.5")], fleet(strayed), EU)
    assert kinds(made) == ["terminate", "launch"]
    assert "refuses" in made.actions[0].reason


def test_a_rule_made_stricter_ends_what_it_refuses() -> None:
    strict = replace(EU, sovereignty=Rule(level=Level.EU_OPERATOR))
    made = plan(NOW, [quote("0.5")], fleet(replica()), strict)
    assert kinds(made) == ["terminate"]


def test_a_server_that_never_answers_is_given_up() -> None:
    stuck = replica(state=ReplicaState.STARTING, age_s=1801)
    made = plan(NOW, [quote("0.5")], fleet(stuck), EU)
    assert kinds(made) == ["terminate", "launch"]


def test_down_ends_everything_once() -> None:
    down = service(down=True)
    both = (replica(1), replica(2, ReplicaState.LAUNCHING))
    made = plan(NOW, [quote("0.1")], fleet(*both, order=down), EU)
    assert kinds(made) == ["terminate", "terminate"]
    ordered = tuple(one.cluster for one in both)
    again = plan(NOW, [quote("0.1")], fleet(*both, order=down, ending=ordered), EU)
    assert again.actions == ()


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_fewer_replicas_ends_the_dearest(replicas: int) -> None:
    three = [replica(n, price=f"0.{n}") for n in (1, 2, 3)]
    made = plan(NOW, [quote("0.2")], fleet(*three, order=service(replicas)), EU)
    ended = [action.cluster for action in made.actions if action.kind is ActionKind.DRAIN]
    assert ended == [one.cluster for one in reversed(three)][: 3 - replicas]


@pytest.mark.parametrize(("second", "zones"), [("0.37", {"az1", "az2"}), ("0.38", {"az1"})])
def test_replicas_spread_for_a_small_premium_only(second: str, zones: set[str]) -> None:
    quotes = [quote("0.3", offer(zone="az1")), quote(second, offer(zone="az2"))]
    made = plan(NOW, quotes, fleet(order=service(2)), replace(EU, max_spares=0))
    assert len(made.actions) == 2
    assert {action.offer.zone for action in made.actions if action.offer} == zones
