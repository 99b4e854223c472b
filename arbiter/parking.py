"""Parked machines: which are stopped instead of ended, started instead of launched, or kept. Pure.

A fallback that is launched anew pulls its image and its weights; one that was parked has them on
its disk. So an on-demand machine that spot has made superfluous may be stopped instead of ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from arbiter.commitments import COMMITTED
from arbiter.domain import Candidate, Purchase, Replica, ReplicaState
from arbiter.policy import Policy
from arbiter.sovereignty import Refused, judge

STOP_PATIENCE = timedelta(minutes=10)
"""A machine that is not stopped by then is ended: it costs money and serves nobody."""


class Parked:
    """The parked machines that a plan may start, each once.

    Args:
        replicas: those that the rules allow.
        candidates: the eligible offers; a machine whose offer is none of them is not started.
        premium: share by which it may be dearer than the offer in whose place it is started.
    """

    def __init__(
        self,
        replicas: Iterable[Replica] = (),
        candidates: Iterable[Candidate] = (),
        premium: Decimal = Decimal(0),
    ) -> None:
        waiting = list(replicas)
        keys = {one.offer.key for one in waiting}
        offered = candidates if keys else ()
        priced = {one.quote.offer.key: one for one in offered if one.quote.offer.key in keys}
        self._waiting = [(one, priced[one.offer.key]) for one in waiting if one.offer.key in priced]
        self._waiting.sort(key=lambda pair: (pair[1].usd_per_mtok, pair[0].cluster))
        self._premium = premium

    def take(self, wanted: Candidate) -> tuple[Replica, Candidate] | None:
        """The cheapest to start in place of a launch, with its offer as it stands now, or None."""
        bought = wanted.quote.offer.purchase is Purchase.ON_DEMAND
        if not self._waiting or not bought or COMMITTED in wanted.marks:
            return None
        if self._waiting[0][1].usd_per_mtok > wanted.usd_per_mtok * (1 + self._premium):
            return None
        return self._waiting.pop(0)


def allowed(policy: Policy, replicas: int) -> int:
    """How many machines of a service may be parked."""
    return min(policy.parked, replicas) if policy.spot and policy.on_demand else 0


def may_park(
    replica: Replica,
    others: Sequence[Replica],
    policy: Policy,
    ordered: int,
    parkable: Sequence[str],
) -> bool:
    """Whether a drained replica is stopped instead of ended: spot serves in its place.

    Args:
        others: the service's other replicas, those that are parked already among them; what this
            plan parks has to be told as being parked.
        ordered: how many replicas are wanted.
        parkable: clusters that can be stopped and started again.
    """
    if replica.offer.purchase is not Purchase.ON_DEMAND or replica.cluster not in parkable:
        return False
    if replica.healthy_at is None or replica.leaving_at is not None:
        return False
    held = sum(one.state in (ReplicaState.PARKED, ReplicaState.PARKING) for one in others)
    spot_serves = any(
        one.state is ReplicaState.HEALTHY and one.offer.purchase is Purchase.SPOT for one in others
    )
    return spot_serves and held < allowed(policy, ordered)


def why_not_kept(replica: Replica, policy: Policy, now: datetime) -> str | None:
    """Why a parked machine is ended now; None where it stays."""
    verdict = judge(replica.place, policy.sovereignty, replica.offer.tier)
    if isinstance(verdict, Refused):
        return f"it stands where the rule refuses: {verdict.reason}"
    if not allowed(policy, 1):
        return "nothing is parked by this policy"
    longest = timedelta(seconds=policy.parked_max_s)
    if replica.parked_at is not None and now - replica.parked_at >= longest:
        return f"it was parked for {longest} and not needed"
    return None


def surplus(parked: Sequence[Replica], policy: Policy) -> list[Replica]:
    """Those beyond the policy's number, the longest parked first."""
    oldest = sorted(parked, key=lambda one: (one.parked_at or one.changed_at, one.cluster))
    return oldest[: max(0, len(parked) - policy.parked)]


def parking_notes(policy: Policy, why_not: Mapping[str, str]) -> tuple[str, ...]:
    """Where nothing is parked although the policy says so, a sentence each.

    Args:
        why_not: provider -> why its machines are not parked.
    """
    if not policy.parked:
        return ()
    return tuple(f"nothing is parked on {name}: {why_not[name]}" for name in sorted(why_not))
