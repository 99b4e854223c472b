"""What a failed launch leaves: a closed action, a remembered place, an event, a lesson."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from arbiter.clock import Clock
from arbiter.domain import ActionState, Plan, Refusal, Replica, ReplicaState
from arbiter.errors import LaunchError, LaunchRejected, QuotaExceeded
from arbiter.policy import Policy, next_refusal
from arbiter.spot.beliefs import Event, Happened, learn
from arbiter.spot.cold import Answered
from arbiter.store import fleet, journal
from arbiter.store.beliefs import read_beliefs, save_beliefs
from arbiter.store.engine import Store

STANDS_EVERY = timedelta(minutes=5)
"""How often it is written down that a machine still stands."""

FOR_PEOPLE = 6
"""The longest waits after which that is tried again which a person has to mend."""


def failure_sentence(current: Replica, error: LaunchError) -> str:
    """What happened, in one sentence."""
    offer = current.offer
    tried = "started" if current.starting else "launched"
    verb = f"was not {tried}" if current.state is ReplicaState.LAUNCHING else "was given up"
    return f"{current.cluster} {verb} on {offer.where} {offer.purchase}: {error.message}"


def fail(
    connection: Connection,
    current: Replica,
    error: LaunchError,
    policy: Policy,
    now: datetime,
    decision_id: str | None = None,
    *,
    parked: bool = False,
) -> None:
    """A launch ended in an error: remember the place, close the action, tell why.

    Args:
        parked: it was the start of a machine that stays parked.
    """
    state = ReplicaState.PARKED if parked else ReplicaState.FAILED
    failed = replace(current, state=state, changed_at=now, note=error.message)
    fleet.save_replica(connection, failed)
    journal.close_launch(connection, current.cluster, ActionState.FAILED, now, error.message)
    fleet.add_refusal(
        connection,
        current.service,
        _refusal(policy, fleet.refusals(connection, now), current, now, error),
    )
    journal.add_event(
        connection,
        now,
        "start_refused" if parked else "launch_failed",
        failure_sentence(current, error),
        service=current.service,
        cluster=current.cluster,
        decision_id=decision_id,
    )


def note_hedges(
    connection: Connection,
    made: Plan,
    replicas: Sequence[Replica],
    policy: Policy,
    decision_id: str,
) -> None:
    """A place whose launch is slow is left alone for a while, as one that has refused is."""
    by_name = {one.cluster: one for one in replicas}
    for action in made.actions:
        slow = by_name.get(action.hedges or "")
        if slow is None or action.offer is None:
            continue
        past, key = fleet.refusals(connection, made.at), slow.offer.key
        found = next_refusal(policy, past, key, made.at, "its launch was slow", lost=False)
        fleet.add_refusal(connection, made.service, found)
        waited = (made.at - slow.launched_at).total_seconds()
        journal.add_event(
            connection,
            made.at,
            "launch_hedged",
            f"{slow.cluster} brought no machine on {slow.offer.where} within {waited:.0f} s: "
            f"{action.cluster} was asked for beside it on {action.offer.where}",
            service=made.service,
            cluster=slow.cluster,
            decision_id=decision_id,
        )


def keep(store: Store, clock: Clock, events: Sequence[Event | Answered]) -> None:
    """Keep what was learnt; that machines still stand is written down now and then only."""
    if not events:
        return
    told = any(isinstance(one, Answered) or one.kind is not Happened.STANDS for one in events)
    now = clock.now()
    with store.read() as connection:
        beliefs = read_beliefs(connection)
    stale = any(
        now.timestamp() - beliefs.pool(event.pool).seen_at >= STANDS_EVERY.total_seconds()
        for event in events
        if isinstance(event, Event)
    )
    if told or stale:
        with store.begin() as connection:
            save_beliefs(connection, learn(read_beliefs(connection), events), now)


def _refusal(
    policy: Policy,
    past: Sequence[Refusal],
    current: Replica,
    now: datetime,
    error: LaunchError,
) -> Refusal:
    """The memory of a failed launch: what waiting cannot mend is left alone for longest.

    A quota is refused in every zone of the region: trying them all would take minutes.
    """
    key = current.offer.key
    if isinstance(error, QuotaExceeded):
        key = replace(key, zone=None)  # a quota is a region's
    found = next_refusal(policy, past, key, now, error.message, lost=False)
    if isinstance(error, QuotaExceeded | LaunchRejected):
        return replace(found, until=now + FOR_PEOPLE * timedelta(seconds=policy.refusal_max_s))
    return found
