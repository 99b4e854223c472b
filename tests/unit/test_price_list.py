"""Whoever decides on the same prices again is given what was sifted before, and nothing older."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from arbiter.domain import Quote, Refusal
from arbiter.market import PriceList, Sifted, sift
from arbiter.policy import Policy
from arbiter.sovereignty import Level, Rule
from tests.unit.fleets import NOW, offer, on_demand, profile, quote

POLICY = Policy(sovereignty=Rule(level=Level.ANY), max_quote_age_s=1800)
QUOTES = [
    quote("0.30", offer("eu-north-1", "az1")),
    quote("0.40", offer("eu-west-1", "az2")),
    on_demand("1.00"),
]
PROFILE = profile()
LOST = Refusal(
    QUOTES[0].offer.key, NOW, NOW + timedelta(minutes=5), failures=1, reason="", lost=True
)
AGAIN = replace(LOST, at=NOW + timedelta(minutes=6), until=NOW + timedelta(minutes=16))


def asked(
    quotes: list[Quote] | PriceList,
    after: timedelta,
    refusals: tuple[Refusal, ...] = (),
    policy: Policy = POLICY,
    demand: Decimal | None = None,
    blocked: dict[str, str] | None = None,
) -> Sifted:
    return sift(
        NOW + after,
        quotes,
        PROFILE,
        policy,
        refusals=refusals,
        demand=demand,
        not_launchable=blocked,
    )


def test_an_answer_is_that_of_a_plain_list_whatever_is_asked_in_whatever_order() -> None:
    known = PriceList(QUOTES)
    capped = replace(POLICY, max_usd_per_hour=Decimal("0.35"))
    questions = [
        (timedelta(minutes=after), refusals, policy, demand, blocked)
        for after in (0, 1, 4, 5, 6, 15, 16, 29, 31, 40, 0)
        for refusals in ((), (LOST,), (LOST, AGAIN))
        for policy in (POLICY, capped)
        for demand in (None, Decimal("20.0"))
        for blocked in (None, {}, {"aws": "no quota"})
    ]
    for question in questions * 2:
        assert asked(known, *question) == asked(QUOTES, *question)


def test_the_same_question_is_answered_once() -> None:
    known = PriceList(QUOTES)
    first = asked(known, timedelta(0), (LOST,))
    assert asked(known, timedelta(minutes=4), (LOST,)) is first
    assert asked(known, timedelta(minutes=5), (LOST,)) is not first


@pytest.mark.parametrize("after", [timedelta(minutes=31), timedelta(minutes=-9)])
def test_prices_too_old_or_from_the_future_are_refused(after: timedelta) -> None:
    known = PriceList(QUOTES)
    assert asked(known, timedelta(0)).candidates
    assert not known.is_fresh(NOW + after, POLICY)
    assert not asked(known, after).candidates


def test_no_prices_are_no_candidates() -> None:
    assert asked(PriceList([]), timedelta(0)) == Sifted((), ())
