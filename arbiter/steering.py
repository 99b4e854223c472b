"""What a missing replica is worth to a service, steered by how it fares. Pure.

The policy names a cost of a missing replica, an availability or a budget. For the last two the
cost is learnt: after every look at the fleet `steered` moves it a little, and the loop keeps it.
"""

from __future__ import annotations

from datetime import datetime

from arbiter.policy import Policy
from arbiter.spot.beliefs import Beliefs, with_goal
from arbiter.spot.goal import Goal, begun, served
from arbiter.spot.situation import Knobs


def knobs_of(policy: Policy) -> Knobs:
    """What the policy wants of the mix of machines."""
    return Knobs(policy.missing_cost, policy.availability, policy.budget)


def aim_of(policy: Policy) -> str:
    """What the policy steers to, in words; empty where it steers to nothing."""
    if policy.availability is not None:
        return f"an availability of {policy.availability * 100:.6g} %"
    if policy.budget is not None:
        return f"a mean cost of {policy.budget * 100:.6g} % of all on demand"
    return ""


def in_aim(beliefs: Beliefs, service: str, policy: Policy) -> Beliefs:
    """The beliefs, with a beginning where the service's aim is new or another than it was."""
    goal, aim = beliefs.goals.get(service), aim_of(policy)
    if not aim or (goal is not None and goal.aim == aim):
        return beliefs
    return with_goal(beliefs, service, begun(knobs_of(policy), 0.0)._replace(aim=aim))


def steered(
    now: datetime,
    beliefs: Beliefs,
    service: str,
    policy: Policy,
    *,
    ready: int,
    replicas: int,
    cost_share: float | None,
) -> Goal | None:
    """The service's goal after the time since it was last steered; None where it has none.

    Args:
        ready: how many answered in that time.
        replicas: how many should have.
        cost_share: what ran cost so much of all of them on demand; None counts as all of it.
    """
    aim = aim_of(policy)
    if not aim:
        return None
    goal, at = beliefs.goals.get(service), now.timestamp()
    if goal is None or goal.aim != aim or not goal.at:
        return begun(knobs_of(policy), at)._replace(aim=aim)
    cost = (1.0 if cost_share is None else cost_share) * replicas
    return served(goal, knobs_of(policy), at, ready=ready, replicas=replicas, cost=cost)
