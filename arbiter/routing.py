"""How clients are led to replicas: what the gateway is told, and what it says of them.

Without a gateway (switched off, or its program is not there) clients ask the replicas themselves,
and everything here answers that nothing is known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from arbiter.domain import Replica, ReplicaState, Service
from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState, Gateway, GatewayHealth, waiting_room
from arbiter.health import SILENCE
from arbiter.scaling import Reaction

Standby = Callable[[Service], Backend | None]

STATES = {
    ReplicaState.HEALTHY: BackendState.SERVING,
    # One that does not answer us may still be in the middle of an answer.
    ReplicaState.UNHEALTHY: BackendState.DRAINING,
    ReplicaState.DRAINING: BackendState.DRAINING,
}
"""State of a replica -> what the gateway may give it; nothing of the others."""


def backends(replicas: Sequence[Replica], key: str | None, model: str) -> list[Backend]:
    """What the gateway is to know of a service's replicas. Pure.

    While none is healthy, those that are only silent stay in traffic: servers under too much load
    miss our questions too, and the gateway itself gives nothing to one that is dead.

    Args:
        key: what the replicas want to see of whoever asks them.
        model: the name under which they list it.
    """
    known = [
        one
        for one in replicas
        if one.state in STATES and one.endpoint and one.healthy_at is not None
    ]
    nobody = not any(one.state is ReplicaState.HEALTHY for one in known)
    return [
        Backend(
            one.cluster,
            one.endpoint or "",
            key,
            model,
            BackendState.SERVING if nobody and _only_silent(one) else STATES[one.state],
        )
        for one in known
    ]


def _only_silent(replica: Replica) -> bool:
    return replica.state is ReplicaState.UNHEALTHY and replica.note.startswith(SILENCE)


class Routing:
    """Tells the gateway, and keeps going when it cannot be told.

    Args:
        gateway: None where there is none.
        key: of the replicas.
        standby: an external API for a service, where its policy allows one.
        absent: why there is no gateway, though the settings want one; "" otherwise.
        most_held: requests of one service that may wait at the gateway at a time.

    Attributes:
        turn: held from reading what the replicas are until the gateway is told, so that of two
            threads the one that read first never speaks last.
    """

    def __init__(
        self,
        gateway: Gateway | None = None,
        key: str | None = None,
        standby: Standby | None = None,
        absent: str = "",
        most_held: int = Reaction().most_held,
    ) -> None:
        self.gateway = gateway
        self.turn = threading.RLock()
        self.absent = absent
        self._key = key
        self._most_held = most_held
        self._standby = standby
        self._errors: dict[str, str] = {}

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong now, a line each; empty while all is well."""
        return tuple(
            dict.fromkeys(([self.absent] if self.absent else []) + [*self._errors.values()])
        )

    def start(self) -> None:
        """Start the gateway, or adopt the one that runs. A failure is kept in `troubles`."""
        if self.gateway is None:
            return
        try:
            self.gateway.start()
        except GatewayError as error:
            self._errors[""] = str(error)
        else:
            self._errors.pop("", None)

    def route(self, service: Service, replicas: Sequence[Replica], model: str) -> bool:
        """Make these the replicas that clients reach; whether the gateway has taken it."""
        if self.gateway is None:
            return True
        try:
            if service.down and not replicas:
                self.gateway.forget(service.name)
            else:
                known = backends(replicas, self._key, model)
                known += [one for one in [self._external(service)] if one is not None]
                known.append(self._waiting(service, model))
                self.gateway.serve(service.name, known)
        except GatewayError as error:
            self._errors[service.name] = f"{service.name}: {error}"
            return False
        self._errors.pop(service.name, None)
        return True

    def idle(self, service: str, cluster: str) -> bool | None:
        """Whether a replica answers nothing any more; None where that is not known."""
        if self.gateway is None:
            return None
        with suppress(GatewayError):
            return self.gateway.idle(service, cluster)
        return None

    def endpoint(self, service: str) -> str | None:
        """The service's address that stays, for an OpenAI client; None without a gateway."""
        return None if self.gateway is None else self.gateway.endpoint(service)

    def health(self) -> GatewayHealth | None:
        """How its process is; None without a gateway."""
        return None if self.gateway is None else self.gateway.health()

    def _waiting(self, service: Service, model: str) -> Backend:
        scaling = None if service.down else service.scaling
        return waiting_room(model, scaling.hold_s if scaling else 0.0, self._most_held)

    def _external(self, service: Service) -> Backend | None:
        return self._standby(service) if self._standby is not None else None
