"""What must hold of every plan, whatever the market and the fleet are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.domain import (
    Action,
    ActionKind,
    Offer,
    Purchase,
    Quote,
    Refusal,
    Replica,
    ReplicaState,
)
from arbiter.planner import plan
from arbiter.policy import Policy, next_refusal
from arbiter.sovereignty import Allowed, judge
from arbiter.wishes import SPARE_STAYS
from tests.unit.fleets import COUNTRIES, NOW, fleet, offer, quote, replica, service

REGIONS = (*COUNTRIES, "eu-nowhere-9", "europe-sounds-fine-1")
offers = st.builds(
    offer,
    region=st.sampled_from(REGIONS),
    zone=st.sampled_from(["az1", "az2", None]),
    purchase=st.sampled_from([Purchase.SPOT, Purchase.ON_DEMAND]),
    gpu=st.sampled_from(["L4", "A10G", "V100-16GB", "unheard-of"]),
)
prices = st.one_of(st.none(), st.decimals("0.01", "50", places=4).map(str))
quotes = st.lists(
    st.builds(quote, prices, offers, st.floats(-7200, 7200)),
    max_size=12,
    unique_by=lambda one: one.offer.key,
)
states = st.sampled_from(list(ReplicaState))


@st.composite
def fleets(draw: st.DrawFn):  # type: ignore[no-untyped-def]
    count = draw(st.integers(0, 4))
    replicas = []
    for number in range(1, count + 1):
        replaces = draw(st.sampled_from([None, *[one.cluster for one in replicas]]))
        replicas.append(
            replica(
                number,
                draw(states),
                draw(offers),
                age_s=draw(st.integers(0, 10_000)),
                replaces=replaces,
            )
        )
    if count > 1 and draw(st.booleans()):  # the last was launched beside one that was slow
        beside = draw(st.integers(0, count - 2))
        replicas[beside] = replace(replicas[beside], hedged_by=replicas[-1].cluster)
    slow = tuple(one.cluster for one in replicas if draw(st.booleans()))
    lost = draw(st.lists(st.integers(0, 10_000), max_size=12))
    order = service(
        draw(st.integers(0, 4)),
        down=draw(st.booleans()),
        generation=count,
        lowered_at=draw(st.sampled_from([None, NOW - timedelta(hours=1), NOW])),
    )
    losses = tuple(NOW - timedelta(seconds=ago) for ago in lost)
    parkable = tuple(one.cluster for one in replicas if draw(st.booleans()))
    replicas = [
        replace(one, parked_at=one.changed_at) if one.state is ReplicaState.PARKED else one
        for one in replicas
    ]
    return fleet(*replicas, order=order, slow=slow, losses=losses, parkable=parkable)


def by_kind(actions: Sequence[Action], kind: ActionKind) -> list[Action]:
    return [action for action in actions if action.kind is kind]


@given(quotes, fleets(), st.integers(0, 3))
def test_what_is_parked_and_started_keeps_to_the_policy(market, known, parked) -> None:  # type: ignore[no-untyped-def]
    policy = Policy(parked=parked)
    made = plan(NOW, market, known, policy)
    by_name = {one.cluster: one for one in known.replicas}
    parks = [by_name[one.cluster] for one in by_kind(made.actions, ActionKind.PARK)]
    starts = [by_name[one.cluster] for one in by_kind(made.actions, ActionKind.START)]
    ends = {one.cluster for one in by_kind(made.actions, ActionKind.TERMINATE)}
    for one in parks:
        assert one.state is ReplicaState.DRAINING
        assert one.offer.purchase is Purchase.ON_DEMAND
        assert one.cluster in known.parkable
    names = [action.cluster for action in made.actions]
    assert len(names) == len(set(names)), "two steps for one cluster"
    for one in starts:
        assert one.state is ReplicaState.PARKED
        assert isinstance(judge(one.place, policy.sovereignty, one.offer.tier), Allowed)
    held = [
        one
        for one in known.replicas
        if one.state in (ReplicaState.PARKED, ReplicaState.PARKING) and one.cluster not in ends
    ]
    assert not parks or len(held) + len(parks) <= min(parked, known.service.replicas)
    if known.service.down or not parked:
        assert not parks
        assert not starts


@given(quotes, fleets())
def test_only_what_the_rule_allows_is_launched(market, found) -> None:  # type: ignore[no-untyped-def]
    policy = Policy()
    for action in by_kind(plan(NOW, market, found, policy).actions, ActionKind.LAUNCH):
        assert action.offer is not None
        assert isinstance(judge(action.offer.place, policy.sovereignty), Allowed)
        assert action.price is not None
        assert action.price.micros > 0


@given(quotes, fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_quotes_changes_nothing(market, found, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(market)
    random.shuffle(shuffled)
    policy = Policy()
    one, other = plan(NOW, market, found, policy), plan(NOW, shuffled, found, policy)
    assert one.actions == other.actions
    assert one.candidates == other.candidates
    assert one.refused_by_rule == other.refused_by_rule


@given(quotes, fleets())
def test_every_offer_is_a_candidate_or_refused_by_one_rule(market, found) -> None:  # type: ignore[no-untyped-def]
    made = plan(NOW, market, found, Policy())
    assert made.eligible + sum(made.refused_by_rule.values()) == len(market)


@given(quotes, fleets())
def test_names_and_ids_are_never_used_twice(market, found) -> None:  # type: ignore[no-untyped-def]
    actions = plan(NOW, market, found, Policy()).actions
    assert len({action.id for action in actions}) == len(actions)
    clusters = [action.cluster for action in actions]
    assert len(set(clusters)) == len(clusters)
    taken = {one.cluster for one in found.replicas}
    assert not taken & {action.cluster for action in by_kind(actions, ActionKind.LAUNCH)}


@given(quotes, fleets())
def test_no_healthy_replica_is_ended_without_one_in_its_place(market, found) -> None:  # type: ignore[no-untyped-def]
    """Unless the user ordered it, or the rule refuses the place where it stands."""
    policy = Policy()
    if found.service.down:
        return
    lawful = {
        one.cluster
        for one in found.replicas
        if isinstance(judge(one.place, policy.sovereignty), Allowed)
    }
    healthy = {
        one.cluster
        for one in found.replicas
        if one.state is ReplicaState.HEALTHY and one.cluster in lawful
    }
    ended = {
        action.cluster
        for action in plan(NOW, market, found, policy).actions
        if action.kind is not ActionKind.LAUNCH
    }
    assert len(healthy - ended) >= min(len(healthy), found.service.replicas)


@given(quotes, fleets())
def test_down_launches_nothing_and_ends_everything(market, found) -> None:  # type: ignore[no-untyped-def]
    down = replace(found, service=replace(found.service, down=True))
    actions = plan(NOW, market, down, Policy()).actions
    assert {action.kind for action in actions} <= {ActionKind.TERMINATE}
    assert {action.cluster for action in actions} == {one.cluster for one in found.replicas}


@given(quotes, fleets())
def test_at_zero_nothing_is_launched_and_nothing_that_answers_is_cut(market, found) -> None:  # type: ignore[no-untyped-def]
    """What answers is drained, unless the rule refuses where it stands; a drain has its time."""
    policy = Policy()
    zero = replace(found, service=replace(found.service, replicas=0, down=False))
    actions = plan(NOW, market, zero, policy).actions
    assert by_kind(actions, ActionKind.LAUNCH) == []
    touched = {action.cluster: action.kind for action in actions}
    for one in found.replicas:
        lawful = isinstance(judge(one.place, policy.sovereignty), Allowed)
        if one.state is ReplicaState.HEALTHY and lawful:
            assert touched[one.cluster] is ActionKind.DRAIN
        elif one.state not in (
            ReplicaState.DRAINING,
            ReplicaState.PARKING,
        ):  # these have their time
            assert touched[one.cluster] is ActionKind.TERMINATE


@dataclass
class World:
    """A day against a market that does its worst: the simplest executor of plans there is."""

    now: datetime
    replicas: list[Replica]
    generation: int = 0
    launches: int = 0
    moves: tuple[datetime, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def tick(self, market: Sequence[Quote], policy: Policy) -> None:
        order = service(generation=self.generation)
        found = fleet(*self.replicas, order=order, moves=self.moves, refusals=self.refusals)
        for action in plan(self.now, market, found, policy).actions:
            self._act(action)
        self.replicas = [
            replace(one, state=ReplicaState.HEALTHY, healthy_at=self.now)
            if one.state is ReplicaState.LAUNCHING
            else one
            for one in self.replicas
        ]

    def _act(self, action: Action) -> None:
        if action.kind is ActionKind.LAUNCH:
            assert action.offer is not None
            self.generation += 1
            self.launches += 1
            if action.for_money:
                self.moves = (*self.moves, self.now)
            self.replicas.append(
                Replica(
                    action.cluster,
                    action.service,
                    action.offer,
                    action.price,
                    ReplicaState.LAUNCHING,
                    self.now,
                    self.now,
                    replaces=action.replaces,
                )
            )
        elif action.kind is ActionKind.DRAIN:
            self.replicas = [
                replace(one, state=ReplicaState.DRAINING, changed_at=self.now)
                if one.cluster == action.cluster
                else one
                for one in self.replicas
            ]
        else:
            self.replicas = [one for one in self.replicas if one.cluster != action.cluster]

    def lose(self, policy: Policy) -> None:
        for one in self.replicas:
            refusal = next_refusal(
                policy, self.refusals, one.offer.key, self.now, "reclaimed", lost=True
            )
            self.refusals = (*self.refusals, refusal)
        self.replicas = []


PLACES: list[Offer] = [offer(region, "az1") for region in ("eu-north-1", "eu-west-1")]
FIXED = offer("eu-central-1", None, Purchase.ON_DEMAND)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(["0.05", "0.5", "5"])] * 2), min_size=72, max_size=72))
def test_prices_alone_never_move_more_than_the_daily_bound(steps: list[tuple[str, str]]) -> None:
    """A day in steps of 20 minutes, prices chosen by an adversary."""
    policy = Policy(min_stay_s=1200, max_moves_per_day=4)
    world = World(NOW, [])
    for step in steps:
        market = [quote(p, o, at=world.now) for p, o in zip(step, PLACES, strict=True)]
        world.tick([*market, quote("0.9", FIXED, at=world.now)], policy)
        world.now += timedelta(minutes=20)
    spares = policy.max_spares * (1 + 86_400 // (SPARE_STAYS * policy.min_stay_s))
    assert world.launches <= 1 + policy.max_moves_per_day + spares


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(["0.05", "0.5", "5"])] * 2), min_size=72, max_size=72))
def test_without_spares_prices_alone_move_no_more_than_the_daily_bound(
    steps: list[tuple[str, str]],
) -> None:
    policy = Policy(min_stay_s=1200, max_moves_per_day=4, max_spares=0)
    world = World(NOW, [])
    for step in steps:
        market = [quote(p, o, at=world.now) for p, o in zip(step, PLACES, strict=True)]
        world.tick([*market, quote("0.9", FIXED, at=world.now)], policy)
        world.now += timedelta(minutes=20)
    assert world.launches <= 1 + policy.max_moves_per_day


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=96, max_size=96))
def test_launches_are_bounded_by_losses_and_moves(losses: list[bool]) -> None:
    """A day in quarter-hour steps in which an adversary takes spot machines away.

    Every machine lost forces one launch; money adds at most the daily bound of moves, and caution
    what the spares may come and go. On demand nothing is taken away, so a fleet under attack comes
    to rest there.
    """
    policy = Policy(max_moves_per_day=3)
    world = World(NOW, [])
    lost = 0
    for taken in losses:
        market = [quote(p, o, at=world.now) for p, o in zip(("0.2", "0.3"), PLACES, strict=True)]
        world.tick([*market, quote("0.9", FIXED, at=world.now)], policy)
        spot = [one for one in world.replicas if one.offer.purchase is Purchase.SPOT]
        if taken and spot and len(spot) == len(world.replicas):
            lost += len(spot)
            world.lose(policy)
        world.now += timedelta(minutes=15)
    spares = policy.max_spares * (1 + 86_400 // (SPARE_STAYS * policy.min_stay_s))
    assert world.launches <= 1 + lost + policy.max_moves_per_day + spares


@given(quotes, fleets())
def test_a_launch_is_hedged_once_and_only_while_replicas_are_missing(market, found) -> None:  # type: ignore[no-untyped-def]
    made = plan(NOW, market, found, Policy())
    known = {one.cluster: one for one in found.replicas}
    hedged = [action.hedges for action in made.actions if action.hedges is not None]
    assert len(set(hedged)) == len(hedged)
    answering = sum(one.state is ReplicaState.HEALTHY for one in found.replicas)
    ended = sum(
        known[action.cluster].state is ReplicaState.HEALTHY
        for action in made.actions
        if action.kind is not ActionKind.LAUNCH
    )
    assert len(hedged) <= max(0, found.service.replicas - answering + ended)
    for cluster in hedged:
        slow = known[cluster]
        assert slow.hedged_by is None
        assert slow.state is ReplicaState.LAUNCHING
        assert cluster in found.slow
