"""The page for people: rendered here, complete without JavaScript, which only refreshes it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from arbiter import __version__
from arbiter.api import answers
from arbiter.api.routes import vitals
from arbiter.api.shapes import ServiceShape
from arbiter.api.sources import Snapshot, Sources
from arbiter.domain import Purchase, ReplicaState
from arbiter.errors import ArbiterError, StoreError
from arbiter.resources import resource_dir
from arbiter.scaling import Scaling

OFFERS_SHOWN = 8
DECISIONS_SHOWN = 12
EVENTS_SHOWN = 12
ENDED = (ReplicaState.TERMINATED.value, ReplicaState.FAILED.value, ReplicaState.LOST.value)


class Page:
    """Renders the page and the part of it that changes."""

    def __init__(self, sources: Sources) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self._sources = sources
        # Everything that a provider says is text, never markup.
        self._templates = Environment(
            loader=FileSystemLoader(resource_dir("templates") / "dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            money=money, clock=clock, span=span, purchase=purchase, percent=percent
        )

    def whole(self) -> str:
        """The page."""
        return self._render("page.html.j2")

    def board(self) -> str:
        """What changes: the contents of its <main>."""
        return self._render("board.html.j2")

    def _render(self, name: str) -> str:
        return self._templates.get_template(name).render(view(self._sources))


def page_routes(page: Page) -> APIRouter:
    """The page at / and its changing part at /board."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/")
    def whole() -> HTMLResponse:
        return HTMLResponse(page.whole())

    @router.get("/board")
    def board() -> HTMLResponse:
        return HTMLResponse(page.board())

    return router


def view(sources: Sources) -> dict[str, Any]:
    """Everything that the templates name."""
    parts, health = sources.parts, vitals(sources)
    shown: dict[str, Any] = {
        "version": __version__,
        "simulated": parts.simulated,
        "market_time": parts.market_time() if parts.market_time else None,
        "health": health,
        "now": parts.clock.now(),
    }
    try:
        snapshot = sources.snapshot()
    except StoreError:
        return shown | _nothing()
    return shown | _contents(sources, snapshot)


def _nothing() -> dict[str, Any]:
    """A page without a database: the reasons are in its health."""
    names = ("services", "offers", "providers", "decisions", "events")
    return {name: [] for name in names} | {"spend": None, "saved": None, "eligible": None}


def _contents(sources: Sources, snapshot: Snapshot) -> dict[str, Any]:
    parts = sources.parts
    services = answers.services(parts, snapshot)
    return {
        "services": [
            _service(shape, service.scaling)
            for shape, service in zip(services, snapshot.services, strict=True)
        ],
        "offers": [_offers(sources, snapshot, one) for one in _distinct(services)],
        "providers": answers.provider_shapes(snapshot),
        "decisions": [answers.decision_shape(row) for row in snapshot.decisions[:DECISIONS_SHOWN]],
        "events": list(reversed(snapshot.events))[:EVENTS_SHOWN],
        "spend": _sum(one.usd_hour for one in services),
        "saved": _saved(services),
    }


def _service(shape: ServiceShape, scaling: Scaling | None) -> dict[str, Any]:
    """A service with its living replicas first; of the ended ones only those still to clean up."""
    saved = _saved([shape])
    alive = [one for one in shape.replicas if one.state not in ENDED]
    rest = [one for one in shape.replicas if one.state in ENDED]
    state = "down" if shape.down else "paused" if shape.paused else _wellness(shape)
    return {
        "shape": shape,
        "replicas": [*alive, *rest],
        "saved": saved,
        "state": state,
        "scaling": "" if scaling is None else str(scaling),
    }


def _wellness(shape: ServiceShape) -> str:
    if shape.target == 0:
        return "at zero"
    if shape.healthy >= shape.target:
        return "serving"
    return "partly serving" if shape.healthy else "not serving"


def _offers(sources: Sources, snapshot: Snapshot, shape: ServiceShape) -> dict[str, Any]:
    """The best offers of a service, with the reason when there are none."""
    parts = sources.parts
    try:
        service = answers.asked_service(parts, snapshot, shape.name)
        found = answers.offers(parts, snapshot, service, limit=OFFERS_SHOWN, with_refused=False)
    except ArbiterError as error:
        return {"model": shape.profile, "service": shape.name, "error": str(error)}
    used = {_place(one) for one in shape.replicas if one.state not in ENDED}
    rows = [(offer, _place(offer) in used) for offer in found.offers]
    return {
        "model": shape.profile,
        "service": shape.name,
        "error": "",
        "found": found,
        "rows": rows,
        "why": why(found.refused_by_rule),
    }


def why(refused_by_rule: dict[str, int]) -> list[tuple[str, int]]:
    """What left out the others, in words: "country outside eu" 22."""
    return [(rule.replace("_", " "), count) for rule, count in refused_by_rule.items()]


def _place(shape: Any) -> tuple[object, ...]:
    return (shape.provider, shape.region, shape.zone, shape.instance_type, shape.purchase)


def _distinct(services: list[ServiceShape]) -> list[ServiceShape]:
    """One service of each model and level: the others would show the same offers."""
    found: dict[tuple[str, str], ServiceShape] = {}
    for shape in services:
        if not shape.down:
            found.setdefault((shape.profile, shape.sovereignty), shape)
    return list(found.values())


def _saved(services: list[ServiceShape]) -> dict[str, Decimal] | None:
    """What is saved an hour against on-demand, and as a share; None where it is not known."""
    paid = _sum(one.usd_hour for one in services)
    dear = _sum(one.on_demand_usd_hour for one in services)
    if paid is None or dear is None or dear <= 0:
        return None
    return {"hour": dear - paid, "share": (dear - paid) / dear, "on_demand": dear}


def _sum(amounts: Any) -> Decimal | None:
    """The sum; None if one of them is not known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def money(amount: Decimal | None) -> str:
    """USD to a tenth of a cent where it is small ("$0.688"), to a cent otherwise."""
    if amount is None:
        return "not known"
    digits = 3 if abs(amount) < 1 else 2
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.{digits}f}"


def percent(share: Decimal) -> str:
    """A share as whole per cents."""
    return f"{share * 100:.0f} %"


def clock(at: datetime | None) -> str:
    """The time of day, UTC."""
    return f"{at:%H:%M:%S}" if at else "never"


def span(since: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that says enough."""
    if since is None:
        return "never"
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def purchase(value: str) -> str:
    """A way of buying in words."""
    return "on-demand" if value == Purchase.ON_DEMAND.value else value
