"""What would have to be given up where no offer is eligible."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from arbiter.domain import Quote, Refusal
from arbiter.policy import Policy
from arbiter.relaxing import relaxations
from arbiter.sovereignty import Level, Rule, Selection
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote

CHEAP, DEAR = quote("0.30", offer("eu-north-1")), quote("0.456", offer("eu-west-1"))


def steps(quotes: list[Quote], policy: Policy) -> list[tuple[str, int]]:
    return [(one.step, one.offers) for one in relaxations(NOW, quotes, fleet(), policy)]


def test_the_least_cap_that_lets_one_in() -> None:
    policy = Policy(max_usd_per_hour=Decimal("0.10"))
    assert steps([CHEAP, DEAR], policy) == [("policy.max_usd_per_hour = 0.30", 1)]
    assert steps([DEAR], policy) == [("policy.max_usd_per_hour = 0.46", 1)], "rounded up"


def test_the_strictest_level_that_lets_one_in() -> None:
    london, virginia = quote("0.05", offer("eu-west-2")), quote("0.04", offer("us-east-1"))
    assert steps([london, virginia], Policy())[0][0] == "sovereignty transfer"
    strict = Policy(sovereignty=Rule(level=Level.EU_OPERATOR))
    assert steps([CHEAP, london], strict) == [("sovereignty eu", 1)]


@pytest.mark.parametrize(
    ("policy", "step"),
    [
        (Policy(spot=False), "policy.spot = true"),
        (Policy(max_usd_per_mtok=Decimal("0.0001")), "no policy.max_usd_per_mtok"),
        (
            Policy(sovereignty=Rule(deny=Selection(providers=("aws",)))),
            "no policy.sovereignty.deny",
        ),
        (
            Policy(sovereignty=Rule(allow=Selection(countries=("FR",)))),
            "no policy.sovereignty.allow",
        ),
    ],
)
def test_what_is_switched(policy: Policy, step: str) -> None:
    assert steps([CHEAP], policy) == [(step, 1)]
    told = str(relaxations(NOW, [CHEAP], fleet(), policy)[0])
    assert told == (
        f"{step} would let in 1 offer, the cheapest aws/eu-north-1/az1 g6.xlarge spot at "
        "0.3 USD an hour"
    )


def test_on_demand_where_only_spot_is_allowed() -> None:
    assert steps([on_demand("0.80")], Policy(on_demand=False)) == [("policy.on_demand = true", 1)]


def test_refused_capacity_is_waited_for() -> None:
    until = NOW + timedelta(minutes=5)
    refused = Refusal(CHEAP.offer.key, NOW, until, 1, "no capacity")
    waiting = replace(fleet(), refusals=(refused,))
    (one,) = relaxations(NOW, [CHEAP], waiting, Policy())
    assert one.step == "to wait until refused places are tried again"


def test_what_takes_two_steps_has_no_single_one() -> None:
    policy = Policy(max_usd_per_hour=Decimal("0.10"), sovereignty=Rule(level=Level.EU_OPERATOR))
    assert steps([CHEAP], policy) == []
