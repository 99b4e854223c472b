"""The gateway's figures as plain numbers, for whatever shows or exports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from arbiter.errors import GatewayError
from arbiter.gateway.base import Gateway

UP = "arbiter_gateway_up"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: of Prometheus's kind; a counter's ends in "_total" only where it is exported.
        counter: whether it only rises; else it is a gauge.
    """

    name: str
    help: str
    value: float
    counter: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


def collect(gateway: Gateway) -> list[Figure]:
    """Everything that is known of the gateway now. Never raises: what is not known is left out."""
    health = gateway.health()
    found = [
        Figure(UP, "Whether the gateway answers.", float(health.running)),
        Figure(
            "arbiter_gateway_retiring",
            "Replaced gateway processes that still answer something.",
            float(health.retiring),
        ),
    ]
    if not health.running:
        return found
    found.append(
        Figure(
            "arbiter_gateway_config_rejected",
            "Configurations that the gateway refused since its start.",
            float(health.rejected),
            counter=True,
        )
    )
    try:
        counts = gateway.counts()
    except GatewayError:
        return found
    for service, passed in sorted(counts.items()):
        labels = {"service": service}
        found += [
            Figure("arbiter_gateway_requests", "Requests answered.", passed.requests, True, labels),
            Figure(
                "arbiter_gateway_errors", "Requests answered with 5xx.", passed.errors, True, labels
            ),
            Figure(
                "arbiter_gateway_retried",
                "Attempts that were repeated.",
                passed.retried,
                True,
                labels,
            ),
            Figure(
                "arbiter_gateway_cut",
                "Answers that had begun when their replica was lost.",
                passed.cut,
                True,
                labels,
            ),
            Figure(
                "arbiter_gateway_active",
                "Requests being answered now, or waiting for a replica.",
                passed.active,
                labels=labels,
            ),
            Figure(
                "arbiter_gateway_held",
                "Requests waiting for a replica that can answer.",
                passed.held,
                labels=labels,
            ),
        ]
    return found
