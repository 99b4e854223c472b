"""What Envoy and the waiting room (`arbiter.gateway.waiting_room`) say to one another. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOCKET = "waiting.sock"
"""In the gateway's state folder."""

SINCE = "x-arbiter-since"
"""The header with the instant at which the gateway got the request, seconds since 1970."""

_SCHEME = "Bearer "


def held_as(service: str, hold_s: float, most: int) -> str:
    """What Envoy shows there in the place of a replica's key.

    Args:
        hold_s: seconds for which a request waits at most.
        most: requests of the service that may wait at a time.
    """
    return f"{service} {hold_s:g} {most}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request says of itself.

    Attributes:
        until: seconds since 1970; it waits no longer.
        most: requests of the service that may wait at a time.
    """

    service: str
    until: float
    most: int

    @classmethod
    def read(cls, headers: Mapping[str, str], now: float) -> Ticket:
        """The ticket of a request.

        One that comes back has not more time than one that came once; a clock that was set back
        gives none more than its span.

        Args:
            now: seconds since 1970.

        Raises:
            ValueError, LookupError: it has none, so it did not come from our gateway.
        """
        service, hold_s, most = headers["authorization"].removeprefix(_SCHEME).split(" ")
        since = min(float(headers[SINCE]), now)
        return cls(service, since + float(hold_s), int(most))
