"""What the servers of every service do and cost, for /metrics."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from arbiter.api.sources import Snapshot
from arbiter.explain import usd_per_hour

_ALLOCATION = "allocation"
"""The word of llm-d and OpenCost for a cost that holds all that is paid, idle machines included."""

_LABELS = ["model_name", "namespace", "cost_basis"]


def served_figures(snapshot: Snapshot) -> list[Metric]:
    """Gauges by service; under the names that llm-d and OpenCost use where they mean the same."""
    rate = GaugeMetricFamily(
        "arbiter_tokens_per_second", "Output tokens made now.", labels=["service"]
    )
    running = GaugeMetricFamily(
        "arbiter_requests_running", "Requests that servers answer.", labels=["service"]
    )
    waiting = GaugeMetricFamily(
        "arbiter_requests_waiting", "Requests in servers' queues.", labels=["service"]
    )
    cost = GaugeMetricFamily(
        "arbiter_dollars_per_million_tokens",
        "What a million output tokens of the last hour have cost.",
        labels=["service"],
    )
    blended = GaugeMetricFamily(
        "llm_cost_per_million_tokens",
        "What a million tokens of the last hour, input and output, have cost in USD.",
        labels=_LABELS,
    )
    hourly = GaugeMetricFamily(
        "llm_total_hourly_cost", "What the machines of a model cost an hour in USD.", labels=_LABELS
    )
    for service in snapshot.services:
        named = [service.profile, service.name, _ALLOCATION]
        own = [one for one in snapshot.replicas if one.service == service.name]
        paid = usd_per_hour(own)
        if paid is not None:
            hourly.add_metric(named, float(paid))
        found = snapshot.served.get(service.name)
        if found is None:
            continue
        for family, labels, value in (
            (rate, [service.name], found.tokens_per_s),
            (running, [service.name], found.running),
            (waiting, [service.name], found.waiting),
            (cost, [service.name], found.usd_per_mtok),
            (blended, named, found.usd_per_mtok_of_both),
        ):
            if value is not None:
                family.add_metric(labels, float(value))
    return [rate, running, waiting, cost, blended, hourly]
