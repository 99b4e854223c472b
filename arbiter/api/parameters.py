"""A slip in a parameter's name would be an answer about something else than was asked."""

from __future__ import annotations

from difflib import get_close_matches

from fastapi import Request

from arbiter.errors import ArbiterError

PREFIX = "/api/"
"""Beneath it only what is documented may be asked; probes and scrapers may add what they like."""


class UnknownParameter(ArbiterError):
    """A parameter that the path does not have."""


def known_parameters(request: Request) -> None:
    """Refuse a request that names a parameter which its path does not have.

    Raises:
        UnknownParameter: with the nearest that there is.
    """
    path = request.scope["route"].path
    if not path.startswith(PREFIX) or not request.query_params:
        return
    documented = request.app.openapi()["paths"][path]["get"].get("parameters", ())
    known = [one["name"] for one in documented if one["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            near = get_close_matches(name.casefold(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
            raise UnknownParameter(f"there is no parameter {name[:40]!r}", hint)
