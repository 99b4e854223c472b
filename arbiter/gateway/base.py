"""What stands between clients and replicas, seen from the loop.

The gateway is a process of its own. It outlives arbiter, and a client never notices that a replica
was added, drained, removed or lost, as long as one that serves is left. The loop says what is
wanted of a service (`serve`), and asks before it ends a machine (`idle`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable


class BackendState(StrEnum):
    """What a backend may be given."""

    SERVING = "serving"  # requests, while its /health answers
    DRAINING = "draining"  # no new request; what it answers goes on to its end
    STANDBY = "standby"  # requests only while no serving backend is healthy: an external API
    WAITING = (
        "waiting"  # the same, of requests that wait there until one is: the gateway's own room
    )


@dataclass(frozen=True, slots=True)
class Backend:
    """A server that answers for a service.

    Attributes:
        cluster: the replica's cluster, or any other name that is unique within the service.
        url: base URL without a path ("http://10.1.2.3:8000"); "/v1" at its end is allowed.
        key: what this server wants to see as a bearer token; None sends none. Never a client's.
        model: the name under which it lists its model, None when not known.
        hold_s, most_held: of the waiting room alone: for so many seconds it holds a request of this
            service, and so many at a time; 0 seconds is no room, and then it only names the model.
    """

    cluster: str
    url: str
    key: str | None = field(default=None, repr=False)
    model: str | None = None
    state: BackendState = BackendState.SERVING
    hold_s: float = 0.0
    most_held: int = 0

    @property
    def holds(self) -> bool:
        """Whether requests may wait there."""
        return self.state is BackendState.WAITING and self.hold_s > 0


def waiting_room(model: str | None, hold_s: float, most_held: int) -> Backend:
    """Where a service's requests wait while no replica is healthy; also what names its model.

    Without it a model would be unknown while nothing runs, and asking for it a 404.
    """
    return Backend("waiting-room", "", None, model, BackendState.WAITING, hold_s, most_held)


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """How the gateway's process is.

    Attributes:
        running: it answers its administrator.
        version: of the program, None when it does not run.
        rejected: configurations that it refused, and therefore goes on without, since its start.
        error: what is wrong, in one line without a secret; None when nothing is.
        retiring: earlier processes that still answer what they had begun.
    """

    running: bool
    version: str | None = None
    rejected: int = 0
    error: str | None = None
    retiring: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What passed through the gateway for one service, since the gateway was first started.

    Attributes:
        requests: answered, with whatever status; a request that was retried counts once.
        errors: answered with 5xx.
        retried: attempts that were repeated, on another replica where there was one.
        cut: answers that had begun when their replica was lost.
        active: being answered now, or held.
        held: waiting at the gateway for a replica that can answer.
    """

    requests: int = 0
    errors: int = 0
    retried: int = 0
    cut: int = 0
    active: int = 0
    held: int = 0


@runtime_checkable
class Gateway(Protocol):
    """The way of clients to replicas. Every method is safe to repeat.

    All but `endpoint` and `health` raise GatewayError when the gateway cannot be reached or does
    not take what it is told; what it did before, it goes on doing.
    """

    def start(self) -> None:
        """Start it, or adopt the one that runs, which touches no traffic.

        Called on every tick: it restarts one that has died, takes up new client keys, replaces
        one whose program or settings have changed, and retires the replaced one when it is idle.
        """
        ...

    def serve(self, service: str, backends: Sequence[Backend]) -> None:
        """Make these the service's backends, all of them; none means 503 with Retry-After.

        Returns when the gateway has taken them.
        """
        ...

    def idle(self, service: str, cluster: str) -> bool:
        """Whether the backend answers nothing, seen twice, half a second apart or more.

        A backend that the gateway does not know is idle.
        """
        ...

    def active(self, service: str, cluster: str) -> int:
        """Requests that the backend is answering through this gateway."""
        ...

    def forget(self, service: str) -> None:
        """Drop the service: its path answers 404. Success where it is not known."""
        ...

    def endpoint(self, service: str) -> str:
        """The base URL for an OpenAI client ("http://127.0.0.1:8401/<service>/v1")."""
        ...

    def health(self) -> GatewayHealth:
        """How the process is. Never raises."""
        ...

    def counts(self) -> Mapping[str, Counts]:
        """What passed, per service."""
        ...
