"""/metrics. No label grows with the market: providers, services and states only."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition

from arbiter import __version__, offer_shapes
from arbiter.api import answers
from arbiter.api.served_figures import served_figures
from arbiter.api.sources import Sources
from arbiter.domain import Purchase, ReplicaState
from arbiter.errors import ArbiterError
from arbiter.gateway.figures import collect
from arbiter.store.counts import count_decisions, detection_times
from arbiter.store.journal import failing_ends, orphans
from arbiter.store.prices import PollRow
from arbiter.store.quarantine import held_back
from arbiter.store.turns import turns

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """A registry of our own: what stands is read when it is asked for, what passes is counted."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(_Standing(sources))
        self._polls = Histogram(
            "arbiter_poll_seconds",
            "How long a poll took.",
            ["provider"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._ticks = Histogram(
            "arbiter_tick_seconds",
            "How long it took to observe, decide and act once.",
            buckets=BUCKETS,
            registry=self._registry,
        )

    def polled(self, row: PollRow) -> None:
        """Count a poll."""
        seconds = (row.finished_at - row.started_at).total_seconds()
        self._polls.labels(row.provider).observe(max(0.0, seconds))

    def ticked(self, seconds: float) -> None:
        """Count a tick."""
        self._ticks.observe(seconds)

    def page(self) -> bytes:
        """Everything, in the OpenMetrics text format."""
        text: bytes = exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return text


class _Standing:
    """Gauges of what is in the store."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> list[Metric]:
        """Nothing before the first question: describing would read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("arbiter_build", "This arbiter.", labels=["version", "simulated"])
        simulated = str(self._sources.parts.simulated).lower()
        info.add_metric([__version__, simulated], 1)
        yield info
        up = GaugeMetricFamily("arbiter_store_up", "Whether the database answers.")
        try:
            families = [*self._polls(), *self._fleet()]
        except ArbiterError:
            families = []
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
        yield up
        yield from families
        yield from self._gateway()

    def _gateway(self) -> list[Metric]:
        """What passed through the gateway."""
        gateway = self._sources.parts.routing.gateway
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for figure in [] if gateway is None else collect(gateway):
            if figure.name not in families:
                kind = CounterMetricFamily if figure.counter else GaugeMetricFamily
                families[figure.name] = kind(figure.name, figure.help, labels=list(figure.labels))
            families[figure.name].add_metric(list(figure.labels.values()), figure.value)
        return list(families.values())

    def _polls(self) -> list[Metric]:
        polled = GaugeMetricFamily(
            "arbiter_poll_last_success_timestamp_seconds",
            "When a poll last brought prices.",
            labels=["provider"],
        )
        degraded = GaugeMetricFamily(
            "arbiter_degraded", "1 while something of a provider is missing.", labels=["provider"]
        )
        offers = GaugeMetricFamily(
            "arbiter_offers", "Offers in the newest poll.", labels=["provider"]
        )
        for poll in self._sources.snapshot().polls:
            if poll.state != "failed":
                polled.add_metric([poll.provider], poll.finished_at.timestamp())
                offers.add_metric([poll.provider], poll.offers)
            degraded.add_metric([poll.provider], 0 if poll.state == "ok" else 1)
        return [polled, degraded, offers, *self._polling()]

    def _polling(self) -> list[Metric]:
        held = GaugeMetricFamily(
            "arbiter_prices_held_back",
            "Prices that are kept and not believed.",
            labels=["provider"],
        )
        failures = GaugeMetricFamily(
            "arbiter_poll_failures", "Polls that failed in a row.", labels=["provider"]
        )
        open_ = GaugeMetricFamily(
            "arbiter_poll_circuit_open",
            "1 while a provider is left alone after many failures.",
            labels=["provider"],
        )
        due = GaugeMetricFamily(
            "arbiter_poll_next_timestamp_seconds",
            "When a provider is polled next.",
            labels=["provider"],
        )
        with self._sources.parts.store.read() as connection:
            counts, standing = held_back(connection), turns(connection)
        for poll in self._sources.snapshot().polls:
            held.add_metric([poll.provider], counts[poll.provider])
        for name, turn in sorted(standing.items()):
            failures.add_metric([name], turn.failures)
            open_.add_metric([name], int(turn.circuit != "closed"))
            if turn.next_at is not None:
                due.add_metric([name], turn.next_at.timestamp())
        return [held, failures, open_, due]

    def _fleet(self) -> list[Metric]:
        parts, snapshot = self._sources.parts, self._sources.snapshot()
        replicas = GaugeMetricFamily(
            "arbiter_replicas", "Replicas by state.", labels=["service", "state"]
        )
        target = GaugeMetricFamily(
            "arbiter_replicas_target", "Replicas ordered.", labels=["service"]
        )
        spend = GaugeMetricFamily(
            "arbiter_spend_dollars_per_hour", "What the replicas cost now.", labels=["service"]
        )
        saved = GaugeMetricFamily(
            "arbiter_on_demand_dollars_per_hour",
            "What the replicas would cost at the best eligible on-demand offer.",
            labels=["service"],
        )
        price = GaugeMetricFamily(
            "arbiter_offer_price_dollars_per_hour",
            "The best eligible offer: cheapest per token.",
            labels=["service", "purchase"],
        )
        for service in snapshot.services:
            shape = answers.service_shape(parts, snapshot, service)
            target.add_metric([service.name], shape.target)
            for state in ReplicaState:
                count = sum(1 for one in shape.replicas if one.state == state.value)
                replicas.add_metric([service.name, state.value], count)
            if shape.usd_hour is not None:
                spend.add_metric([service.name], float(shape.usd_hour))
            if shape.on_demand_usd_hour is not None:
                saved.add_metric([service.name], float(shape.on_demand_usd_hour))
            for purchase, amount in _best(self._sources, service.name).items():
                price.add_metric([service.name, purchase.value], amount)
        return [
            *(replicas, target, spend, saved, price),
            *served_figures(snapshot),
            *self._leaks(),
            self._losses(),
            self._decisions(),
        ]

    def _leaks(self) -> list[Metric]:
        """Machines that do not end, and those that nobody owns: both cost money for nothing."""
        failing = GaugeMetricFamily(
            "arbiter_terminations_failing",
            "Machines whose end was ordered and has failed so far.",
            labels=["service"],
        )
        orphaned = GaugeMetricFamily(
            "arbiter_orphans", "Machines with our tag that belong to no service."
        )
        with self._sources.parts.store.read() as connection:
            for service, rows in failing_ends(connection).items():
                failing.add_metric([service], len(rows))
            orphaned.add_metric([], len(orphans(connection)))
        return [failing, orphaned]

    def _losses(self) -> Metric:
        """How soon losses and notices were noticed, of every event that is kept."""
        family = HistogramMetricFamily(
            "arbiter_loss_detection_seconds",
            "From the cause of a loss, or a notice, to its detection: at most.",
            labels=["kind"],
        )
        with self._sources.parts.store.read() as connection:
            times = detection_times(connection)
        for kind, seconds in sorted(times.items()):
            counts = [(str(float(most)), sum(s <= most for s in seconds)) for most in BUCKETS]
            buckets = [*counts, ("+Inf", len(seconds))]
            family.add_metric([kind], buckets, sum(seconds))
        return family

    def _decisions(self) -> Metric:
        family = CounterMetricFamily(
            "arbiter_decisions", "Decisions in the journal.", labels=["service"]
        )
        with self._sources.parts.store.read() as connection:
            for service, count in count_decisions(connection).items():
                family.add_metric([service], count)
        return family


def _best(sources: Sources, name: str) -> dict[Purchase, float]:
    """Purchase -> price per hour of the best eligible offer that is bought so."""
    parts, snapshot = sources.parts, sources.snapshot()
    service = next(one for one in snapshot.services if one.name == name)
    found: dict[Purchase, float] = {}
    for candidate in answers.sifted(parts, snapshot, service).candidates:
        amount = offer_shapes.usd(candidate.quote.price)
        if amount is not None:
            found.setdefault(candidate.quote.offer.purchase, float(amount))
    return found
