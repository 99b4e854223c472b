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

    @property
    def up(self) -> bool:
        """Whether its last sign was a good one."""
        return self.up_since is not None


class Factors(NamedTuple):
    """By how much hazards exceed the shape's: of pools, of regions, of everything."""

    pools: Mapping[str, float]
    regions: Mapping[str, float]
    common: float
    seeds: Mapping[str, Seed]

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
        losses = expected = 0.0
        sums: dict[str, tuple[float, float]] = {}
        told = {name: seed.factor for name, seed in self.seeds.items()}
        for name, pool in self.pools.items():
            foreseen_here = pool.expected * told.get(name, 1.0)
            losses += pool.losses
            expected += foreseen_here
            seen, foresaw = sums.get(pool.region, (0.0, 0.0))
            sums[pool.region] = seen + pool.losses, foresaw + foreseen_here
        common = _shrunk(losses, expected, 1.0)
        regions = {name: _shrunk(*pair, common) for name, pair in sums.items()}
        pools = {}
        for name, pool in self.pools.items():
            seed = told.get(name, 1.0)
            learnt = _shrunk(pool.losses, pool.expected * seed, regions[pool.region])
            pools[name] = seed * learnt
        return Factors(pools, regions, common, self.seeds)


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
    return replace(beliefs, pools=pools, colds=colds, rates=rates)


def faded(beliefs: Beliefs, at: float) -> Beliefs:
    """The beliefs with all evidence as old as it is now: what nobody looked at is forgiven, too."""
    pools = {}
    for name, pool in beliefs.pools.items():
        fade = 0.5 ** (max(0.0, at - pool.decayed_at) / HOUR / HALF_LIFE_H)
        pools[name] = pool._replace(
            losses=pool.losses * fade,
            expected=pool.expected * fade,
            decayed_at=max(at, pool.decayed_at),
        )
    return replace(beliefs, pools=pools)


def foreseen(age_from_h: float, age_to_h: float) -> float:
    """Losses that the shape expects between two ages of a run, hours."""
    return SHAPE * log((age_to_h + YOUNG_H) / (age_from_h + YOUNG_H)) + FLOOR * (
        age_to_h - age_from_h
    )


def hazard(age_h: float, factor: float = 1.0) -> float:
    """Losses per hour of a run of this age in hours."""
    return factor * (SHAPE / (age_h + YOUNG_H) + FLOOR)


def hazard_now(beliefs: Beliefs, name: str, region: str, at: float) -> float:
    """Losses per hour of a machine in a pool at an instant, or of one that would be launched."""
    pool = beliefs.pool(name, region)
    run_h = unseen_h(pool, at) if pool.up_since is None else max(0.0, at - pool.up_since) / HOUR
    return hazard(run_h, beliefs.factors.of(name, region))


def unseen_h(pool: Pool, at: float) -> float:
    """Hours for which a pool that is found open has probably been open, unseen.

    Of one that was never asked before, UNSEEN_H; otherwise half of the time since it refused.
    """
    if pool.down_since is None:
        return UNSEEN_H
    return min(UNSEEN_H, max(0.0, at - pool.seen_at) / HOUR / 2)


def _after(pool: Pool, event: Event) -> Pool:
    if event.at < pool.seen_at:  # a clock set back: time stands still until it has caught up
        event = replace(event, at=pool.seen_at)
    match event.kind:
        case Happened.STANDS:
            return _stands(pool, event.at)
        case Happened.GAVE:
            stands = _stands(pool, event.at)
            roomier = pool.full_at is not None and event.held >= pool.full_at
            return stands._replace(full_at=None) if roomier else stands
        case Happened.REFUSED if event.held:
            return _full(_stands(pool, event.at), event.held, event.at)
        case Happened.REFUSED if not pool.up:
            since = event.at if pool.down_since is None else pool.down_since
            return pool._replace(down_since=since, seen_at=event.at)
    return _ended(pool, event)


def _full(pool: Pool, held: int, at: float) -> Pool:
    """The pool, which gives no more than so many machines; it may have said so before."""
    known = pool.full_at is not None and pool.full_at <= held
    since = pool.full_since if known else at
    return pool._replace(full_at=held, full_since=since, full_asked=at)


def _ended(pool: Pool, event: Event) -> Pool:
    """After a loss, or a refusal where machines were to be had: the run is over."""
    over = _stands(pool, event.at)
    over = over._replace(losses=over.losses + 1.0)
    left = event.held - event.count
    if event.kind is Happened.LOST and left > 0:
        return _full(over._replace(up_since=event.at, full_at=None), left, event.at)
    return over._replace(up_since=None, down_since=event.at, full_at=None)


def _stands(pool: Pool, at: float) -> Pool:
    """The pool, its run confirmed up to this instant."""
    since = pool.up_since
    if since is None:
        return pool._replace(up_since=at - unseen_h(pool, at) * HOUR, down_since=None, seen_at=at)
    more = foreseen(max(0.0, pool.seen_at - since) / HOUR, max(0.0, at - since) / HOUR)
    fade = 0.5 ** ((at - pool.decayed_at) / HOUR / HALF_LIFE_H)
    return Pool(
        pool.region,
        since,
        None,
        at,
        pool.full_at,
        pool.full_since,
        pool.full_asked,
        pool.losses * fade,
        pool.expected * fade + more,
        at,
    )


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
