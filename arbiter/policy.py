"""A policy: the rules under which a service is placed, moved and paid for. Pure values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from arbiter.commitments import Commitment
from arbiter.domain import OfferKey, Purchase, Refusal
from arbiter.profiles import Quantization
from arbiter.sovereignty import Rule

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the planner must respect, and when it may move.

    Attributes:
        sovereignty: who may run the machine, and where.
        spot, on_demand: which purchases are allowed.
        max_quote_age_s: an older quote is refused as stale.
        max_usd_per_hour, max_usd_per_mtok: caps per replica and per million output tokens, USD.
        min_saving: share by which a new place must be cheaper before a healthy replica moves.
        min_stay_s: seconds a replica stays healthy in a place before it may move for money.
        max_moves_per_day: moves for money of one service within any 24 hours, for each ordered
            replica. Together with min_stay_s this bounds churn: losses force launches, prices never
            force more than this.
        spread_premium: share by which a place may be dearer than the cheapest and still be taken,
            so that two replicas of a service do not stand, and fall, together.
        fallback_after: spot launches refused or lost within fallback_window_s before the next
            replica that is missing is bought on demand; spares and moves may try spot all the same.
        fallback_window_s: seconds for which those failures count.
        churn_after: spot machines of a service lost within churn_window_s, for each ordered
            replica, after which it stays on demand for churn_hold_s; each hold in a row lasts
            twice as long as the one before, up to eight times.
        churn_window_s, churn_hold_s: seconds.
        refusal_s: seconds for which refused capacity is not tried again; doubles with every
            failure in a row, up to refusal_max_s.
        missing_cost: what an hour of one missing replica is worth, in hours of an on-demand
            machine: the one knob of how much is spent on spares and on caution.
        availability: share of time with all replicas ready to which missing_cost is steered; None:
            it stays as it is.
        budget: likewise, a mean cost as a share of all replicas on demand; not beside an
            availability.
        max_spares: machines beyond the ordered number that may run against losses; 0 is none.
        quality_floor: the fewest bits that a model may be served in, where its profile does not
            say it: bf16 before fp8 before awq and mxfp4; None allows every variant.
        base_on_demand: replicas of each service that are always on demand, whatever spot costs.
        parked: on-demand machines of a service, at most as many as its replicas, that are stopped
            instead of ended when spot serves again, and started instead of launched when it does
            not; 0 is none. Only where the cloud can stop a machine and start it again.
        parked_max_s: seconds after which one that was not started is ended.
        commitments: machines that are paid for already; they are used first, up to their number.
        cold_start_s: seconds from a launch to the first answer, where nothing is measured yet.
        unhealthy_s: seconds without an answer before a replica that was healthy is replaced.
    """

    name: str = "default"
    sovereignty: Rule = field(default_factory=Rule)
    spot: bool = True
    on_demand: bool = True
    max_quote_age_s: int = 3600
    max_usd_per_hour: Decimal | None = None
    max_usd_per_mtok: Decimal | None = None
    min_saving: Decimal = Decimal("0.20")
    min_stay_s: int = 1800
    max_moves_per_day: int = 6
    spread_premium: Decimal = Decimal("0.25")
    fallback_after: int = 3
    fallback_window_s: int = 900
    refusal_s: int = 300
    refusal_max_s: int = 3600
    missing_cost: float = 20.0
    availability: float | None = None
    budget: float | None = None
    max_spares: int = 2
    cold_start_s: int = 600
    unhealthy_s: int = 60
    quality_floor: Quantization | None = None
    base_on_demand: int = 0
    parked: int = 0
    parked_max_s: int = 604_800
    commitments: tuple[Commitment, ...] = ()
    churn_after: int = 4
    churn_window_s: int = 7200
    churn_hold_s: int = 3600

    def allows(self, purchase: Purchase) -> bool:
        """Whether this way of buying is allowed."""
        if purchase is Purchase.SPOT:
            return self.spot
        return self.on_demand

    def remembered_until(self, at: datetime, failures: int) -> datetime:
        """Until when a place is left alone after so many failures in a row (1 is the first)."""
        wait = min(self.refusal_s * 2 ** min(failures - 1, 20), self.refusal_max_s)
        return at + timedelta(seconds=wait)


def next_refusal(
    policy: Policy,
    past: Iterable[Refusal],
    key: OfferKey,
    at: datetime,
    reason: str,
    *,
    lost: bool,
) -> Refusal:
    """The memory of one more failure at an offer.

    The count starts again once the place was left alone for as long as it was ever refused, so
    that a bad hour is forgiven.
    """
    failures = 1
    for refusal in past:
        if refusal.key == key and at <= refusal.until + (refusal.until - refusal.at):
            failures = refusal.failures + 1
    until = policy.remembered_until(at, failures)
    return Refusal(key, at, until, failures, reason, lost)


def spot_failures(policy: Policy, refusals: Iterable[Refusal], now: datetime) -> int:
    """Spot launches refused or lost lately, over all places."""
    since = now - timedelta(seconds=policy.fallback_window_s)
    return sum(
        1 for refusal in refusals if refusal.key.purchase is Purchase.SPOT and refusal.at > since
    )


def moves_left(policy: Policy, moves: Iterable[datetime], replicas: int, now: datetime) -> int:
    """How many moves for money a service of so many ordered replicas may still make now."""
    most = policy.max_moves_per_day * max(1, replicas)
    return most - sum(1 for moved in moves if moved > now - DAY)
