"""The decision: plan(now, quotes, fleet, policy, beliefs) -> Plan. Pure, and the only one there is.

The daemon, `arbiter plan`, the API preview and the backtest all call it. It never reads a clock,
never draws a random number, and the same values in any order of quotes give the same plan.

What it keeps to:
- a replica outside the rule is ended at once, parked or not;
- after machines that never served the next launch waits, each time for longer;
- launch -> healthy -> drain -> terminate: a healthy replica is ended only when another one
  answers in its place, or when the user orders it;
- which machines, and how many of them spare, is `arbiter.spot`'s choice: spot first; what is still
  missing after `fallback_after` failures within a window, on-demand; back to spot by the same rule
  that moves any replica to a cheaper place, which `min_stay_s` and `max_moves_per_day` bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from arbiter.churn import churn
from arbiter.commitments import covered, fixed, in_force, in_use, machine_of, notes
from arbiter.costs import present_costs
from arbiter.crash_loop import NEVER_SERVED, Failed, back_off
from arbiter.domain import (
    Plan,
    Quote,
    Refusal,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.hedging import hedges, next_candidate, settled, to_hedge
from arbiter.market import Sifted, demand_per_replica, sift
from arbiter.parked_fallback import end_drained, keep_parked
from arbiter.parking import STOP_PATIENCE, parking_notes
from arbiter.policy import Policy, moves_left, spot_failures
from arbiter.profiles import Profile
from arbiter.sentences import sentence
from arbiter.sovereignty import Refused, judge
from arbiter.spot.beliefs import Beliefs
from arbiter.standing import Standing, Wish
from arbiter.steps import Steps
from arbiter.variants import at_quality
from arbiter.wishes import Wishes

NOTHING_LEARNT = Beliefs()
TOP_CANDIDATES = 5
COUNTED = (
    ReplicaState.LAUNCHING,
    ReplicaState.STARTING,
    ReplicaState.HEALTHY,
    ReplicaState.UNHEALTHY,
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that is known of one service when it is planned.

    Attributes:
        owner: identity of this arbiter, part of every cluster's name.
        replicas: all that are not settled: running, ending, or dead and not yet cleaned up.
        ending: clusters whose termination was ordered and is not confirmed yet.
        refusals: remembered capacity failures, newest last.
        moves: instants of the launches made for money.
        losses: when spot machines of the service were lost lately.
        never_served: its newest machines, where none of them ever served.
        slow: clusters whose launch has brought no machine for longer than is usual there.
        not_launchable: provider -> why nothing is launched there.
        elsewhere: machine of a commitment -> how many of them other services use.
        notice_s: provider -> seconds of warning before it takes a spot machine away, where they
            are listened to; of the others none is counted on.
        parkable: clusters whose machines can be stopped and started again, where the policy parks.
        not_parkable: provider -> why its machines cannot, where the policy parks.
        demand: output tokens per second that were asked of the service at its busiest; None where
            that is not known.
    """

    service: Service
    profile: Profile
    owner: str
    replicas: tuple[Replica, ...] = ()
    ending: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    moves: tuple[datetime, ...] = ()
    not_launchable: Mapping[str, str] = field(default_factory=dict)
    notice_s: Mapping[str, float] = field(default_factory=dict)
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    slow: tuple[str, ...] = ()
    losses: tuple[datetime, ...] = ()
    never_served: tuple[Failed, ...] = ()
    demand: float | None = None
    parkable: tuple[str, ...] = ()
    not_parkable: Mapping[str, str] = field(default_factory=dict)


