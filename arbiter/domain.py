"""The words of the project as values. No clock, no I/O, no SQL, no cloud in here.

Times are aware UTC datetimes; prices are per hour for the whole instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from arbiter.calibration import ESTIMATE, Evidence
from arbiter.expected import Expected as Expected
from arbiter.money import Price
from arbiter.scaling import Scaling


class Purchase(StrEnum):
    """How a machine is bought."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of a provider's region, for the sovereignty rules.

    Whatever is not known is None (or an empty set), and an unknown is refused by every rule
    that asks for it.

    Attributes:
        country: ISO 3166 alpha-2 code of where the machines stand.
        operator: the legal entity that runs them.
        operator_country: where that entity is incorporated.
        parent_country: where its ultimate parent is incorporated.
        cloud_act: "no", "partial", "yes" or "yes_parent": reach of the US CLOUD Act.
        adequacy: the file's own reading of the transfer basis ("full", "DPF-certified", ...).
        certificates: scheme names as in regions.csv.
        location_confidence: "docs", "code", "memory" or "none"; operator_confidence likewise.
        source: where the facts come from.
    """

    provider: str
    region: str
    city: str | None = None
    country: str | None = None
    adequacy: str | None = None
    operator: str | None = None
    operator_country: str | None = None
    parent: str | None = None
    parent_country: str | None = None
    cloud_act: str | None = None
    certificates: frozenset[str] = frozenset()
    access: str | None = None
    location_confidence: str = "none"
    operator_confidence: str = "none"
    certificates_confidence: str = "none"
    source: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """Something one can rent.

    Attributes:
        provider: registry name, lower case ("aws").
        tier: the provider's product tier ("standard", "secure", "community").
        region: the provider's own region id.
        zone: the provider's stable zone id (AWS: "euc1-az2", never the shuffled name), or None
            when the price holds for the whole region.
        instance_type: the provider's own name of the machine.
        gpu: name in the vocabulary of arbiter.gpus, or the provider's own name when unknown.
        gpu_count: GPUs in the machine.
        place: the facts of the region.
    """

    provider: str
    tier: str
    region: str
    zone: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: Purchase
    place: Place

    @property
    def key(self) -> OfferKey:
        """What identifies the offer over time."""
        return OfferKey(
            self.provider, self.tier, self.region, self.zone, self.instance_type, self.purchase
        )

    @property
    def where(self) -> str:
        """Provider, region and zone for a sentence ("aws/eu-north-1/eun1-az1")."""
        return "/".join(filter(None, (self.provider, self.region, self.zone)))


@dataclass(frozen=True, slots=True)
class OfferKey:
    """The identity of an offer: the same machine, bought the same way, in the same place."""

    provider: str
    tier: str
    region: str
    zone: str | None
    instance_type: str
    purchase: Purchase

    def __str__(self) -> str:
        zone = self.zone or "-"
        return "/".join(
            (self.provider, self.tier, self.region, zone, self.instance_type, self.purchase)
        )

    @classmethod
    def parse(cls, text: str) -> OfferKey:
        """The key of its printed form.

        Raises:
            ValueError: the text is not a printed key.
        """
        parts = text.split("/")
        if len(parts) != 6:
            raise ValueError(f"not an offer key: {text!r}")
        provider, tier, region, zone, instance_type, purchase = parts
        return cls(
            provider,
            tier,
            region,
            None if zone == "-" else zone,
            instance_type,
            Purchase(purchase),
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer's price at an instant.

    Attributes:
        price: per hour for the whole instance, or None when not known.
        observed_at: when arbiter last saw this price stand.
        priced_at: when the provider says the price took effect; None where it does not say,
            which means that the price's own age is unknown.
        source: the feed it came from ("aws:spot-price-history").
    """

    offer: Offer
    price: Price | None
    observed_at: datetime
    priced_at: datetime | None = None
    source: str = ""


class ReplicaState(StrEnum):
    """The life of a replica."""

    LAUNCHING = "launching"
    STARTING = "starting"  # the machine is up, the server does not answer yet
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    PARKING = "parking"  # drained, and being stopped instead of ended
    PARKED = "parked"  # stopped: its disk keeps image and weights, and is paid for
    ENDING = "ending"  # ended by us; gone only once the executor says so
    LOST = "lost"  # gone without our order
    FAILED = "failed"  # its launch failed
    TERMINATED = "terminated"

    @property
    def alive(self) -> bool:
        """Whether a machine may be running, and so may cost money."""
        return self not in _NOT_ALIVE

    @property
    def exists(self) -> bool:
        """Whether there may be a machine, running or stopped."""
        return self.alive or self is ReplicaState.PARKED


_NOT_ALIVE = (
    ReplicaState.PARKED,
    ReplicaState.TERMINATED,
    ReplicaState.FAILED,
    ReplicaState.LOST,
)


