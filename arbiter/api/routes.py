"""The paths under /api/v1, /healthz and /metrics. Reading only; orders are typed.

Answers are encoded once by msgspec; the shapes are named as response models for OpenAPI alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from arbiter import __version__
from arbiter.api import answers
from arbiter.api.charts import history
from arbiter.api.metrics import CONTENT_TYPE, Metrics
from arbiter.api.shapes import (
    DecisionsShape,
    EventsShape,
    HealthShape,
    HistoryShape,
    OffersShape,
    PlanShape,
    ServiceShape,
    ServicesShape,
)
from arbiter.api.sources import Sources
from arbiter.api.vitals import Status, Vitals, judge
from arbiter.domain import Purchase
from arbiter.sovereignty import parse_level
from arbiter.store import journal

Limit = Annotated[int, Query(ge=1, le=1000)]


def encoded(shape: Any, status: int = 200) -> Response:
    """A shape as JSON."""
    return Response(msgspec.json.encode(shape), status, media_type="application/json")


def vitals(sources: Sources) -> Vitals:
    """Whether the daemon is well, now."""
    parts = sources.parts
    trouble = sources.trouble()
    polls = () if trouble else sources.snapshot().polls
    return judge(
        parts.clock.now(),
        parts.pulse.beats(),
        polls,
        parts.tick_s,
        scheduling=parts.scheduling(),
        troubles=(*([trouble] if trouble else []), *parts.standing_troubles()),
    )


def routes(sources: Sources, metrics: Metrics) -> APIRouter:
    """All of them."""
    router = APIRouter()
    _add_daemon(router, sources, metrics)
    _add_market(router, sources)
    _add_fleet(router, sources)
    return router


def _add_daemon(router: APIRouter, sources: Sources, metrics: Metrics) -> None:
    @router.get("/healthz", response_model=HealthShape, tags=["daemon"])
    def healthz() -> Response:
        """200 while arbiter works, also with something missing; 503 when it must be restarted."""
        found = vitals(sources)
        shape = HealthShape(
            status=found.status.value,
            simulated=sources.parts.simulated,
            version=__version__,
            last_tick_at=found.last_tick_at,
            last_tick_age_s=found.last_tick_age_s,
            reasons=list(found.reasons),
        )
        return encoded(shape, 503 if found.status is Status.DEAD else 200)

    @router.get("/metrics", tags=["daemon"])
    def metrics_page() -> Response:
        """Figures for Prometheus, in the OpenMetrics text format."""
        return Response(metrics.page(), media_type=CONTENT_TYPE)


def _add_market(router: APIRouter, sources: Sources) -> None:
    parts = sources.parts

    @router.get("/api/v1/offers", response_model=OffersShape, tags=["market"])
    def offers(
        model: str | None = None,
        sovereignty: str | None = None,
        gpu: str | None = None,
        purchase: Purchase | None = None,
        limit: Annotated[int, Query(ge=0)] = 0,
        refused: bool = True,
    ) -> Response:
        """What `arbiter offers --json` prints. `limit` 0 is all; `model` may name a service."""
        snapshot = sources.snapshot()
        level = parse_level(sovereignty).value if sovereignty else None
        service = answers.asked_service(parts, snapshot, model, level) if model else None
        return encoded(
            answers.offers(
                parts,
                snapshot,
                service,
                gpu=gpu,
                purchase=purchase,
                sovereignty=level,
                limit=limit,
                with_refused=refused,
            )
        )

    @router.get("/api/v1/prices", response_model=HistoryShape, tags=["market"])
    def prices(
        model: str,
        hours: Annotated[float, Query(gt=0, le=2160)] = 24,
        top: Annotated[int, Query(ge=1, le=20)] = 5,
    ) -> Response:
        """How the prices of a model's cheapest eligible offers went."""
        snapshot = sources.snapshot()
        found = answers.sifted(parts, snapshot, answers.asked_service(parts, snapshot, model))
        best = [candidate.quote.offer for candidate in found.candidates[:top]]
        return encoded(history(parts, best, snapshot.at, timedelta(hours=hours)))

    @router.get("/api/v1/plan", response_model=PlanShape, tags=["market"])
    def plan(model: str, sovereignty: str | None = None) -> Response:
        """What the next tick would decide for a service, or for a model if it were launched."""
        service = answers.asked_service(parts, sources.snapshot(), model, sovereignty)
        return encoded(answers.plan_shape(parts, parts.preview(service)))


def _add_fleet(router: APIRouter, sources: Sources) -> None:
    parts = sources.parts

    @router.get("/api/v1/services", response_model=ServicesShape, tags=["fleet"])
    def services() -> Response:
        """All services with their replicas."""
        snapshot = sources.snapshot()
        found = answers.services(parts, snapshot)
        return encoded(ServicesShape(snapshot.at, parts.simulated, found))

    @router.get("/api/v1/services/{name}", response_model=ServiceShape, tags=["fleet"])
    def service(name: str) -> Response:
        """One service with its replicas."""
        return encoded(answers.service_named(parts, sources.snapshot(), name))

    @router.get("/api/v1/decisions", response_model=DecisionsShape, tags=["fleet"])
    def decisions(service: str | None = None, limit: Limit = 50) -> Response:
        """What was decided, newest first."""
        with parts.store.read() as connection:
            rows = journal.decisions(connection, service, limit)
        return encoded(DecisionsShape(parts.simulated, [answers.decision_shape(r) for r in rows]))

    @router.get("/api/v1/decisions/{decision_id}", response_model=PlanShape, tags=["fleet"])
    def decision(decision_id: str) -> Response:
        """One decision with its candidates; a beginning of the id is enough if it is unique."""
        with parts.store.read() as connection:
            row = journal.get_decision(connection, decision_id)
        return encoded(answers.decided(parts, row))

    @router.get("/api/v1/events", response_model=EventsShape, tags=["fleet"])
    def events(
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        service: str | None = None,
        limit: Limit = 100,
    ) -> Response:
        """What happened after an event, oldest first; without `after` the newest."""
        with parts.store.read() as connection:
            rows = journal.events(connection, service, after, limit)
        last_id = rows[-1].id if rows else after
        found = [answers.event_shape(row) for row in rows]
        return encoded(EventsShape(parts.simulated, last_id, found))