def plan(
    now: datetime,
    quotes: Sequence[Quote],
    fleet: Fleet,
    policy: Policy,
    beliefs: Beliefs = NOTHING_LEARNT,
) -> Plan:
    """What should be done now for one service.

    Args:
        now: the instant of the decision, aware UTC.
        quotes: every known quote, eligible or not, in any order.
        fleet: what runs, and what was refused.
        policy: the rules in force.
        beliefs: what was learnt of the pools of spot machines.
    """
    used = _used(fleet, policy)
    sifted = sift(
        now,
        quotes,
        fleet.profile,
        policy,
        not_launchable=fleet.not_launchable,
        refusals=fleet.refusals,
        rates=beliefs.rates,
        demand=demand(fleet),
        committed=used,
    )
    if fleet.ending:
        staying = tuple(one for one in fleet.replicas if one.cluster not in fleet.ending)
        fleet = replace(fleet, replicas=staying)
    steps = Steps(now, fleet.owner, fleet.service)
    cost_share = None
    if fleet.service.down:
        _end_everything(steps, fleet)
    else:
        kept = _end_what_may_not_stay(steps, fleet, policy)
        steps.held = back_off([*fleet.never_served, *_given_up(steps, fleet)], now)
        steps.parked = keep_parked(steps, fleet.replicas, policy, sifted.candidates)
        _settle_hedges(steps, fleet, kept)
        _finish_replacements(steps, fleet, kept)
        _shrink(steps, fleet, policy, kept)
        cost_share = _mix(steps, fleet, policy, sifted, quotes, beliefs, kept)
        _hedge(steps, fleet, policy, sifted, kept)
    _clean_up(steps, fleet)
    actions = tuple(steps.actions)
    return Plan(
        service=fleet.service.name,
        at=now,
        actions=actions,
        candidates=sifted.candidates[:TOP_CANDIDATES],
        eligible=len(sifted.candidates),
        refused_by_rule=sifted.refused_by_rule(),
        sentence=sentence(fleet.service, fleet.replicas, actions, sifted, steps.held),
        cost_share=cost_share,
        notes=_notes(now, policy, used, sifted) + parking_notes(policy, fleet.not_parkable),
    )


def _notes(
    now: datetime, policy: Policy, used: Mapping[str, int], sifted: Sifted
) -> tuple[str, ...]:
    """What is to be known of the commitments."""
    if not policy.commitments:
        return ()
    refused: dict[str, str] = {}
    for one in sifted.refused:
        machine = machine_of(one.offer)
        if machine is not None:
            refused.setdefault(machine, f"{one.rule}, {one.reason}")
    offers = [one.quote.offer for one in sifted.candidates]
    return notes(policy.commitments, now, used, offers, refused)


def _end_everything(steps: Steps, fleet: Fleet) -> None:
    for replica in fleet.replicas:
        steps.terminate(replica, "the service was ordered down")


def _end_what_may_not_stay(steps: Steps, fleet: Fleet, policy: Policy) -> list[Replica]:
    """End misplaced replicas and those that never answered; return the ones that still count."""
    kept = []
    patience = timedelta(seconds=fleet.profile.serving.start_s)
    for replica in fleet.replicas:
        if not replica.state.alive:
            continue
        verdict = judge(replica.place, policy.sovereignty, replica.offer.tier)
        if isinstance(verdict, Refused):
            steps.terminate(replica, f"it stands where the rule refuses: {verdict.reason}")
        elif replica.state is ReplicaState.DRAINING:
            if steps.now - replica.changed_at >= timedelta(seconds=fleet.profile.serving.drain_s):
                end_drained(
                    steps, replica, fleet.replicas, policy, fleet.service.replicas, fleet.parkable
                )
        elif replica.state is ReplicaState.PARKING:
            if steps.now - replica.changed_at >= STOP_PATIENCE:
                steps.terminate(replica, f"it was not stopped within {STOP_PATIENCE}")
        elif replica.healthy_at is None and steps.now - replica.launched_at > patience:
            why = f": {replica.note}" if replica.note else ""
            steps.terminate(replica, f"{NEVER_SERVED} {patience}{why}")
        else:
            kept.append(replica)
    return kept


def _given_up(steps: Steps, fleet: Fleet) -> list[Failed]:
    """What this very plan ends, for it never served."""
    given_up = [action for action in steps.actions if action.reason.startswith(NEVER_SERVED)]
    if not given_up:
        return []
    launched_at = {replica.cluster: replica.launched_at for replica in fleet.replicas}
    return [Failed(launched_at[one.cluster], steps.now, one.reason) for one in given_up]


