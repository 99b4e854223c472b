"""From a snapshot to the answers of the API. No SQL and no HTTP in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from arbiter import explain, offer_shapes
from arbiter.api.shapes import (
    ActionShape,
    DecisionShape,
    DegradedShape,
    EventShape,
    OfferShape,
    OffersShape,
    PlanShape,
    PolicyShape,
    ProviderShape,
    RefusedShape,
    ReplicaShape,
    ScalingShape,
    ServiceShape,
)
from arbiter.api.sources import Parts, Snapshot
from arbiter.cold_starts import Progress, progress
from arbiter.domain import (
    Action,
    Candidate,
    Offer,
    Plan,
    Purchase,
    RefusedOffer,
    Replica,
    ReplicaState,
    Service,
)
from arbiter.errors import UnknownName
from arbiter.market import Sifted, demand_per_replica, list_offers, sift
from arbiter.policy import Policy
from arbiter.served import served_dict
from arbiter.sovereignty import parse_level
from arbiter.store.journal import ActionRow, DecisionRow, EventRow
from arbiter.store.prices import PollRow


def sifted(parts: Parts, snapshot: Snapshot, service: Service) -> Sifted:
    """The snapshot's quotes under a service's profile and policy."""
    policy, profile = parts.policy(service), parts.profile(service.profile)
    demand = demand_per_replica(profile, service.replicas, parts.demand(service.name))
    key = (service.profile, policy, demand)
    found = snapshot.sifted.get(key)
    if found is None:
        found = snapshot.sifted[key] = sift(
            snapshot.at,
            snapshot.quotes,
            profile,
            policy,
            not_launchable=parts.not_launchable,
            refusals=snapshot.refusals,
            rates=snapshot.rates,
            demand=demand,
        )
    return found


def asked_service(
    parts: Parts, snapshot: Snapshot, model: str, sovereignty: str | None = None
) -> Service:
    """The service of that name, or else one that would serve the profile of that name.

    Raises:
        ProfileError: neither a service nor a profile is called so.
        ArbiterError: there is no such level of sovereignty.
    """
    found = next((one for one in snapshot.services if one.name == model), None)
    if found is None:
        found = Service(model, parts.profile(model).name)
    if sovereignty is not None:
        found = replace(found, sovereignty=parse_level(sovereignty).value)
    return found


def offers(
    parts: Parts,
    snapshot: Snapshot,
    service: Service | None,
    *,
    gpu: str | None = None,
    purchase: Purchase | None = None,
    sovereignty: str | None = None,
    limit: int = 0,
    with_refused: bool = True,
) -> OffersShape:
    """What `arbiter offers --json` prints, with the counts beside it.

    Args:
        service: whose profile is sized; None lists every offer, by dollars per GPU-hour.
        gpu, purchase: only these, among the refused too.
        sovereignty: the level, where there is no service.
        limit: of the eligible offers; 0 is all.
    """

    def wanted(offer: Offer) -> bool:
        return (gpu is None or offer.gpu.casefold() == gpu.casefold()) and (
            purchase is None or offer.purchase is purchase
        )

    policy = parts.policy(service or Service("", "", sovereignty=sovereignty))
    rows: list[OfferShape]
    if service is None:
        listed = list_offers(
            snapshot.at,
            snapshot.quotes,
            policy,
            not_launchable=parts.not_launchable,
            refusals=snapshot.refusals,
        )
        rows = [
            OfferShape(
                **offer_shapes.offer_dict(quote, marks=listed.marks.get(quote.offer.key, ()))
            )
            for quote in listed.quotes
            if wanted(quote.offer)
        ]
        refused = [one for one in listed.refused if wanted(one.offer)]
    else:
        found = sifted(parts, snapshot, service)
        rows = [offer_shape(one) for one in found.candidates if wanted(one.quote.offer)]
        refused = [one for one in found.refused if wanted(one.offer)]
    return OffersShape(
        as_of=snapshot.at,
        simulated=parts.simulated,
        policy=policy_shape(policy),
        eligible=len(rows),
        offers=rows[: limit or None],
        refused_by_rule=dict(Counter(one.rule for one in refused).most_common()),
        refused=[refused_shape(one) for one in refused] if with_refused else [],
        degraded=degraded(snapshot.polls),
    )


def policy_shape(policy: Policy) -> PolicyShape:
    """The rules that were asked."""
    return PolicyShape(
        name=policy.name,
        sovereignty=policy.sovereignty.level.value,
        spot=policy.spot,
        on_demand=policy.on_demand,
        max_quote_age_s=policy.max_quote_age_s,
        max_usd_per_hour=policy.max_usd_per_hour,
        max_usd_per_mtok=policy.max_usd_per_mtok,
    )


def degraded(polls: Sequence[PollRow]) -> list[DegradedShape]:
    """The providers of which something is missing, a row for each reason."""
    return [
        DegradedShape(poll.provider, reason)
        for poll in polls
        if poll.state != "ok"
        for reason in poll.reasons or (poll.state,)
    ]


def offer_shape(candidate: Candidate) -> OfferShape:
    """An eligible offer."""
    return OfferShape(**offer_shapes.candidate_dict(candidate))


def refused_shape(refused: RefusedOffer) -> RefusedShape:
    """An offer that a rule left out."""
    return RefusedShape(**offer_shapes.refused_dict(refused))


def services(parts: Parts, snapshot: Snapshot) -> list[ServiceShape]:
    """All services with their replicas."""
    return [service_shape(parts, snapshot, one) for one in snapshot.services]


def service_named(parts: Parts, snapshot: Snapshot, name: str) -> ServiceShape:
    """One service.

    Raises:
        UnknownName: there is none of that name.
    """
    for service in snapshot.services:
        if service.name == name:
            return service_shape(parts, snapshot, service)
    known = ", ".join(service.name for service in snapshot.services) or "none yet"
    raise UnknownName(f"no service is called {name!r}", f"known are: {known}")


def service_shape(parts: Parts, snapshot: Snapshot, service: Service) -> ServiceShape:
    """A service, what it costs, and what it would cost on demand."""
    own = [one for one in snapshot.replicas if one.service == service.name]
    standing = [one for one in own if one.state.alive]
    ordered = min(len(standing), service.replicas)
    load, scaling = snapshot.loads.get(service.name), service.scaling
    decision = next((row for row in snapshot.decisions if row.service == service.name), None)
    return ServiceShape(
        name=service.name,
        profile=service.profile,
        target=0 if service.down else service.replicas,
        healthy=sum(1 for one in own if one.state is ReplicaState.HEALTHY),
        sovereignty=parts.policy(service).sovereignty.level.value,
        paused=service.paused,
        down=service.down,
        tags=dict(service.tags),
        usd_hour=_total(standing),
        on_demand_usd_hour=_on_demand(parts, snapshot, service, ordered),
        last_decision=decision.sentence if decision else None,
        endpoint=None if service.down else parts.routing.endpoint(service.name),
        scaling=None if scaling is None else ScalingShape(**explain.scaling_dict(scaling)),
        requests=load.requests if load else None,
        **served_dict(snapshot.served.get(service.name)),
        replicas=[replica_shape(one, _progress(one, service, snapshot)) for one in own],
    )


def _progress(replica: Replica, service: Service, snapshot: Snapshot) -> Progress | None:
    known, starts = snapshot.cold_starts, snapshot.starts
    return progress(replica, service.profile, known, starts, snapshot.at)


def replica_shape(replica: Replica, launch: Progress | None) -> ReplicaShape:
    """A replica, with the place where it really runs as far as that is known."""
    return ReplicaShape(**explain.replica_dict(replica, launch))


def decision_shape(row: DecisionRow) -> DecisionShape:
    """A decision with its actions."""
    actions = [action_shape(one.action, one) for one in row.actions]
    return DecisionShape(row.id, row.service, row.at, row.sentence, row.policy, actions)


def decided(parts: Parts, row: DecisionRow) -> PlanShape:
    """A decision, complete."""
    shape = plan_shape(parts, row.plan)
    actions = [action_shape(one.action, one) for one in row.actions]
    return replace(shape, id=row.id, policy=row.policy, version=row.version, actions=actions)


def plan_shape(parts: Parts, plan: Plan) -> PlanShape:
    """A plan, complete."""
    return PlanShape(
        service=plan.service,
        at=plan.at,
        simulated=parts.simulated,
        sentence=plan.sentence,
        eligible=plan.eligible,
        refused_by_rule=dict(plan.refused_by_rule),
        actions=[action_shape(action) for action in plan.actions],
        candidates=[offer_shape(candidate) for candidate in plan.candidates],
    )


def action_shape(action: Action, row: ActionRow | None = None) -> ActionShape:
    """One step, with its outcome where it was journaled."""
    if row is None:
        return ActionShape(**explain.action_dict(action))
    return ActionShape(**explain.action_dict(action, row.state.value, row.error))


def event_shape(row: EventRow) -> EventShape:
    """An event."""
    return EventShape(
        row.id, row.at, row.kind, row.service, row.cluster, row.decision_id, row.sentence
    )


def provider_shapes(snapshot: Snapshot) -> list[ProviderShape]:
    """Every provider's newest poll, and how many of its offers stand."""
    standing = Counter(quote.offer.provider for quote in snapshot.quotes)
    return [
        ProviderShape(
            poll.provider,
            poll.state,
            poll.finished_at,
            standing[poll.provider],
            list(poll.reasons),
        )
        for poll in snapshot.polls
    ]


def _total(replicas: Sequence[Replica]) -> Decimal | None:
    """What the replicas cost an hour; None if one's price is not known."""
    amounts = [offer_shapes.usd(replica.price) for replica in replicas]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _on_demand(parts: Parts, snapshot: Snapshot, service: Service, count: int) -> Decimal | None:
    """What as many replicas would cost an hour at the best on-demand offer; None without one."""
    for candidate in sifted(parts, snapshot, service).candidates:
        amount = offer_shapes.usd(candidate.quote.price)
        if candidate.quote.offer.purchase is Purchase.ON_DEMAND and amount is not None:
            return amount * count
    return None
