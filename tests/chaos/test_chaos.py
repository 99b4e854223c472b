"""Seeded schedules of faults upon the real loop, gateway and servers: nothing may break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from arbiter.chaos.campaign import by_invariant, run_seeds
from arbiter.chaos.faults import LASTING, Kind, schedule
from arbiter.chaos.invariants import Span, ended_too_soon, excused
from arbiter.chaos.load import Outcome
from arbiter.domain import Action, ActionKind, Plan
from arbiter.errors import GatewayError
from arbiter.gateway import binary
from arbiter.policy import Policy
from arbiter.store.journal import DecisionRow, Inputs
from tests.unit.fleets import NOW, fleet, replica

SECONDS = 2.0
SEEDS = [range(1, 18), range(18, 35), range(35, 51)]

# Schedules that once broke something, with what they broke. They stay.
ONCE_BROKEN: tuple[int, ...] = (42,)


@pytest.fixture(autouse=True, scope="module")
def _needs_envoy() -> None:
    try:
        binary.find()
    except GatewayError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seeds", [*SEEDS, ONCE_BROKEN], ids=str)
def test_no_seed_breaks_anything(seeds: Sequence[int]) -> None:
    reports = list(run_seeds(seeds, SECONDS, at_a_time=3))
    told = {one.seed: (one.violations, one.log[-40:]) for one in reports if one.count}
    assert not told, told
    assert set(by_invariant(reports).values()) == {0}
    assert sum(one.outcomes.get("ok", 0) for one in reports) >= 5 * len(reports)


def test_a_seed_is_always_the_same_schedule() -> None:
    assert schedule(7, 10) == schedule(7, 10)
    assert schedule(7, 10) != schedule(8, 10)
    kinds = {fault.kind for seed in range(40) for fault in schedule(seed, 10)}
    assert kinds == set(Kind), "a kind of fault never comes"


def test_what_lasts_ends_with_the_run() -> None:
    for fault in schedule(3, 5):
        assert 0 <= fault.at < 5
        assert (fault.lasts > 0) == (fault.kind in LASTING)
        assert fault.at + fault.lasts <= 5


@pytest.mark.parametrize(
    ("what", "span", "is_excused"),
    [
        ("cut", Span(10, 11, cuts=True), True),
        ("cut", Span(10, 11, fails=True), False),
        ("failed", Span(10, 11, fails=True), True),
        ("failed", Span(10, 11, cuts=True), False),
        ("failed", Span(12, 13, fails=True), False),
        ("cut", Span(8, 9, cuts=True), False),
        ("cut", Span(10, 11, cuts=True, ran_s=0.9), True),
        ("cut", Span(10, 11, cuts=True, ran_s=1.1), False),
    ],
)
def test_only_what_had_a_cause_is_excused(what: str, span: Span, is_excused: bool) -> None:
    assert excused(Outcome(9.5, 10.5, what), [span]) is is_excused


@pytest.mark.parametrize(("ended", "wrong"), [((), False), ((1,), False), ((1, 2), True)])
def test_a_decision_that_leaves_too_few_is_found(ended: tuple[int, ...], wrong: bool) -> None:
    found = fleet(replica(1), replica(2))
    found = replace(found, service=replace(found.service, replicas=1))
    actions = tuple(
        Action(str(n), ActionKind.DRAIN, "chat", found.replicas[n - 1].cluster, "x") for n in ended
    )
    made = Plan("chat", NOW, actions, (), 0, {}, "told")
    row = DecisionRow("d", "chat", NOW, "told", "p", "v", made, ())
    inputs = Inputs(NOW, (), found, Policy())
    assert (ended_too_soon(inputs, row) is not None) is wrong
