"""What must hold of the next step in every situation."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.spot import decide
from arbiter.spot.beliefs import Beliefs, Event, Happened, from_plain, learn, to_plain
from arbiter.spot.decide import Board, Step, next_step
from arbiter.spot.mix import Mix
from arbiter.spot.places import Places
from arbiter.spot.shortlist import Shortlist
from arbiter.spot.situation import Held, Knobs, Offered, Situation

NOW = 1_700_000_000.0
POOLS = {f"p{number}": f"r{number % 3}" for number in range(9)}
MOST_STEPS = 400

pools = st.sampled_from(sorted(POOLS))
events = st.lists(
    st.builds(
        lambda back, pool, kind, held, count: Event(
            NOW - back, pool, POOLS[pool], kind, held, min(count, max(1, held))
        ),
        st.floats(0, 4e5),
        pools,
        st.sampled_from(Happened),
        st.integers(0, 4),
        st.integers(1, 4),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=lambda event: event.at))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    offered = [
        Offered(
            pool,
            POOLS[pool],
            draw(st.floats(0.05, 1.5)),
            draw(st.floats(0.0, 0.4)),
            draw(st.sampled_from([0.0, 0.03, 0.5])),
        )
        for pool in draw(st.lists(pools, unique=True, max_size=9))
    ]
    held = [
        Held(
            number,
            draw(st.none() | pools),
            draw(st.booleans()),
            draw(st.integers(0, 9)) == 0,
            draw(st.none() | st.floats(0.05, 1.5)),
        )
        for number in range(draw(st.integers(0, 10)))
    ]
    return Situation(
        now=NOW,
        replicas=draw(st.integers(0, 6)),
        knobs=Knobs(draw(st.sampled_from([0.0, 2.0, 20.0, 300.0]))),
        on_demand_cold_h=draw(st.sampled_from([0.0, 0.05, 0.1, 0.3])),
        offered=offered,
        held=held,
        beliefs=learn(Beliefs(), draw(events)),
        probing=draw(st.booleans()),
        on_demand=draw(st.booleans()),
    )


def after(situation: Situation, step: Step, *, given_one: bool = True) -> Situation:
    """The situation with the step done; a new machine is not ready."""
    if step.kind == "end":
        held = [one for one in situation.held if one.id != step.id]
        return replace(situation, held=held)
    number = 1 + max((int(one.id) for one in situation.held), default=0)
    held = list(situation.held)
    if given_one:
        held.append(Held(number, step.pool, ready=False))
    if step.kind == "buy" or step.pool is None:
        return replace(situation, held=held)
    kind = Happened.GAVE if given_one else Happened.REFUSED
    count = sum(one.pool == step.pool for one in situation.held)
    told = Event(situation.now, step.pool, POOLS[step.pool], kind, count)
    return replace(situation, held=held, beliefs=learn(situation.beliefs, [told]))


@settings(max_examples=150)
@given(situations(), st.randoms(use_true_random=False))
def test_steps_come_to_an_end_and_none_does_harm(situation: Situation, chance: object) -> None:
    refused: set[str] = set()
    offered = {one.name for one in situation.offered}
    for _ in range(MOST_STEPS):
        step = next_step(situation, frozenset(refused))
        if step is None:
            return
        if step.kind == "launch":
            assert step.pool in offered - refused
        elif step.kind == "buy":
            assert situation.on_demand
        else:
            ended = next(one for one in situation.held if one.id == step.id)
            ready = sum(one.ready and not one.doomed for one in situation.held)
            assert not ended.doomed
            assert not ended.ready or ready > situation.replicas
        given_one = step.kind != "launch" or chance.random() < 0.6  # type: ignore[attr-defined]
        situation = after(situation, step, given_one=given_one)
        if not given_one and step.pool is not None:
            refused.add(step.pool)
    raise AssertionError(f"no end after {MOST_STEPS} steps")


def everything(
    useful: Mix,
    places: Places,
    replaced: Collection[str | None],
    least: float,
    refused: Collection[str],
) -> Shortlist:
    """All launches there are, and not only those that may be the best."""
    while places.look_up_to(inf):
        pass
    tries = [*places.ours.values(), *places.others]
    tries = [one for one in tries if one.name not in refused]
    return Shortlist(sorted(tries, key=lambda one: one.order), frozenset(replaced))


@settings(max_examples=300)
@given(situations())
def test_leaving_out_the_beaten_alters_no_answer(situation: Situation) -> None:
    with pytest.MonkeyPatch.context() as patch:
        pruned = next_step(situation)
        patch.setattr(decide, "shortlist", everything)
        assert next_step(situation) == pruned
        patch.setattr(decide, "_worth_scoring", lambda tries, ours: list(tries))
        full = next_step(situation)
    if pruned is None or full is None:
        assert pruned is full
    else:
        assert pruned.kind == full.kind
        assert pruned.why.saving == pytest.approx(full.why.saving, abs=1e-9)


@settings(max_examples=200)
@given(situations(), st.randoms(use_true_random=False))
def test_a_board_that_is_kept_gives_the_steps_of_a_new_one(
    situation: Situation, chance: object
) -> None:
    """Steps asked for in a row, some of them refused, some after which more is offered."""
    board = Board(situation)
    refused: set[str] = set()
    for _ in range(MOST_STEPS):
        step = board.step(refused)
        assert step == next_step(situation, refused)
        if step is None:
            return
        offered = {one.name for one in situation.offered}
        more = [name for name in sorted(POOLS) if name not in offered and step.kind == "launch"]
        for name in more[:1]:
            another = Offered(name, POOLS[name], 0.3, 0.1)
            situation = replace(situation, offered=[*situation.offered, another])
            board.offer(another)
        if step.kind == "launch" and chance.random() < 0.6:  # type: ignore[attr-defined]
            refused.add(str(step.pool))
            continue
        if step.kind == "buy" and chance.random() < 0.6:  # type: ignore[attr-defined]
            situation = replace(situation, on_demand=False)
            board.buy_no_more()
            continue
        situation = replace(after(situation, step), beliefs=situation.beliefs)
        if step.kind == "end":
            board = Board(situation)
        else:
            board.hold(situation.held[-1])
    raise AssertionError(f"no end after {MOST_STEPS} steps")


@settings(max_examples=100)
@given(situations(), st.permutations(sorted(POOLS)))
def test_other_names_change_nothing_but_names(situation: Situation, names: list[str]) -> None:
    new = dict(zip(sorted(POOLS), names, strict=True))
    renamed = replace(
        situation,
        offered=[one._replace(name=new[one.name]) for one in situation.offered],
        held=[
            one if one.pool is None else one._replace(pool=new[one.pool]) for one in situation.held
        ],
        beliefs=Beliefs({new[name]: pool for name, pool in situation.beliefs.pools.items()}),
    )
    here, there = next_step(situation), next_step(renamed)
    if here is None or there is None:
        assert here is there
    else:
        assert there == here._replace(
            pool=here.pool and new[here.pool],
            why=here.why._replace(replaces=new.get(here.why.replaces or "", here.why.replaces)),
        )


@given(events)
def test_learning_in_parts_is_learning_at_once(happened: list[Event]) -> None:
    at_once = learn(Beliefs(), happened)
    beliefs = Beliefs()
    for event in happened:
        beliefs = learn(beliefs, [event])
    assert beliefs == at_once
    assert from_plain(json.loads(json.dumps(to_plain(at_once)))) == at_once


@given(events)
def test_pools_do_not_learn_from_each_other(happened: list[Event]) -> None:
    together = learn(Beliefs(), happened)
    for pool in {event.pool for event in happened}:
        alone = learn(Beliefs(), [event for event in happened if event.pool == pool])
        assert alone.pools[pool] == together.pools[pool]
