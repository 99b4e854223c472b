"""Small fleets and markets for the tests of the planner and the loop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from arbiter.domain import Offer, Place, Purchase, Quote, Replica, ReplicaState, Service
from arbiter.money import Price
from arbiter.planner import Fleet
from arbiter.profiles import Profile, load_profile

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
COUNTRIES = {
    "eu-north-1": "SE",
    "eu-west-1": "IE",
    "eu-central-1": "DE",
    "eu-west-2": "GB",
    "us-east-1": "US",
}


def place(region: str, country: str | None = None) -> Place:
    """A region of AWS as the region table has it."""
    return Place(
        "aws",
        region,
        country=country or COUNTRIES.get(region),
        operator="Amazon Web Services EMEA SARL",
        operator_country="LU",
        parent="Amazon.com Inc",
        parent_country="US",
        cloud_act="yes",
        location_confidence="code",
        operator_confidence="memory",
    )


def offer(
    region: str = "eu-north-1",
    zone: str | None = "az1",
    purchase: Purchase = Purchase.SPOT,
    *,
    instance_type: str = "g6.xlarge",
    gpu: str = "L4",
    gpu_count: int = 1,
    country: str | None = None,
) -> Offer:
    """An offer of AWS."""
    return Offer(
        "aws",
        "standard",
        region,
        zone,
        instance_type,
        gpu,
        gpu_count,
        purchase,
        place(region, country),
    )


def quote(
    price: str | None, of: Offer | None = None, age_s: float = 60, at: datetime = NOW
) -> Quote:
    """A quote in USD an hour."""
    seen = at - timedelta(seconds=age_s)
    return Quote(of or offer(), None if price is None else Price.of(price), seen, seen, "test")


def on_demand(price: str, region: str = "eu-north-1") -> Quote:
    """An on-demand quote of a region."""
    return quote(price, offer(region, None, Purchase.ON_DEMAND))


def service(replicas: int = 1, **changes: object) -> Service:
    """A service of the small model."""
    return Service("chat", "llama8b", replicas, **changes)  # type: ignore[arg-type]


def profile() -> Profile:
    """A model that fits one L4."""
    return load_profile("tiny")


def fleet(*replicas: Replica, order: Service | None = None, **changes: object) -> Fleet:
    """A fleet of these replicas."""
    return Fleet(order or service(), profile(), "0a1b2c3d", replicas, **changes)  # type: ignore[arg-type]


def replica(
    number: int = 1,
    state: ReplicaState = ReplicaState.HEALTHY,
    of: Offer | None = None,
    price: str = "0.5",
    *,
    age_s: float = 7200,
    replaces: str | None = None,
    at: datetime = NOW,
) -> Replica:
    """A replica that has been in its state for `age_s` seconds."""
    since = at - timedelta(seconds=age_s)
    answered = state in (ReplicaState.HEALTHY, ReplicaState.UNHEALTHY, ReplicaState.DRAINING)
    return Replica(
        cluster=f"arb-0a1b2c3d-chat-{number}",
        service="chat",
        offer=of or offer(),
        price=Price.of(price),
        state=state,
        launched_at=since,
        changed_at=since,
        healthy_at=since if answered else None,
        endpoint=f"http://127.0.0.1:{9000 + number}",
        replaces=replaces,
    )
