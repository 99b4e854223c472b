"""The churn breaker: when spot is left alone for a while, and for how long."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from arbiter.churn import churn
from arbiter.domain import Purchase
from arbiter.planner import plan
from arbiter.policy import Policy
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote, service

POLICY = Policy(churn_after=3, churn_window_s=3600, churn_hold_s=1800, max_spares=0)
QUOTES = [quote("0.30", offer()), on_demand("0.90")]


def minutes(*ago: float) -> tuple[datetime, ...]:
    return tuple(NOW - timedelta(minutes=one) for one in ago)


def test_few_losses_are_borne() -> None:
    assert churn(POLICY, minutes(50, 20), 1, NOW) is None
    assert churn(POLICY, minutes(150, 80, 10), 1, NOW) is None, "never three within an hour"
    assert churn(POLICY, (), 1, NOW) is None


def test_after_many_within_the_window_spot_is_left_alone() -> None:
    held = churn(POLICY, minutes(50, 20, 5), 1, NOW)
    assert held is not None
    assert (held.losses, held.trips) == (3, 1)
    assert held.until == NOW + timedelta(minutes=25)
    assert churn(POLICY, minutes(50, 20, 5), 1, held.until) is None, "and tried again after it"


def test_more_replicas_bear_more_losses() -> None:
    assert churn(POLICY, minutes(50, 20, 5), 2, NOW) is None
    assert churn(POLICY, minutes(50, 40, 30, 20, 10, 5), 2, NOW) is not None


def test_what_is_lost_during_a_hold_counts_for_nothing() -> None:
    held = churn(POLICY, minutes(50, 40, 25, 24, 23, 22, 21), 1, NOW)
    assert held is not None
    assert held.trips == 1
    assert held.until == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(("gap", "trips", "hold"), [(20, 2, 60), (400, 1, 30)])
def test_holds_in_a_row_last_longer_and_a_calm_time_is_forgiven(
    gap: float, trips: int, hold: float
) -> None:
    first = (120 + gap, 110 + gap, 100 + gap)
    held = churn(POLICY, minutes(*first, 30, 20, 10), 1, NOW)
    assert held is not None
    assert held.trips == trips
    assert held.until == NOW + timedelta(minutes=hold - 10)


def test_a_hold_never_lasts_more_than_eight_times_the_first() -> None:
    losses = [NOW - timedelta(days=2) + timedelta(minutes=5 * n) for n in range(600)]
    longest = timedelta()
    for hour in range(48):
        now = NOW - timedelta(days=2) + timedelta(hours=hour)
        held = churn(POLICY, [one for one in losses if one <= now], 1, now)
        if held is not None:
            began = max(one for one in losses if one <= held.until and one <= now)
            longest = max(longest, held.until - min(began, now))
    assert timedelta(hours=2) < longest <= timedelta(hours=4)


def test_the_order_of_losses_is_no_matter() -> None:
    losses = minutes(50, 20, 5)
    assert churn(POLICY, losses, 1, NOW) == churn(POLICY, losses[::-1], 1, NOW)


def test_during_a_hold_the_plan_buys_on_demand_and_says_why() -> None:
    (action,) = plan(NOW, QUOTES, fleet(losses=minutes(50, 20, 5)), POLICY).actions
    assert action.offer is not None
    assert action.offer.purchase is Purchase.ON_DEMAND
    assert action.reason == "on-demand until 12:25 UTC, after 3 spot losses"


def test_where_nothing_else_can_be_had_spot_is_tried_all_the_same() -> None:
    (action,) = plan(NOW, QUOTES[:1], fleet(losses=minutes(50, 20, 5)), POLICY).actions
    assert action.offer is not None
    assert action.offer.purchase is Purchase.SPOT


def test_a_day_of_churn_launches_no_more_than_the_breaker_allows() -> None:
    """Every spot machine is lost after 20 minutes, for two days."""
    now, losses, launches = NOW, [], 0
    bought = offer("eu-north-1", None, Purchase.ON_DEMAND)
    while now < NOW + timedelta(days=2):
        quotes = [quote("0.30", offer(), at=now), quote("0.90", bought, at=now)]
        asked = fleet(losses=tuple(losses), order=service(1))
        (action,) = plan(now, quotes, asked, POLICY).actions
        assert action.offer is not None
        if action.offer.purchase is Purchase.SPOT:
            launches += 1
            losses.append(now + timedelta(minutes=20))
        now += timedelta(minutes=20)
    assert launches < 60, "without it, 144"
