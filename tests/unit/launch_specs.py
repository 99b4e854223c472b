"""Launches to try executors with."""

from __future__ import annotations

from collections.abc import Mapping

from arbiter.domain import Offer, Place, Purchase
from arbiter.executors.base import LaunchSpec

CLUSTER = "svc-1a2b-1"


def a_spec(
    cluster: str = CLUSTER, owner: str = "me", secrets: Mapping[str, str] | None = None
) -> LaunchSpec:
    """A spot L40S in Stockholm."""
    place = Place("aws", "eu-north-1", country="SE")
    offer = Offer(
        "aws", "standard", "eu-north-1", "eun1-az1", "g6e.xlarge", "L40S", 1, Purchase.SPOT, place
    )
    return LaunchSpec(
        cluster=cluster,
        owner=owner,
        service="svc",
        offer=offer,
        price=None,
        task="name: task",
        port=8000,
        model="tiny",
        secrets=secrets or {},
        tags={"team": "a"},
    )
