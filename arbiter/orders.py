"""A move that a user orders: the plan of one launch that takes over from one replica. Pure.

The rule is asked as for any launch, and what follows (health, drain, end) is the planner's, as for
any other replacement: make before break.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from arbiter.commitments import in_use
from arbiter.domain import (
    Action,
    ActionKind,
    Candidate,
    Offer,
    Plan,
    Quote,
    Replica,
    ReplicaState,
)
from arbiter.errors import ArbiterError
from arbiter.market import Sifted, sift
from arbiter.planner import (
    NOTHING_LEARNT,
    TOP_CANDIDATES,
    Fleet,
    demand,
)
from arbiter.policy import Policy
from arbiter.sentences import sentence
from arbiter.spot.beliefs import Beliefs
from arbiter.steps import cluster_name


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to; None is anywhere.

    Attributes:
        provider, region: as offers name them; a region only with its provider.
    """

    provider: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.provider, self.region) if part) or "elsewhere"

    @classmethod
    def parse(cls, text: str) -> Destination:
        """The destination that a user typed ("aws" or "aws/eu-north-1").

        Raises:
            ArbiterError: it is neither.
        """
        provider, slash, region = text.strip().partition("/")
        if not provider or "/" in region or (slash and not region):
            raise ArbiterError(
                f"{text!r} is no destination", "name a provider and a region: aws/eu-north-1"
            )
        return cls(provider, region or None)


def ordered_move(
    now: datetime,
    quotes: Sequence[Quote],
    fleet: Fleet,
    policy: Policy,
    to: Destination,
    beliefs: Beliefs = NOTHING_LEARNT,
) -> Plan:
    """The plan that moves the dearest replica that answers to the cheapest offer there.

    Raises:
        ArbiterError: nothing answers, or nothing there may be launched: by which rule, and why.
    """
    old = _to_move(fleet, to)
    sifted = sift(
        now,
        quotes,
        fleet.profile,
        policy,
        not_launchable=fleet.not_launchable,
        refusals=fleet.refusals,
        rates=beliefs.rates,
        demand=demand(fleet),
        committed=in_use(fleet.replicas) + Counter(fleet.elsewhere),
    )
    chosen = _chosen(fleet, sifted, old, to)
    name = fleet.service.name
    identity = f"{fleet.owner}|{name}|{now.isoformat()}|{to}"
    action = Action(
        id=sha256(identity.encode()).hexdigest()[:16],
        kind=ActionKind.LAUNCH,
        service=name,
        cluster=cluster_name(fleet.owner, name, fleet.service.generation + 1),
        reason=f"by order, in place of {old.cluster}",
        offer=chosen.quote.offer,
        price=chosen.quote.price,
        variant=chosen.variant,
        replaces=old.cluster,
    )
    return Plan(
        service=name,
        at=now,
        actions=(action,),
        candidates=sifted.candidates[:TOP_CANDIDATES],
        eligible=len(sifted.candidates),
        refused_by_rule=sifted.refused_by_rule(),
        sentence=sentence(fleet.service, fleet.replicas, (action,), sifted),
    )


def _to_move(fleet: Fleet, to: Destination) -> Replica:
    """The replica that moves: the dearest of those that answer and are not there yet."""
    name = fleet.service.name
    if fleet.service.down:
        raise ArbiterError(f"{name} was ordered down", f"arbiter launch {fleet.service.profile}")
    if fleet.service.paused:
        raise ArbiterError(f"{name} is paused, and nothing is moved", f"arbiter resume {name}")
    standing = {one.cluster for one in fleet.replicas if one.state.alive}
    for one in fleet.replicas:
        if one.state.alive and one.replaces in standing:
            raise ArbiterError(
                f"{name} is moving already: {one.cluster} takes over from {one.replaces}",
                f"wait for it: arbiter status {name}",
            )
    answering = [
        one
        for one in fleet.replicas
        if one.state is ReplicaState.HEALTHY and one.cluster not in fleet.ending
    ]
    if not answering:
        raise ArbiterError(f"no replica of {name} answers, so none is moved", "arbiter status")
    away = [one for one in answering if not _is_there(one.offer, to)]
    if not away:
        raise ArbiterError(f"{name} runs in {to} already", f"arbiter status {name}")
    return max(away, key=lambda one: (one.price.micros if one.price else 0, one.cluster))


def _chosen(fleet: Fleet, sifted: Sifted, old: Replica, to: Destination) -> Candidate:
    """The cheapest offer at the destination that every rule allows."""
    name = fleet.service.name
    for candidate in sifted.candidates:
        offer = candidate.quote.offer
        there = to.provider is None or _is_there(offer, to)
        if there and offer.where != old.offer.where:
            return candidate
    refused = [one for one in sifted.refused if to.provider and _is_there(one.offer, to)]
    if refused:
        first = refused[0]
        more = f"; so are {len(refused) - 1} more offers there" if len(refused) > 1 else ""
        raise ArbiterError(
            f"{name} cannot move to {to}: {first.offer.instance_type} is refused by {first.rule}, "
            f"{first.reason}{more}",
            f"see: arbiter offers {fleet.service.profile} --refused",
        )
    raise ArbiterError(
        f"{name} cannot move {'to ' if to.provider else ''}{to}: no other offer is known there",
        f"see: arbiter offers {fleet.service.profile}",
    )


def _is_there(offer: Offer, to: Destination) -> bool:
    """Whether an offer is at a destination; at none in particular nothing is yet."""
    if to.provider is None:
        return False
    return offer.provider == to.provider and to.region in (None, offer.region)
