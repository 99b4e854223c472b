"""What is believed of every pool of spot machines, as a value that events update. Pure.

A pool is a place that gives or takes away machines of one kind: a zone and an instance type. Its
state is a run: up since an instant, or down since one, as far as our own machines, launches and
probes have shown. Losses follow the age of the run: on public traces the age alone tells a loss
apart with an AUC of 0.77 to 0.89, for the hazard falls about as one over the age.

    hazard(age) = factor x (SHAPE / (age + YOUNG_H) + FLOOR)         losses per hour, age in hours

The factor of a pool is a ratio of losses seen to losses expected, Gamma-Poisson shrunk to the
factor of its region, that to the one over all regions, and that to 1; old evidence decays. Where
its provider says how often it takes machines away, its hazard is that seed's times the shape's
from the start, and what is learnt is by how much that is wrong.

A pool that had room beyond what we hold, and has none any more, is shrinking, and takes machines
away much sooner. That hazard has a shape and a factor of its own, by the time since it shrank:

    hazard(since) = factor x (SHRUNK_SHAPE / (since + SHRUNK_YOUNG_H) + FLOOR)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from math import log
from typing import Any, NamedTuple

from arbiter.calibration import Busy, Rates, busied, plain_rates, rates_of
from arbiter.spot.cold import Answered, Colds, measured
from arbiter.spot.goal import Goal
from arbiter.spot.priors import Seed

HOUR = 3600.0

SHAPE = 0.55
"""Losses per unit of log-age: the exponent of a Pareto distribution of the lengths of runs."""

FLOOR = 0.03
"""Losses per hour of a run however old: about one a day and a half."""

YOUNG_H = 0.4
"""Hours of age below which the hazard hardly rises any more."""

ROOMY = 0.4
"""Share of the hazard that is left where a pool was just seen to have room beyond what we hold."""

ROOMY_H = 0.25
"""Hours for which that is believed."""

SHRUNK_SHAPE, SHRUNK_YOUNG_H = 0.2, 0.1
"""The same of a pool that has shrunk to what we hold. In the recordings of up to four machines a
zone it lost one within the next ten minutes at a rate of 1 to 6 an hour, and of 0.5 after that."""

HALF_LIFE_H = 96.0
"""Hours after which what was seen counts half."""

TRUST = 4.0
"""Expected losses that a prior weighs as much as: of a pool, of a region, of everything."""

UNSEEN_H = 5.0
"""Hours for which an open pool has been open when it is first asked: the median over instants of
the public traces is 2 to 10 hours, by market; long runs are met more often than short ones."""


class Happened(StrEnum):
    """What can happen in a pool."""

    GAVE = "gave"  # a launch or a probe was granted
    REFUSED = "refused"  # one was not
    LOST = "lost"  # running machines were taken away, or it was announced that they will be
    STANDS = "stands"  # a machine of ours is still there


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at: seconds since 1970, or on any clock that only rises.
        held: machines of ours in the pool when it happened: before a loss, besides a launch.
        count: how many were lost.
    """

    at: float
    pool: str
    region: str
    kind: Happened
    held: int = 0
    count: int = 1


class Pool(NamedTuple):
    """What is believed of one pool.

    Attributes:
        up_since, down_since: beginning of the present run, seconds; at most one is not None, and
            neither where nothing was ever tried.
        seen_at: when the present run was last confirmed, seconds.
        full_at: number of machines held when one more was last refused, or None.
        full_since, full_asked: when that was first and last so, seconds.
        losses, expected: decayed numbers of losses seen, and of those the hazard foresaw.
        decayed_at: the instant that the two stand for, seconds.
        asked_at: when it was last asked for a machine, seconds.
        room: most machines of ours that it was last seen to have room for.
        shrunk_since: when it was seen that it had room for no more than we hold, and had had more,
            seconds; None: it has not shrunk.
        shrunk_losses, shrunk_expected: as `losses` and `expected`, while it had shrunk.
    """

    region: str
    up_since: float | None = None
    down_since: float | None = None
    seen_at: float = 0.0
    full_at: int | None = None
    full_since: float = 0.0
    full_asked: float = 0.0
    losses: float = 0.0
    expected: float = 0.0
    decayed_at: float = 0.0
    asked_at: float = 0.0
    room: int = 0
    shrunk_since: float | None = None
    shrunk_losses: float = 0.0
    shrunk_expected: float = 0.0

    @property
    def up(self) -> bool:
        """Whether its last sign was a good one."""
        return self.up_since is not None