def _settle_hedges(steps: Steps, fleet: Fleet, kept: list[Replica]) -> None:
    """Of a slow launch and the one beside it, keep the first whose machine is up."""
    for stays, goes in settled(kept, fleet.service.replicas):
        steps.end(goes, f"{stays.cluster} was up first")
        kept.remove(goes)


def _hedge(
    steps: Steps, fleet: Fleet, policy: Policy, sifted: Sifted, kept: Sequence[Replica]
) -> None:
    """Launch the next candidate beside a launch that is slow, while replicas are missing."""
    waiting = to_hedge(kept, fleet.slow, fleet.service.replicas)
    if not waiting:
        return
    used = {replica.offer.where for replica in kept}
    used.update(action.offer.where for action in steps.actions if action.offer is not None)
    spot = spot_failures(policy, fleet.refusals, steps.now) < policy.fallback_after
    spot = spot and churn(policy, fleet.losses, fleet.service.replicas, steps.now) is None
    for slow in waiting:
        found = next_candidate(slow, sifted.candidates, used, spot=spot)
        if found is not None and not steps.touches(slow):
            used.add(found.quote.offer.where)
            waited = (steps.now - slow.launched_at).total_seconds()
            reason = f"{slow.cluster} has brought no machine for {waited:.0f} s"
            steps.launch(found, reason, slow.replaces, hedges=slow.cluster)


def _finish_replacements(steps: Steps, fleet: Fleet, kept: list[Replica]) -> None:
    """Where the new one answers, take the old one out, unless too few answer without it."""
    newcomers = [replica for replica in kept if replica.replaces is not None]
    if not newcomers:
        return
    by_name = {replica.cluster: replica for replica in kept}
    answering = sum(replica.state is ReplicaState.HEALTHY for replica in kept)
    for replica in newcomers:
        old = by_name.get(replica.replaces or "")
        if old is None or old not in kept or replica.state is not ReplicaState.HEALTHY:
            continue
        if old.state is ReplicaState.HEALTHY:
            if answering <= fleet.service.replicas:
                continue
            answering -= 1
        steps.end(old, f"{replica.cluster} answers in its place")
        kept.remove(old)


def _shrink(steps: Steps, fleet: Fleet, policy: Policy, kept: list[Replica]) -> None:
    """End what is more than ordered, spares included: what does not answer, then the dearest."""
    standing = _standing(kept)
    spares = policy.max_spares if fleet.service.replicas else 0
    surplus = len(standing) - fleet.service.replicas - spares
    if surplus <= 0:
        return
    paid = covered(in_force(policy.commitments, steps.now), standing, fleet.elsewhere)
    stays = fixed(standing, paid, policy.base_on_demand, fleet.service.replicas)
    coming = sum(one.healthy_at is None for one in standing if one.cluster in stays)
    surplus -= coming
    if surplus <= 0:
        return

    def dispensable(replica: Replica) -> tuple[bool, bool, int, str]:
        price = replica.price.micros if replica.price else 0
        healthy = replica.state is ReplicaState.HEALTHY
        return (healthy, replica.cluster in stays, -price, replica.cluster)

    for replica in sorted(standing, key=dispensable)[:surplus]:
        steps.end(replica, "fewer replicas were ordered")
        kept.remove(replica)
        for newcomer in [*kept]:
            if newcomer.cluster == replica.hedged_by or newcomer.replaces == replica.cluster:
                steps.terminate(newcomer, "what it was to replace is gone")
                kept.remove(newcomer)