@dataclass(frozen=True, slots=True)
class Replica:
    """One vLLM server on one cluster.

    Attributes:
        cluster: derived name, the same for every retry of the same launch.
        service: name of the service it belongs to.
        offer: what was asked for.
        price: per hour at launch.
        launched_at: when the launch was asked for.
        up_at: when its machine was first seen to be up, or None.
        healthy_at: when it first answered, or None.
        changed_at: when it entered its present state.
        endpoint: base URL of its OpenAI API ("http://127.0.0.1:8000"), or None until known.
        replaces: the cluster that it is to take over from, or None.
        observed_region, observed_zone: where it really runs, read back; None until known.
        observed_place: the facts of that region; None until known.
        paid: per hour, read back from the provider; None where it does not tell.
        leaving_at: when its provider takes it away, as it gave notice; None without one.
        note: the reason of its present state, for people.
        hedged_by: the cluster that was launched beside it because its launch was slow, or None.
        parked_at: when it was last stopped and kept; None: never. Of one that is not parked now,
            `launched_at` and what follows are of its start since.
    """

    cluster: str
    service: str
    offer: Offer
    price: Price | None
    state: ReplicaState
    launched_at: datetime
    changed_at: datetime
    healthy_at: datetime | None = None
    endpoint: str | None = None
    request_id: str | None = None
    replaces: str | None = None
    observed_region: str | None = None
    observed_zone: str | None = None
    observed_place: Place | None = None
    paid: Price | None = None
    leaving_at: datetime | None = None
    note: str = ""
    up_at: datetime | None = None
    hedged_by: str | None = None
    parked_at: datetime | None = None

    @property
    def starting(self) -> bool:
        """Whether it is being started after it was parked."""
        return self.state is ReplicaState.LAUNCHING and self.parked_at is not None

    @property
    def place(self) -> Place:
        """The facts of where it runs: read back where known, else as asked for."""
        return self.observed_place or self.offer.place


@dataclass(frozen=True, slots=True)
class Refusal:
    """Capacity that was refused or lost, remembered until an instant.

    Attributes:
        key: the offer that failed.
        until: the offer is not tried before this instant.
        failures: how many times in a row, which lengthens the wait.
        lost: True for a preemption, False for a refused launch.
    """

    key: OfferKey
    at: datetime
    until: datetime
    failures: int
    reason: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A profile kept running under a policy.

    Attributes:
        replicas: how many should answer now.
        generation: rises with every launch, so that every cluster's name is new.
        down: the user asked for it to be ended.
        scaling: what changes `replicas`; None: nothing but the user.
        lowered_at: when `replicas` last became fewer; None: never.
    """

    name: str
    profile: str
    replicas: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)
    sovereignty: str | None = None
    paused: bool = False
    down: bool = False
    generation: int = 0
    scaling: Scaling | None = None
    lowered_at: datetime | None = None


class ActionKind(StrEnum):
    """What one step does."""

    LAUNCH = "launch"
    START = "start"  # of a parked machine, in place of a launch
    DRAIN = "drain"
    PARK = "park"  # stop a machine instead of ending it
    TERMINATE = "terminate"


MAKES = (ActionKind.LAUNCH, ActionKind.START)
"""What brings a replica; the other kinds take one away."""


class ActionState(StrEnum):
    """How far an action has come."""

    INTENT = "intent"
    SUBMITTED = "submitted"
    DONE = "done"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan.

    Attributes:
        id: derived from the decision and the ordinal, so that a retry is the same action.
        cluster: the cluster it acts on.
        offer: what to launch or start; None for the other kinds.
        price: the quoted price per hour that the decision rests on.
        replaces: for a launch, the cluster that the new one will take over from.
        for_money: a launch that only saves; these are counted against the daily bound.
        hedges: for a launch, the cluster whose launch is slow; the first that is up stays.
        reason: why, in a few words.
        expected: the figures behind a launch; None for the other kinds, one by order, and a hedge.
    """

    id: str
    kind: ActionKind
    service: str
    cluster: str
    reason: str
    offer: Offer | None = None
    price: Price | None = None
    variant: str | None = None
    replaces: str | None = None
    for_money: bool = False
    expected: Expected | None = None
    hedges: str | None = None


class Candidate(NamedTuple):  # a plan makes thousands, and a tuple is made in a third of the time
    """An offer that passed every rule, with its score.

    Attributes:
        usd_per_mtok: dollars per million output tokens: of those that are asked for, where the
            demand is known and the machine can make more; otherwise at the profile's load.
        tokens_per_s: output tokens per second of the whole machine.
        variant: the quantization that was found cheapest there.
        marks: what else is to be known of the offer ("no_discount", "committed"); a mark refuses
            nothing.
        evidence: what stands behind the tokens per second.
        full_usd_per_mtok: of an offer of which a machine is paid for, its cost at the quoted price;
            usd_per_mtok is then what using that machine costs besides.
    """

    quote: Quote
    tokens_per_s: Decimal
    usd_per_mtok: Decimal
    variant: str
    marks: tuple[str, ...] = ()
    evidence: Evidence = ESTIMATE
    full_usd_per_mtok: Decimal | None = None


class RefusedOffer(NamedTuple):
    """An offer that a rule left out."""

    offer: Offer
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one tick wants done for one service.

    Attributes:
        candidates: the best few, cheapest first.
        eligible: how many passed every rule.
        refused_by_rule: rule -> number of offers it left out.
        cost_share: what runs costs so much of the ordered replicas on demand, by the cheapest
            on-demand offer's cost per token; None where nothing runs or is ordered.
        notes: what else is to be known, a sentence each: how commitments are used.
        sentence: what was decided, one past-tense sentence; the log line, the journal row and
            the dashboard line are this string.
    """

    service: str
    at: datetime
    actions: tuple[Action, ...]
    candidates: tuple[Candidate, ...]
    eligible: int
    refused_by_rule: Mapping[str, int]
    sentence: str
    cost_share: float | None = None
    notes: tuple[str, ...] = ()
