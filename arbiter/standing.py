"""What runs, what may be had, and what is wanted when a plan is made. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter

from arbiter.churn import Churn
from arbiter.domain import Candidate, Expected, Purchase, Replica, ReplicaState
from arbiter.market import Sifted
from arbiter.pools import group_of, pool_of
from arbiter.profiles import Profile
from arbiter.spot.beliefs import Beliefs, Event, Happened, faded, learn


@dataclass(frozen=True, slots=True)
class Standing:
    """What runs and what may be had when a plan is made.

    Attributes:
        service: its name, under which its goal is kept.
        profile: what it serves; its cold starts are kept under its name.
        notice_s: provider -> seconds of warning before it takes a spot machine away.
        replicas: how many should answer.
        market: every eligible offer, cheapest first.
        machines: the replicas that count.
        doomed: clusters among them that do not answer, or are about to be taken away.
        costs: cluster -> USD per million tokens at today's price, where known.
        covered: clusters that stand on a machine that is paid for.
        free: machine of a commitment -> how many of them nobody uses.
        failures: spot launches refused or lost lately.
        churn: the hold that losses have led to, during which no spot is tried; None: none.
        moves_left: launches for money that the policy still allows.
        lowered_at: when fewer replicas were last wanted than before: what was launched until then
            need not stay.
    """

    now: datetime
    service: str
    profile: Profile
    notice_s: Mapping[str, float]
    replicas: int
    market: Sifted
    machines: Sequence[Replica]
    doomed: frozenset[str]
    costs: Mapping[str, Decimal]
    failures: int
    moves_left: int
    covered: frozenset[str] = frozenset()
    free: Mapping[str, int] = field(default_factory=dict)
    lowered_at: datetime | None = None
    churn: Churn | None = None

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Every eligible offer, cheapest first."""
        return self.market.candidates


@dataclass(frozen=True, slots=True)
class Wish:
    """One step towards the best mix.

    Attributes:
        candidate: what to launch; None for an ending.
        replica: what to end, or what a launch for money is to take over from.
        for_money: a launch that only saves.
        expected: the figures behind a launch.
    """

    candidate: Candidate | None
    replica: Replica | None
    for_money: bool
    reason: str
    expected: Expected | None = None


def up_to(now: datetime, machines: Sequence[Replica], beliefs: Beliefs) -> Beliefs:
    """The beliefs at this instant, with what our own machines show."""
    spot = [
        one
        for one in machines
        if one.offer.purchase is Purchase.SPOT and one.state is ReplicaState.HEALTHY
    ]
    ours = Counter(pool_of(one.offer) for one in spot)
    events, at = [], now.timestamp()
    for one in spot:
        pool, group = pool_of(one.offer), group_of(one.offer)
        since = (one.healthy_at or one.launched_at).timestamp()
        events += [Event(when, pool, group, Happened.STANDS, ours[pool]) for when in (since, at)]
    events.sort(key=attrgetter("at", "pool"))
    return faded(learn(beliefs, events), at)