class Factors(NamedTuple):
    """By how much hazards exceed the shape's: of pools, of regions, of everything.

    Attributes:
        shrunk: of pools that have shrunk to what we hold, wherever they are.
    """

    pools: Mapping[str, float]
    regions: Mapping[str, float]
    common: float
    seeds: Mapping[str, Seed]
    shrunk: float = 1.0

    def of(self, pool: str, region: str) -> float:
        """The factor of a pool; of one never heard of, its region's and what is told of it."""
        found = self.pools.get(pool)
        if found is not None:
            return found
        seed = self.seeds.get(pool)
        return self.regions.get(region, self.common) * (seed.factor if seed else 1.0)


@dataclass(frozen=True)
class Beliefs:
    """What was learnt.

    Attributes:
        pools: by name.
        goals: service -> how V is steered, where the user named a goal.
        colds: measured cold starts.
        seeds: pool -> what its provider says of it; not learnt, but read anew for each decision.
        rates: measured tokens per second.
    """

    pools: Mapping[str, Pool] = field(default_factory=dict)
    goals: Mapping[str, Goal] = field(default_factory=dict)
    colds: Colds = field(default_factory=dict)
    seeds: Mapping[str, Seed] = field(default_factory=dict)
    rates: Rates = field(default_factory=dict)

    def pool(self, name: str, region: str = "") -> Pool:
        """What is believed of a pool; nothing yet of one that was never heard of."""
        return self.pools.get(name) or Pool(region)

    @cached_property
    def factors(self) -> Factors:
        """The factors as of the last events."""
        losses = expected = shrunk_losses = shrunk_expected = 0.0
        sums: dict[str, tuple[float, float]] = {}
        told = {name: seed.factor for name, seed in self.seeds.items()}
        for name, pool in self.pools.items():
            foreseen_here = pool.expected * told.get(name, 1.0)
            losses += pool.losses
            expected += foreseen_here
            shrunk_losses += pool.shrunk_losses
            shrunk_expected += pool.shrunk_expected
            seen, foresaw = sums.get(pool.region, (0.0, 0.0))
            sums[pool.region] = seen + pool.losses, foresaw + foreseen_here
        common = _shrunk(losses, expected, 1.0)
        regions = {name: _shrunk(*pair, common) for name, pair in sums.items()}
        pools = {}
        for name, pool in self.pools.items():
            seed = told.get(name, 1.0)
            learnt = _shrunk(pool.losses, pool.expected * seed, regions[pool.region])
            pools[name] = seed * learnt
        shrunk = _shrunk(shrunk_losses, shrunk_expected, 1.0)
        return Factors(pools, regions, common, self.seeds, shrunk)


def _shrunk(losses: float, expected: float, prior: float) -> float:
    """The mean of a Gamma posterior whose prior has this mean and weighs TRUST losses."""
    return prior * (losses + TRUST) / (expected * prior + TRUST)


def with_goal(beliefs: Beliefs, service: str, goal: Goal) -> Beliefs:
    """The beliefs with what a service aims at."""
    return replace(beliefs, goals={**beliefs.goals, service: goal})


def learn(beliefs: Beliefs, events: Iterable[Event | Answered | Busy]) -> Beliefs:
    """The beliefs after these events, which come in the order of time."""
    pools, colds, rates = dict(beliefs.pools), beliefs.colds, beliefs.rates
    for event in events:
        if isinstance(event, Answered):
            colds = measured(colds, event)
        elif isinstance(event, Busy):
            rates = busied(rates, event)
        else:
            pools[event.pool] = _after(pools.get(event.pool) or Pool(event.region), event)
    return Beliefs(pools, beliefs.goals, colds, beliefs.seeds, rates)


