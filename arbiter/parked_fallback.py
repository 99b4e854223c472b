"""The steps of a plan that concern a parked fallback. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from arbiter.domain import Candidate, Replica, ReplicaState
from arbiter.parking import Parked, may_park, surplus, why_not_kept
from arbiter.policy import Policy
from arbiter.steps import Steps


def end_drained(
    steps: Steps,
    replica: Replica,
    replicas: Sequence[Replica],
    policy: Policy,
    ordered: int,
    parkable: Sequence[str],
) -> None:
    """End what is drained: for good, or until it is needed again.

    Args:
        replicas: all of the service.
        ordered: how many are wanted.
        parkable: clusters that can be stopped and started again.
    """
    others = [
        replace(one, state=ReplicaState.PARKING) if steps.parks(one) else one
        for one in replicas
        if one is not replica
    ]
    if may_park(replica, others, policy, ordered, parkable):
        steps.park(replica, "drained, and spot serves in its place")
    else:
        steps.terminate(replica, "drained")


def keep_parked(
    steps: Steps, replicas: Sequence[Replica], policy: Policy, candidates: Sequence[Candidate]
) -> Parked:
    """End the parked machines that may not stay so; the others may be started."""
    stays = []
    for replica in replicas:
        if replica.state is ReplicaState.PARKED:
            why = why_not_kept(replica, policy, steps.now)
            if why is None:
                stays.append(replica)
            else:
                steps.terminate(replica, why)
    for replica in surplus(stays, policy):
        steps.terminate(replica, f"no more than {policy.parked} are parked")
        stays.remove(replica)
    return Parked(stays, candidates, policy.spread_premium)
