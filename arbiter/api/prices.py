"""The paths under /api/v1/prices: the questions about recorded prices, as columns.

An answer is encoded once, straight from the arrays' lists; nothing is made of single points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from arbiter.api.sources import Sources
from arbiter.domain import Service
from arbiter.prices import history as histories
from arbiter.prices import stats as statistics
from arbiter.prices.as_of import AsOfAnswer, as_of
from arbiter.prices.changes import ChangesAnswer, changes
from arbiter.prices.chosen import Market
from arbiter.prices.index import MIN_VOTES, IndexAnswer, index
from arbiter.prices.question import BadQuestion, asked, asked_at, parse_amount, parse_share
from arbiter.prices.seasonality import SeasonalityAnswer, seasonality

Names = Annotated[list[str], Query(default_factory=list)]
Span = Annotated[str | None, Query(description="12h, 90d or 8w; 90d unless `from` is given")]
Instant = Annotated[str | None, Query(description="ISO 8601; without an offset, in `timezone`")]
By = (
    Literal["gpu", "provider", "region", "country", "tier", "purchase", "instance-type", "series"]
    | None
)


@dataclass(frozen=True)
class Filters:
    """Which series, and in which unit; an empty filter lets everything pass."""

    provider: Names
    region: Names
    zone: Names
    country: Names
    tier: Names
    instance_type: Names
    gpu: str | None = None
    purchase: str | None = None
    sovereignty: str | None = None
    currency: str | None = None
    per: str = "gpu"
    timezone: str | None = None

    def typed(self) -> dict[str, Any]:
        """As `question.asked` takes them."""
        return {
            "providers": self.provider,
            "regions": self.region,
            "zones": self.zone,
            "countries": self.country,
            "tiers": self.tier,
            "instance_types": self.instance_type,
            "gpu": self.gpu,
            "purchase": self.purchase,
            "sovereignty": self.sovereignty,
            "currency": self.currency,
            "per": self.per,
            "zone": self.timezone,
        }


@dataclass(frozen=True)
class Stretch:
    """The window, half-open."""

    since: Span = None
    begin: Annotated[str | None, Query(alias="from")] = None
    to: Instant = None

    def typed(self) -> dict[str, Any]:
        """As `question.asked` takes it."""
        return {"since": self.since, "begin": self.begin, "end": self.to}


Chosen = Annotated[Filters, Depends()]
Within = Annotated[Stretch, Depends()]


def price_routes(sources: Sources) -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["prices"])
    market = _asking(sources)
    _add_paths(router, market)
    _add_figures(router, market)
    _add_moments(router, market)
    return router


Asking = Callable[[], Any]


def _asking(sources: Sources) -> Asking:
    """Opens the recorded market, in one reading transaction."""
    parts = sources.parts

    @contextmanager
    def opened() -> Iterator[Market]:
        rule = parts.policy(Service("", "")).sovereignty
        with parts.store.read() as connection:
            yield Market(connection, parts.atlas, rule, parts.clock.now(), parts.simulated)

    return opened


def _encoded(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _add_paths(router: APIRouter, opened: Asking) -> None:
    @router.get(
        "/api/v1/prices/history", response_model=histories.StepsAnswer | histories.GridAnswer
    )
    def history(
        chosen: Chosen,
        within: Within,
        grid: str | None = None,
        by: By = None,
        points: Annotated[int | None, Query(ge=4, le=100_000)] = None,
    ) -> Response:
        """Every step of every series; with `grid` (1h, 1d, ...) exact figures of each cell.

        `points` thins each series out for drawing, and keeps its lowest and highest prices.
        """
        if by is not None and grid is None:
            raise BadQuestion("by needs a grid: without one, series are never mixed")
        if points is not None and grid is not None:
            raise BadQuestion("points is for steps: a grid has its cells")
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            if grid is not None:
                return _encoded(histories.on_grid(market, question, grid, by))
            return _encoded(histories.history(market, question, points))

    @router.get("/api/v1/prices/index", response_model=IndexAnswer)
    def index_of(
        chosen: Chosen, within: Within, min_votes: Annotated[int, Query(ge=1)] = MIN_VOTES
    ) -> Response:
        """A cross-cloud median per GPU-hour, for each UTC day that is over."""
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            return _encoded(index(market, question, min_votes))


def _add_figures(router: APIRouter, opened: Asking) -> None:
    @router.get("/api/v1/prices/stats", response_model=statistics.StatsAnswer)
    def stats(chosen: Chosen, within: Within, by: By = None) -> Response:
        """Percentiles weighted by time."""
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            return _encoded(statistics.stats(market, question, by))

    @router.get("/api/v1/prices/below", response_model=statistics.BelowAnswer)
    def below(
        chosen: Chosen,
        within: Within,
        price: str | None = None,
        percent: str = "95",
        by: By = None,
    ) -> Response:
        """For what share of the time a price was below `price`, and under which it mostly was."""
        micros = None if price is None else parse_amount(price)
        basis = parse_share(percent)
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            return _encoded(statistics.below(market, question, micros, basis, by))

    @router.get("/api/v1/prices/seasonality", response_model=SeasonalityAnswer)
    def seasons(chosen: Chosen, within: Within) -> Response:
        """The profile of a week in `timezone`; refused for less than eight weeks of prices."""
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            return _encoded(seasonality(market, question))


def _add_moments(router: APIRouter, opened: Asking) -> None:
    @router.get("/api/v1/prices/changes", response_model=ChangesAnswer)
    def changes_of(
        chosen: Chosen, within: Within, limit: Annotated[int, Query(ge=1, le=100_000)] = 1000
    ) -> Response:
        """The newest changes of a price."""
        with opened() as market:
            question = asked(market.now, **chosen.typed(), **within.typed())
            return _encoded(changes(market, question, limit))

    @router.get("/api/v1/prices/as-of", response_model=AsOfAnswer)
    def stood(
        chosen: Chosen, at: Instant = None, limit: Annotated[int, Query(ge=1)] = 1000
    ) -> Response:
        """What stood at an instant (now, if none is given), cheapest first."""
        with opened() as market:
            question = asked_at(market.now, at, **chosen.typed())
            return _encoded(as_of(market, question, limit))
