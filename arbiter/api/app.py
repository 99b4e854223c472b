"""The application: routes, the page, errors in one shape, and the guard around all of it."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from arbiter import __version__
from arbiter.api.guard import Guard
from arbiter.api.metrics import Metrics
from arbiter.api.page import Page, page_routes
from arbiter.api.parameters import known_parameters
from arbiter.api.prices import price_routes
from arbiter.api.providers import provider_routes
from arbiter.api.routes import encoded, routes
from arbiter.api.shapes import ErrorShape
from arbiter.api.sources import Sources
from arbiter.errors import ArbiterError, ProfileError, StoreError, UnknownName
from arbiter.resources import resource_dir

DESCRIPTION = """Prices, decisions and replicas of one arbiter. Reading only, and without a login:
it listens on this machine alone; in front of anything wider belongs a proxy that asks who you are.
"""


def create_app(sources: Sources, metrics: Metrics, names: Iterable[str] = ()) -> FastAPI:
    """The application.

    Args:
        names: host names under which it may be reached, beside localhost and plain addresses.
    """
    app = FastAPI(
        title="arbiter",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        responses={404: {"model": ErrorShape}, 422: {"model": ErrorShape}},
    )
    for router in (routes(sources, metrics), price_routes(sources), provider_routes(sources)):
        app.include_router(router, dependencies=[Depends(known_parameters)])
    app.include_router(page_routes(Page(sources)))
    static = resource_dir("templates") / "dashboard" / "static"
    app.mount("/static", StaticFiles(directory=static), name="static")
    app.add_exception_handler(ArbiterError, _told)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Guard, names=tuple(names), simulated=sources.parts.simulated)
    return app


def _told(_request: Request, error: Exception) -> Response:
    if isinstance(error, UnknownName | ProfileError):
        return _line(str(error), 404)
    return _line(str(error), 503 if isinstance(error, StoreError) else 400)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _line(f"there is nothing at {request.url.path}; see /openapi.json", 404)
    return _line(str(error.detail), error.status_code)


def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(part) for part in one['loc'][1:]) or 'request'}: {one['msg']}"
        for one in error.errors()
    ]
    return _line("; ".join(problems), 422)


def _broken(_request: Request, error: Exception) -> Response:
    return _line(f"arbiter failed on this ({type(error).__name__}); its log says more", 500)


def _line(text: str, status: int) -> Response:
    return encoded(ErrorShape(" ".join(text.split())), status)
