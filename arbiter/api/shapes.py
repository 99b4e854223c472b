"""The answers of the API, once: msgspec encodes them, FastAPI documents them.

Times are UTC ISO 8601. Money is a decimal string, its currency in the key. A null means that it is
not known. `simulated` is true where the market, the servers and the money are not real.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from arbiter.domain import Expected


@dataclass(frozen=True, slots=True)
class OfferShape:
    """An offer that passed every rule; a mark ("no_discount") refuses nothing.

    `rate_basis` says what `tokens_per_s` rests on: "estimated"; "corrected" by `rate_factor`, as
    other machines of the model have shown; or "measured" on `rate_busy_s` seconds of full load, the
    last at `rate_seen_at`.
    """

    provider: str
    region: str
    zone: str | None
    country: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    price_usd_hour: Decimal | None
    usd_per_mtok: Decimal | None
    tokens_per_s: Decimal | None
    observed_at: datetime
    operator: str | None
    operator_country: str | None
    marks: list[str] = field(default_factory=list)
    rate_basis: str | None = None
    rate_factor: float | None = None
    rate_busy_s: float | None = None
    rate_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefusedShape:
    """An offer that a rule left out."""

    provider: str
    region: str
    zone: str | None
    country: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class DegradedShape:
    """A provider of which something is missing."""

    provider: str
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyShape:
    """The rules that were asked. A cap that is null does not exist."""

    name: str
    sovereignty: str
    spot: bool
    on_demand: bool
    max_quote_age_s: int
    max_usd_per_hour: Decimal | None
    max_usd_per_mtok: Decimal | None


@dataclass(frozen=True, slots=True)
class OffersShape:
    """Eligible offers, cheapest first: by million output tokens, or by GPU-hour without a model."""

    as_of: datetime
    simulated: bool
    policy: PolicyShape
    eligible: int
    offers: list[OfferShape]
    refused_by_rule: dict[str, int]
    refused: list[RefusedShape]
    degraded: list[DegradedShape]


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """One server of a service. Its endpoint changes when it moves.

    While it is launched, `phase` is "machine" or "server", and `phase_s` the seconds since that
    began; `phase_usual_s` is what it usually takes there, null where nothing is measured.
    """

    cluster: str
    state: str
    provider: str
    region: str
    zone: str | None
    country: str | None
    operator: str | None
    instance_type: str
    gpu: str
    gpu_count: int
    purchase: str
    price_usd_hour: Decimal | None
    endpoint: str | None
    replaces: str | None
    launched_at: datetime
    healthy_at: datetime | None
    changed_at: datetime
    note: str
    paid_usd_hour: Decimal | None = None
    leaving_at: datetime | None = None
    parked_at: datetime | None = None
    up_at: datetime | None = None
    phase: str | None = None
    phase_s: float | None = None
    phase_usual_s: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingShape:
    """What changes a service's number of replicas.

    Between `min` and `max` by load (never, where `max` is null), and at least as many as the
    schedule says. `requests_per_replica` is null where it follows from the model's profile.
    """

    min: int
    max: int | None
    schedule: list[str]
    requests_per_replica: int | None
    idle_s: float
    hold_s: float


@dataclass(frozen=True, slots=True)
class ServiceShape:
    """A model kept running.

    `usd_hour` is what its replicas cost now, also those on their way in or out;
    `on_demand_usd_hour` is what those that were ordered would cost at the best eligible on-demand
    offer of this moment. `endpoint` is the gateway's, and stays; null where there is no gateway.
    `scaling` is null where only the user changes the target; `requests` are in flight, null where
    the load is not looked at.

    As the servers count: output `tokens_per_s` and requests now; `served_tokens` since
    `served_since`, the last hour, and `usd_per_mtok`, what a million of them have really cost, the
    machines that served nothing included. Null where nothing was counted or served.
    """

    name: str
    profile: str
    target: int
    healthy: int
    sovereignty: str
    paused: bool
    down: bool
    tags: dict[str, str]
    usd_hour: Decimal | None
    on_demand_usd_hour: Decimal | None
    last_decision: str | None
    endpoint: str | None
    scaling: ScalingShape | None
    requests: int | None
    tokens_per_s: float | None
    requests_running: int | None
    requests_waiting: int | None
    served_tokens: int | None
    served_since: datetime | None
    usd_per_mtok: Decimal | None
    replicas: list[ReplicaShape]


@dataclass(frozen=True, slots=True)
class ServicesShape:
    """All services."""

    as_of: datetime
    simulated: bool
    services: list[ServiceShape]


@dataclass(frozen=True, slots=True)
class ActionShape:
    """One step of a decision, with its outcome so far."""

    id: str
    kind: str
    cluster: str
    reason: str
    state: str | None = None
    error: str = ""
    offer: str | None = None
    price_usd_hour: Decimal | None = None
    replaces: str | None = None
    for_money: bool = False
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class PlanShape:
    """What one tick wants done for a service, or did."""

    service: str
    at: datetime
    simulated: bool
    sentence: str
    eligible: int
    refused_by_rule: dict[str, int]
    actions: list[ActionShape]
    candidates: list[OfferShape]
    cost_share: float | None = None
    notes: list[str] = field(default_factory=list)
    id: str | None = None
    policy: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionShape:
    """A journaled decision, in short."""

    id: str
    service: str
    at: datetime
    sentence: str
    policy: str
    actions: list[ActionShape]


@dataclass(frozen=True, slots=True)
class DecisionsShape:
    """Decisions, newest first."""

    simulated: bool
    decisions: list[DecisionShape]


@dataclass(frozen=True, slots=True)
class EventShape:
    """Something that happened.

    `within_s` is of a loss or a notice: its cause was at most so many seconds before.
    """

    id: int
    at: datetime
    kind: str
    service: str | None
    cluster: str | None
    decision_id: str | None
    sentence: str
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class EventsShape:
    """Events, oldest first. Ask again with `after` = `last_id`."""

    simulated: bool
    last_id: int
    events: list[EventShape]


@dataclass(frozen=True, slots=True)
class ProviderShape:
    """A price source, its newest poll, and how many offers stand of it."""

    provider: str
    state: str
    finished_at: datetime
    offers: int
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class HealthShape:
    """Whether the daemon works: "ok", "degraded" (with the reasons) or "dead"."""

    status: str
    simulated: bool
    version: str
    last_tick_at: datetime | None
    last_tick_age_s: float | None
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HistoryShape:
    """Prices over time, as columns: at `t[i]` (seconds since 1970) all of `series[*].usd_hour[i]`.

    A null is an instant at which the offer was not sold.
    """

    simulated: bool
    t: list[int]
    series: list[HistorySeries]


@dataclass(frozen=True, slots=True)
class HistorySeries:
    """One offer's prices."""

    label: str
    usd_hour: list[float | None]


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """What is wrong, and what to do, in one line."""

    error: str
