"""What providers say of losses, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.believed import believed, believed_lines
from arbiter.planner import plan
from arbiter.policy import Policy
from arbiter.pools import pool_of, told_of
from arbiter.spot.beliefs import UNSEEN_H, Beliefs, Event, Happened, foreseen, hazard, learn
from arbiter.spot.priors import BAND, EVICTION, PREEMPTION, TYPICAL, Said, Seed, seeds
from tests.unit.fleets import NOW, fleet, offer, on_demand, quote

AT = NOW.timestamp()


def band(pool: str, low: float | None, high: float | None, at: float = AT) -> Said:
    return Said("aws", pool, BAND, low, high, f"{low}-{high}%", at)


def evicted(pool: str, low: float | None, high: float | None, at: float = AT) -> Said:
    return Said("azure", pool, EVICTION, low, high, "", at)


def preempted(pool: str, share: float) -> Said:
    return Said("gcp", pool, PREEMPTION, share, share, "", AT)


def factors(*said: Said, at: float = AT) -> list[float]:
    return [one.factor for one in seeds(said, at).values()]


def test_typical_is_what_the_hazard_expects_of_a_first_day() -> None:
    assert foreseen(UNSEEN_H, UNSEEN_H + 24) / 24 == pytest.approx(TYPICAL, rel=0.01)


def test_azures_buckets_are_losses_an_hour() -> None:
    buckets = [(0, 5), (5, 10), (10, 15), (15, 20), (20, None)]
    found = factors(*(evicted(f"p{n}", *ends) for n, ends in enumerate(buckets)))
    assert found == sorted(found)
    assert found[0] == pytest.approx((0.02532 / TYPICAL) ** 0.5, rel=1e-3)
    assert found[1] == pytest.approx((0.07796 / TYPICAL) ** 0.5, rel=1e-3)
    assert found[4] == pytest.approx((0.25489 / TYPICAL) ** 0.5, rel=1e-3)


def test_aws_and_gcp_only_rank_their_own() -> None:
    assert factors(band("only", 15, 20)) == [1.0]
    low, high = factors(band("a", None, 5), band("b", 20, None))
    assert low * high == pytest.approx(1.0)
    assert high == pytest.approx((0.25489 / 0.02532) ** 0.25, rel=1e-3)
    rare, often = factors(preempted("a", 0.2), preempted("b", 0.8))
    assert often / rare == pytest.approx(16**0.25)
    assert seeds([preempted("a", 0.1), band("b", None, 5)], AT)["b"].factor == 1.0


def test_what_nobody_says_is_no_figure() -> None:
    word = Said("aws", "a", BAND, None, None, "Low", AT)
    other = Said("vast", "b", "stock", 1.0, 1.0, "", AT)
    assert seeds([word, other], AT) == {}


def test_an_old_figure_is_believed_less() -> None:
    (fresh,) = factors(evicted("a", 20, None))
    (old,) = factors(evicted("a", 20, None, at=AT - 30 * 86_400))
    assert old == pytest.approx(fresh**0.5)


@given(st.floats(0, 90), st.floats(0, 90), st.floats(0.01, 9))
def test_a_worse_figure_is_never_a_lower_factor(one: float, other: float, width: float) -> None:
    low, high = sorted((one, other))
    for kind in (band, evicted):
        first, second = factors(kind("a", low, low + width), kind("b", high, high + width))
        assert first <= second + 1e-12


# --- in the beliefs ---------------------------------------------------------------------------

told = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0.2, 5), max_size=3)
kinds = st.sampled_from([Happened.GAVE, Happened.REFUSED, Happened.LOST, Happened.STANDS])
happenings = st.lists(st.tuples(st.sampled_from(["a", "b"]), kinds), max_size=12)


def after(what: list[tuple[str, Happened]], factor_of: dict[str, float]) -> Beliefs:
    events = [Event(n * 3600.0, pool, "r", kind, 0) for n, (pool, kind) in enumerate(what)]
    seeded = {pool: Seed(factor, BAND, "", 0.0) for pool, factor in factor_of.items()}
    return replace(learn(Beliefs(), events), seeds=seeded)


@given(happenings)
def test_a_factor_of_one_changes_nothing(what: list[tuple[str, Happened]]) -> None:
    without, ones = after(what, {}), after(what, dict.fromkeys("abc", 1.0))
    for pool in "abc":
        assert ones.factors.of(pool, "r") == pytest.approx(without.factors.of(pool, "r"))


@given(happenings, told, st.sampled_from(["a", "b", "c"]))
def test_to_be_told_worse_of_a_pool_never_makes_it_safer(
    what: list[tuple[str, Happened]], said: dict[str, float], pool: str
) -> None:
    before = after(what, said)
    worse = after(what, {**said, pool: said.get(pool, 1.0) * 1.5})
    assert worse.factors.of(pool, "r") >= before.factors.of(pool, "r") * (1 - 1e-9)


def test_what_happens_overrules_what_is_told() -> None:
    hours = 1500
    stood = [Event(h * 3600.0, "a", "r", Happened.STANDS) for h in range(hours)]
    seeded = replace(learn(Beliefs(), stood), seeds={"a": Seed(5.0, BAND, "", 0.0)})
    assert seeded.factors.of("a", "r") < 2.5
    assert replace(seeded, seeds={}).factors.of("a", "r") < 1


def test_a_figure_of_a_whole_region_holds_for_its_zones() -> None:
    said = {"aws/eu-north-1/-/g6.xlarge": 1, "aws/eu-west-1/az1/g6.xlarge": 2}
    pools = ["aws/eu-north-1/az1/g6.xlarge", "aws/eu-west-1/az1/g6.xlarge", "aws/eu-west-1/az2/x"]
    assert told_of(said, pools) == {pools[0]: 1, pools[1]: 2}
    assert told_of(said, ["west-a", ""]) == {}


def test_of_two_places_alike_the_safer_is_taken_and_explain_says_by_whose_word() -> None:
    places = [offer(), offer("eu-west-1")]
    quotes = [quote("0.3", places[0]), quote("0.3", places[1]), on_demand("0.9")]
    said = [band(pool_of(places[0]), 20, None), band(pool_of(places[1]), None, 5)]
    beliefs = Beliefs(seeds=seeds(said, AT))
    made = plan(NOW, quotes, fleet(), Policy(max_spares=0), beliefs)
    assert made.actions[0].offer == places[1]
    rows = believed(beliefs, NOW, places)
    assert [row.pool for row in rows] == [pool_of(places[1]), pool_of(places[0])]
    assert rows[0].losses_per_h == pytest.approx(hazard(UNSEEN_H, rows[0].factor))
    assert believed_lines(rows)[0] == (
        "aws/eu-west-1/az1/g6.xlarge: never tried, 0.074 losses an hour (0.56 times what its age "
        "foretells; its provider says None-5% (interruption_band of 2026-11-01), counted as 0.56 "
        "times)"
    )
    assert believed(beliefs, NOW + timedelta(days=1)) == []
