"""What a decision is made from: what is wanted, what is offered, what is held. Values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from arbiter.spot.beliefs import Beliefs

ON_DEMAND = "on-demand"
"""The name of the place without losses; no pool may have it."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Constants of the rule. The score is flat around them: none was fitted closely.

    Attributes:
        add, drop: on-demand hours per hour that a launch, or an end, must at least be worth.
        stay_h: longest stay that is counted on, hours: prices and needs change, too.
        unseen_stay_h: hours over which a pool's losses are averaged that nobody can ask, and that
            nothing was heard of for long.
        up_probe_s: seconds after which a pool with room, and none of ours, is asked again.
        room_probe_s: the same of one with room beyond ours.
        down_probe_min_s, down_probe_max_s, down_share: one that refused is asked again after
            this share of the time since it did, within these bounds, seconds.
    """

    add: float = 0.03
    drop: float = 0.03
    stay_h: float = 3.0
    unseen_stay_h: float = 6.0
    up_probe_s: float = 600.0
    room_probe_s: float = 120.0
    down_probe_min_s: float = 180.0
    down_probe_max_s: float = 1800.0
    down_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the user wants.

    Attributes:
        missing_cost: V, on-demand hours that one missing replica-hour costs.
        availability: share of time with all replicas ready that V is steered to; None: V stays.
        budget: the same, to a mean cost as a share of all on demand; not with an availability.
    """

    missing_cost: float = 20.0
    availability: float | None = None
    budget: float | None = None


class Offered(NamedTuple):
    """A pool as it is offered now.

    Attributes:
        price: on-demand hours per hour.
        cold_h: hours from a launch to ready.
        notice_h: hours of warning before a loss; 0: none, or not known.
        rank: of pools that are equal in all else the lowest is preferred, then the first.
    """

    name: str
    region: str
    price: float
    cold_h: float
    notice_h: float = 0.0
    rank: int = 0


class Held(NamedTuple):
    """One machine of ours.

    Attributes:
        pool: where it runs; None: on demand.
        doomed: its loss was announced.
        price: what it costs now, on-demand hours per hour, where its pool is not offered.
    """

    id: int | str
    pool: str | None
    ready: bool
    doomed: bool = False
    price: float | None = None


@dataclass(frozen=True)
class Situation:
    """All that a decision is made from.

    Attributes:
        now: seconds, on the clock of the beliefs' events.
        on_demand_cold_h: hours from buying on demand to ready.
        offered: pools that may be launched in, no name twice.
        held: machines of ours, oldest first, those being ended left out.
        probing: whether pools can be asked without launching. If not, one never heard of, or
            believed down, may be tried.
        on_demand: whether machines can be bought on demand.
        service: whose goal is looked up in the beliefs.
    """

    now: float
    replicas: int
    knobs: Knobs
    on_demand_cold_h: float
    offered: Sequence[Offered]
    held: Sequence[Held]
    beliefs: Beliefs
    probing: bool = True
    on_demand: bool = True
    service: str = ""
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def missing_cost(self) -> float:
        """The V in force: the user's, or the one that the user's goal has led to."""
        goal = self.beliefs.goals.get(self.service)
        steered = self.knobs.availability is not None or self.knobs.budget is not None
        return goal.missing_cost if goal and steered else self.knobs.missing_cost


def place_of(one: Held) -> str:
    """The pool of a machine, or ON_DEMAND."""
    return ON_DEMAND if one.pool is None else one.pool


def counted(held: Iterable[Held]) -> dict[str, int]:
    """Machines by place."""
    counts: dict[str, int] = {}
    for one in held:
        place = place_of(one)
        counts[place] = counts.get(place, 0) + 1
    return counts
