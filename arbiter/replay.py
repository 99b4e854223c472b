"""A journaled decision made again from what it was given. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.domain import Plan
from arbiter.orders import ordered_move
from arbiter.planner import plan

if TYPE_CHECKING:
    from arbiter.store.journal import Inputs


def replay(given: Inputs) -> Plan:
    """The plan of these inputs: the planner's, or the one that a user ordered."""
    if given.order is not None:
        return ordered_move(
            given.now, given.quotes, given.fleet, given.policy, given.order, given.beliefs
        )
    return plan(given.now, given.quotes, given.fleet, given.policy, given.beliefs)