def faded(beliefs: Beliefs, at: float) -> Beliefs:
    """The beliefs with all evidence as old as it is now: what nobody looked at is forgiven, too."""
    pools = {}
    for name, pool in beliefs.pools.items():
        pools[name] = pool if at <= pool.decayed_at else _aged(pool, at, pool.seen_at)
    return replace(beliefs, pools=pools)


def foreseen(age_from_h: float, age_to_h: float) -> float:
    """Losses that the shape expects between two ages of a run, hours."""
    return SHAPE * log((age_to_h + YOUNG_H) / (age_from_h + YOUNG_H)) + FLOOR * (
        age_to_h - age_from_h
    )


def hazard(age_h: float, factor: float = 1.0) -> float:
    """Losses per hour of a run of this age in hours."""
    return factor * (SHAPE / (age_h + YOUNG_H) + FLOOR)


def shrunk_foreseen(from_h: float, to_h: float) -> float:
    """Losses that the shape of a shrunken pool expects between two times since it shrank, hours."""
    grown = log((to_h + SHRUNK_YOUNG_H) / (from_h + SHRUNK_YOUNG_H))
    return SHRUNK_SHAPE * grown + FLOOR * (to_h - from_h)


def losses_within(
    pool: Pool, factors: Factors, name: str, held: int, at: float, span_h: float, after_h: float = 0
) -> float:
    """Losses expected of a pool, with so many of ours, in hours that begin `after_h` from `at`."""
    if pool.shrunk_since is not None:
        since_h = max(0.0, at - pool.shrunk_since) / HOUR + after_h
        return factors.shrunk * shrunk_foreseen(since_h, since_h + span_h)
    age_h = age_at(pool, at) + after_h
    factor = factors.of(name, pool.region) * _ease(pool, held, at)
    return factor * foreseen(age_h, age_h + span_h)


def room_seen(pool: Pool, at: float) -> int:
    """Machines of ours that a pool was just seen to have room for; 0: not known, or one alone."""
    return pool.room if pool.room > 1 and at - pool.asked_at <= ROOMY_H * HOUR else 0


def _ease(pool: Pool, held: int, at: float) -> float:
    """By how much less a pool loses for the room that it has beyond so many."""
    return ROOMY if held < room_seen(pool, at) else 1.0


def age_at(pool: Pool, at: float) -> float:
    """Age of a pool's run, hours, as far as it is known."""
    return unseen_h(pool, at) if pool.up_since is None else max(0.0, at - pool.up_since) / HOUR


def hazard_now(beliefs: Beliefs, name: str, region: str, at: float) -> float:
    """Losses per hour of a machine in a pool at an instant, or of one that would be launched."""
    pool, factors = beliefs.pool(name, region), beliefs.factors
    if pool.shrunk_since is not None:
        since_h = max(0.0, at - pool.shrunk_since) / HOUR
        return factors.shrunk * (SHRUNK_SHAPE / (since_h + SHRUNK_YOUNG_H) + FLOOR)
    return hazard(age_at(pool, at), factors.of(name, region))


def unseen_h(pool: Pool, at: float) -> float:
    """Hours for which a pool that is found open has probably been open, unseen.

    Of one that was never asked before, UNSEEN_H; otherwise half of the time since it refused.
    """
    if pool.down_since is None:
        return UNSEEN_H
    return min(UNSEEN_H, max(0.0, at - pool.seen_at) / HOUR / 2)


def _after(pool: Pool, event: Event) -> Pool:
    at = max(event.at, pool.seen_at)  # a clock set back stands still until it has caught up
    match event.kind:
        case Happened.STANDS:
            return _stands(pool, event.held, at)
        case Happened.GAVE:
            return _roomy(_stands(pool, event.held, at), event.held, at)
        case Happened.REFUSED if event.held:
            return _full(_stands(pool, event.held, at), event.held, at)
        case Happened.REFUSED if not pool.up:
            since = at if pool.down_since is None else pool.down_since
            return pool._replace(down_since=since, seen_at=at, asked_at=at)
    return _ended(pool, event, at)