def _mix(
    steps: Steps,
    fleet: Fleet,
    policy: Policy,
    sifted: Sifted,
    quotes: Sequence[Quote],
    beliefs: Beliefs,
    kept: list[Replica],
) -> float | None:
    """Bring what is kept nearer to the best mix: what is missing, spares, moves, endings.

    Returns:
        What runs now costs so much of all ordered replicas on demand.
    """
    running = [replica for replica in fleet.replicas if replica.state.alive]
    used, ordered = _used(fleet, policy), fleet.service.replicas
    held = in_force(policy.commitments, steps.now)
    paid = covered(held, running, fleet.elsewhere)
    silent = _silent(steps.now, policy, kept)
    standing = Standing(
        now=steps.now,
        service=fleet.service.name,
        profile=fleet.profile,
        notice_s=fleet.notice_s,
        replicas=ordered,
        market=sifted,
        machines=_unhedged(kept),
        doomed=frozenset(replica.cluster for replica in silent),
        costs=present_costs(
            steps.now,
            at_quality(fleet.profile, policy),
            quotes,
            running,
            rates=beliefs.rates,
            demand=demand(fleet),
            paid=paid,
        ),
        covered=frozenset(paid),
        free={name: one.count - used.get(name, 0) for name, one in held.items()},
        failures=spot_failures(policy, fleet.refusals, steps.now),
        churn=churn(policy, fleet.losses, ordered, steps.now),
        moves_left=0 if steps.actions else moves_left(policy, fleet.moves, ordered, steps.now),
        lowered_at=fleet.service.lowered_at,
    )
    replaced = {replica.replaces for replica in kept}
    waiting = [replica for replica in silent if replica.cluster not in replaced]
    wishes = Wishes(standing, policy, beliefs)
    for wish in wishes.all():
        _grant(steps, wish, waiting)
    return wishes.cost_share(running)


def _grant(steps: Steps, wish: Wish, waiting: list[Replica]) -> None:
    """Add the step that is wished; a launch takes the place of what is silent before all else.

    Args:
        waiting: silent replicas whose place nothing takes yet; what is taken is removed.
    """
    if wish.candidate is None:
        if wish.replica is not None:
            steps.end(wish.replica, wish.reason)
    elif wish.for_money and wish.replica is not None:
        old = wish.replica.cluster
        steps.launch(wish.candidate, wish.reason, old, for_money=True, expected=wish.expected)
    elif waiting:
        old = waiting.pop(0).cluster
        reason = f"{old} stopped answering"
        steps.launch(wish.candidate, reason, old, expected=wish.expected)
    else:
        steps.launch(wish.candidate, wish.reason, expected=wish.expected)


def _silent(now: datetime, policy: Policy, kept: Sequence[Replica]) -> list[Replica]:
    """Replicas that were healthy and have not answered for too long."""
    patience = timedelta(seconds=policy.unhealthy_s)
    return [
        replica
        for replica in kept
        if replica.state is ReplicaState.UNHEALTHY and now - replica.changed_at >= patience
    ]


def _clean_up(steps: Steps, fleet: Fleet) -> None:
    """End what is dead already: a failed launch may have left half a cluster behind."""
    for replica in fleet.replicas:
        if not replica.state.exists and not steps.touches(replica):
            steps.terminate(replica, replica.note or str(replica.state))


def _standing(kept: Sequence[Replica]) -> list[Replica]:
    """The replicas that count towards the order: a stand-in counts once its original is gone."""
    names = {replica.cluster for replica in kept}
    return [replica for replica in _unhedged(kept) if replica.replaces not in names]


def _unhedged(kept: Sequence[Replica]) -> list[Replica]:
    """Without those beside a launch that may still come: of the two only one will stay."""
    beside = hedges(kept)
    return [replica for replica in kept if replica.cluster not in beside]


def _used(fleet: Fleet, policy: Policy) -> Mapping[str, int]:
    """Machine of a commitment -> how many of them may be in use."""
    return in_use(fleet.replicas) + Counter(fleet.elsewhere) if policy.commitments else {}


def demand(fleet: Fleet) -> Decimal | None:
    """Output tokens per second that a replica of the service is asked for; None: not known."""
    return demand_per_replica(fleet.profile, fleet.service.replicas, fleet.demand)
