"""A service with replicas and a decision in the journal, for tests of the command line."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cli_world import NOW, Machine

from arbiter.cli.context import quick_standing
from arbiter.domain import Plan, Replica, ReplicaState, Service
from arbiter.planner import Fleet, plan
from arbiter.policy import Policy
from arbiter.profiles import load_profile
from arbiter.regions import load_atlas
from arbiter.settings import load_settings
from arbiter.spot.beliefs import Beliefs
from arbiter.store import fleet, journal

SERVICE = Service("chat", "llama70b-awq", 2, {"team": "search"})


def decide(machine: Machine, beliefs: Beliefs | None = None, demand: float | None = None) -> str:
    """Order a service, journal its first decision, let the machines come up; the decision's id."""
    quotes = tuple(quick_standing(load_settings(machine.toml), load_atlas()).quotes)
    store = machine.store()
    with store.begin() as connection:
        service = fleet.add_service(connection, SERVICE, NOW)
        profile, owner = load_profile(SERVICE.profile), journal.owner(connection)
        known = Fleet(service, profile, owner, demand=demand)
        learnt = beliefs or Beliefs()
        inputs = journal.Inputs(NOW, quotes, known, Policy(), learnt)
        made = plan(NOW, quotes, known, Policy(), learnt)
        decision = journal.write_decision(connection, made, inputs)
        for number, one in enumerate(_replicas(made)):
            fleet.add_replica(connection, one, "awq")
            healthy = replace(
                one,
                state=ReplicaState.HEALTHY if number == 0 else ReplicaState.LAUNCHING,
                healthy_at=NOW if number == 0 else None,
                endpoint="http://10.0.0.7:8000" if number == 0 else None,
                observed_region=one.offer.region if number == 0 else None,
                observed_zone=one.offer.zone if number == 0 else None,
                note="" if number == 0 else "installing the driver",
            )
            fleet.save_replica(connection, healthy)
    store.close()
    return decision


def _replicas(made: Plan) -> list[Replica]:
    since = NOW - timedelta(minutes=5)
    return [
        Replica(
            action.cluster,
            action.service,
            action.offer,
            action.price,
            ReplicaState.LAUNCHING,
            since,
            since,
        )
        for action in made.actions
        if action.offer is not None
    ]
