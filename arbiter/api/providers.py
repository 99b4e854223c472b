"""What the API says of the price sources beside their prices: polling, doubts, signals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from arbiter import explain
from arbiter.api.routes import encoded
from arbiter.api.sources import Sources
from arbiter.store import counts, quarantine, signals
from arbiter.store.prices import PollRow, last_polls
from arbiter.store.quarantine import Case
from arbiter.store.turns import Turn, turns


@dataclass(frozen=True, slots=True)
class DoubtShape:
    """Prices that are kept with the reason why they are not believed, and decide nothing.

    `region` and `purchase` are empty where it is the whole answer; `prices` counts them.
    """

    provider: str
    region: str
    purchase: str
    reason: str
    prices: int
    polls: int
    first_at: datetime
    last_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class SourceShape:
    """A price source: its newest poll, and how its polling stands.

    `circuit` is "closed", "open" (failed so often that it is left alone until `next_poll_at`) or
    "half_open"; it and `failures` (in a row) are null where no daemon has polled the source.
    """

    provider: str
    state: str
    offers: int
    finished_at: datetime
    reasons: list[str]
    circuit: str | None
    failures: int | None
    next_poll_at: datetime | None
    polling_since: datetime | None
    progress: str
    held_back: int
    standing: int


@dataclass(frozen=True, slots=True)
class SourcesShape:
    """All price sources, and what of their answers is held back or was, newest first."""

    as_of: datetime
    simulated: bool
    providers: list[SourceShape]
    quarantine: list[DoubtShape]


@dataclass(frozen=True, slots=True)
class SignalShape:
    """What a provider says of capacity or interruption, in its own unit: two kinds never compare.

    `low` and `high` are the bounds of the figure, null where the provider leaves them open;
    `since` is when arbiter first saw it so, `measured_at` when it was last known to hold.
    """

    provider: str
    kind: str
    region: str
    zone: str | None
    instance_type: str
    purchase: str | None
    low: Decimal | None
    high: Decimal | None
    text: str
    unit: str
    since: datetime
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class SignalsShape:
    """Signals that stand."""

    as_of: datetime
    simulated: bool
    signals: list[SignalShape]


def provider_routes(sources: Sources) -> APIRouter:
    """Their paths."""
    router = APIRouter()
    parts = sources.parts

    @router.get("/api/v1/providers", response_model=SourcesShape, tags=["market"])
    def providers(
        ended: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Response:
        """Every price source, and what of its answers is held back; `ended` adds what was."""
        with parts.store.read() as connection:
            held = quarantine.held_back(connection)
            standing = counts.standing_prices(connection)
            known = turns(connection)
            rows = [
                _source(row, known.get(row.provider), held[row.provider], standing[row.provider])
                for row in last_polls(connection)
            ]
            doubts = _doubts(connection, ended=ended, limit=limit)
        return encoded(SourcesShape(parts.clock.now(), parts.simulated, rows, doubts))

    @router.get("/api/v1/signals", response_model=SignalsShape, tags=["market"])
    def standing_signals(
        provider: str | None = None,
        kind: str | None = None,
        region: str | None = None,
        instance_type: str | None = None,
    ) -> Response:
        """What providers say of capacity and interruption now, narrowed to what is named."""
        with parts.store.read() as connection:
            found = signals.standing(
                connection,
                provider=provider,
                kind=kind,
                region=region,
                instance_type=instance_type,
            )
        shapes = [SignalShape(**_signal_dict(one)) for one in found]
        return encoded(SignalsShape(parts.clock.now(), parts.simulated, shapes))

    return router


def _source(row: PollRow, turn: Turn | None, held: int, standing: int) -> SourceShape:
    return SourceShape(
        row.provider,
        row.state,
        row.offers,
        row.finished_at,
        list(row.reasons),
        **explain.turn_dict(turn, held, standing),
    )


def _doubts(connection: Connection, *, ended: bool, limit: int) -> list[DoubtShape]:
    found = quarantine.cases(connection, limit=limit)
    if ended:
        found += quarantine.cases(connection, ended=True, limit=limit)
    return [_doubt(case) for case in found]


def _doubt(case: Case) -> DoubtShape:
    return DoubtShape(
        case.provider,
        case.region,
        case.purchase,
        case.reason,
        case.offers,
        case.polls,
        case.first_at,
        case.last_at,
        case.ended_at,
    )


def _signal_dict(one: signals.StandingSignal) -> dict[str, Any]:
    """What a provider says of capacity or interruption, in its own unit."""
    said = one.signal
    return {
        "provider": one.provider,
        "kind": said.kind,
        "region": said.region,
        "zone": said.zone,
        "instance_type": said.instance_type,
        "purchase": said.purchase.value if said.purchase else None,
        "low": said.low,
        "high": said.high,
        "text": said.text,
        "unit": said.unit,
        "since": one.valid_from,
        "measured_at": one.measured_at,
    }
