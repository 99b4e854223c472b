"""Machines that are paid for already: what they cost at the margin, and who stands on them. Pure.

A commitment (a reservation, a savings plan for one machine, a contract) is paid whether it is used
or not. So what counts when a replica is placed is only what using it costs besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from arbiter.domain import Offer, Purchase, Replica, ReplicaState

COMMITTED = "committed"
"""The mark of an on-demand offer of which a machine that is paid for is free."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """Machines of one kind in one region that are paid for, bought on demand as far as the
    provider's API goes.

    Attributes:
        count: how many.
        until: the first day, in UTC, on which it no longer holds.
        usd_per_hour: what using one of them costs besides.
    """

    provider: str
    region: str
    instance_type: str
    count: int
    until: date
    usd_per_hour: Decimal = Decimal(0)

    @property
    def machine(self) -> str:
        """What is committed: provider/region/instance type."""
        return f"{self.provider}/{self.region}/{self.instance_type}"

    def holds(self, now: datetime) -> bool:
        """Whether it is in force."""
        return now.date() < self.until


def machine_of(offer: Offer) -> str | None:
    """What of a commitment an offer would use; None of spot, which none covers."""
    if offer.purchase is not Purchase.ON_DEMAND:
        return None
    return f"{offer.provider}/{offer.region}/{offer.instance_type}"


def in_force(commitments: Iterable[Commitment], now: datetime) -> dict[str, Commitment]:
    """Machine -> its commitment, of those that hold."""
    return {one.machine: one for one in commitments if one.holds(now)}


def in_use(replicas: Iterable[Replica]) -> Counter[str]:
    """Machine -> how many of them may be running."""
    machines = (machine_of(one.offer) for one in replicas if one.state.alive)
    return Counter(one for one in machines if one is not None)


def covered(
    commitments: Mapping[str, Commitment], replicas: Iterable[Replica], elsewhere: Mapping[str, int]
) -> dict[str, Commitment]:
    """Cluster -> the commitment it stands on; of more replicas than machines, the oldest do.

    Args:
        elsewhere: machine -> how many of them other services use, which come first.
    """
    if not commitments:
        return {}
    left = {name: one.count - elsewhere.get(name, 0) for name, one in commitments.items()}
    found = {}
    for replica in sorted(replicas, key=lambda one: (one.launched_at, one.cluster)):
        machine = machine_of(replica.offer)
        if machine in left and left[machine] > 0:
            left[machine] -= 1
            found[replica.cluster] = commitments[machine]
    return found


def fixed(
    machines: Iterable[Replica], covered: Collection[str], base: int, most: int
) -> frozenset[str]:
    """Clusters that stay where they are, whatever spot costs.

    Args:
        covered: clusters that stand on a commitment; all of these.
        base: replicas that are always on demand, those that are covered among them.
        most: the ordered replicas; no more than that are fixed.
    """
    if not base and not covered:
        return frozenset()
    bought = [one for one in machines if one.offer.purchase is Purchase.ON_DEMAND]
    bought.sort(key=lambda one: (one.cluster not in covered, *_seniority(one)))
    paid = sum(one.cluster in covered for one in bought)
    return frozenset(one.cluster for one in bought[: min(most, max(base, paid))])


def _seniority(one: Replica) -> tuple[bool, datetime, str]:
    return one.state is not ReplicaState.HEALTHY, one.launched_at, one.cluster


def notes(
    commitments: Iterable[Commitment],
    now: datetime,
    used: Mapping[str, int],
    candidates: Sequence[Offer],
    refused: Mapping[str, str],
) -> tuple[str, ...]:
    """A sentence for each commitment: how much of it is used, or why it is not.

    Args:
        used: machine -> how many of them run, of all services.
        candidates: eligible offers.
        refused: machine -> why its on-demand offer was refused.
    """
    eligible = {machine_of(one) for one in candidates}
    return tuple(_note(one, now, used, eligible, refused) for one in commitments)


def _note(
    one: Commitment,
    now: datetime,
    used: Mapping[str, int],
    eligible: set[str | None],
    refused: Mapping[str, str],
) -> str:
    what = f"the commitment of {one.count} {one.instance_type} in {one.provider}/{one.region}"
    if not one.holds(now):
        return f"{what} ended on {one.until} and is not counted"
    if one.machine not in eligible:
        why = refused.get(one.machine)
        return f"{what} is not used: {why or 'no on-demand offer of it is known'}"
    return f"{what}, until {one.until}: {min(one.count, used.get(one.machine, 0))} in use"