def _roomy(pool: Pool, held: int, at: float) -> Pool:
    """The pool, which has given one more than so many, or would have."""
    if pool.full_at is not None and held >= pool.full_at:
        pool = pool._replace(full_at=None, shrunk_since=None)
    return pool._replace(room=held + 1, asked_at=at)


def _full(pool: Pool, held: int, at: float) -> Pool:
    """The pool, which gives no more than so many machines; it may have said so before."""
    known = pool.full_at is not None and pool.full_at <= held
    since = pool.full_since if known else at
    shrunk = at if pool.room > held and pool.shrunk_since is None else pool.shrunk_since
    return pool._replace(
        full_at=held, full_since=since, full_asked=at, asked_at=at, room=held, shrunk_since=shrunk
    )


def _ended(pool: Pool, event: Event, at: float) -> Pool:
    """After a loss, or a refusal where machines were to be had: the run is over."""
    over = _stands(pool, event.held, at)
    if over.shrunk_since is None:
        over = over._replace(losses=over.losses + 1.0)
    else:
        over = over._replace(shrunk_losses=over.shrunk_losses + 1.0)
    left = event.held - event.count
    if event.kind is Happened.LOST and left > 0:
        over = over._replace(up_since=at, full_at=None, room=event.held, shrunk_since=None)
        return _full(over, left, at)
    return over._replace(up_since=None, down_since=at, full_at=None, room=0, shrunk_since=None)


def _stands(pool: Pool, held: int, at: float) -> Pool:
    """The pool, its run confirmed up to this instant."""
    since, shrunk = pool.up_since, pool.shrunk_since
    if since is None:
        return pool._replace(up_since=at - unseen_h(pool, at) * HOUR, down_since=None, seen_at=at)
    if at == pool.seen_at == pool.decayed_at:
        return pool
    if shrunk is None:
        more = foreseen(max(0.0, pool.seen_at - since) / HOUR, max(0.0, at - since) / HOUR)
        return _aged(pool, at, at, expected=more * _ease(pool, held, at))
    seen = max(0.0, pool.seen_at - shrunk)
    more = shrunk_foreseen(seen / HOUR, max(seen, at - shrunk) / HOUR)
    return _aged(pool, at, at, shrunk_expected=more)


def _aged(
    pool: Pool, at: float, seen_at: float, expected: float = 0.0, shrunk_expected: float = 0.0
) -> Pool:
    """The pool with its evidence as old as it is now, and with more losses foreseen.

    By all of its fields, as `_replace` takes three times as long, and every plan ages every pool.
    """
    (
        region, up_since, down_since, _, full_at, full_since, full_asked, losses, foresaw,
        decayed_at, asked_at, room, shrunk_since, shrunk_losses, shrunk_foresaw,
    ) = pool  # fmt: skip
    fade = 0.5 ** ((at - decayed_at) / HOUR / HALF_LIFE_H)
    return Pool(
        region, up_since, down_since, seen_at, full_at, full_since, full_asked, losses * fade,
        foresaw * fade + expected, at, asked_at, room, shrunk_since, shrunk_losses * fade,
        shrunk_foresaw * fade + shrunk_expected,
    )  # fmt: skip


def to_plain(beliefs: Beliefs) -> dict[str, Any]:
    """Dictionaries, lists, strings and numbers, for JSON; `from_plain` gives back the same."""
    return {
        "pools": {name: pool._asdict() for name, pool in beliefs.pools.items()},
        "goals": {service: goal._asdict() for service, goal in beliefs.goals.items()},
        "colds": {key: list(found) for key, found in beliefs.colds.items()},
        "rates": plain_rates(beliefs.rates),
    }


def from_plain(plain: Mapping[str, Any]) -> Beliefs:
    """The beliefs of `to_plain`.

    Raises:
        KeyError, TypeError: it is not what `to_plain` made.
    """
    return Beliefs(
        {name: Pool(**fields) for name, fields in plain["pools"].items()},
        {service: Goal(**fields) for service, fields in plain.get("goals", {}).items()},
        {key: tuple(found) for key, found in plain.get("colds", {}).items()},
        rates=rates_of(plain.get("rates", {})),
    )
