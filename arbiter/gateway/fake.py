"""A gateway with a memory and no process: for tests of whatever tells a gateway what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from arbiter.errors import GatewayError
from arbiter.gateway.base import Backend, BackendState, Counts, GatewayHealth


@dataclass
class FakeGateway:
    """Implements `arbiter.gateway.base.Gateway`; a test arranges its public attributes.

    Attributes:
        services: what was told last, per service.
        history: every set of backends that differed from the one before, as (service, backends).
        requests: (service, cluster) -> requests being answered now.
        failing: a sentence: every call that may fail does, and changes nothing.
        starts: how often start() was called.
        running: whether it was started and not killed since.
    """

    services: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    history: list[tuple[str, tuple[Backend, ...]]] = field(default_factory=list)
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    passed: dict[str, Counts] = field(default_factory=dict)
    failing: str | None = None
    starts: int = 0
    running: bool = False
    _quiet: set[tuple[str, str]] = field(default_factory=set)

    def start(self) -> None:
        """Count the call."""
        self._fail()
        self.starts += 1
        self.running = True

    def serve(self, service: str, backends: Sequence[Backend]) -> None:
        """Remember the backends."""
        self._fail()
        wanted = tuple(sorted(backends, key=lambda one: one.cluster))
        if self.services.get(service) != wanted:
            self.services[service] = wanted
            self.history.append((service, wanted))
        if not self.running:
            raise GatewayError("the gateway does not run", "it is started at the next tick")

    def idle(self, service: str, cluster: str) -> bool:
        """Whether it answers nothing, and answered nothing when this was last asked."""
        self._fail()
        place = (service, cluster)
        if cluster not in self._clusters(service):
            self._quiet.discard(place)
            return True
        if self.requests.get(place):
            self._quiet.discard(place)
            return False
        if place in self._quiet:
            return True
        self._quiet.add(place)
        return False

    def active(self, service: str, cluster: str) -> int:
        """What the test arranged in `requests`."""
        self._fail()
        known = cluster in self._clusters(service)
        return self.requests.get((service, cluster), 0) if known else 0

    def forget(self, service: str) -> None:
        """Forget the backends."""
        self._fail()
        self.services.pop(service, None)

    def endpoint(self, service: str) -> str:
        """As the real one's, at its default place."""
        return f"http://127.0.0.1:8401/{service}/v1"

    def health(self) -> GatewayHealth:
        """Whether it was started."""
        if not self.running or self.failing:
            return GatewayHealth(False, error=self.failing or "the gateway does not run")
        return GatewayHealth(True, "fake")

    def counts(self) -> Mapping[str, Counts]:
        """What the test arranged in `passed`, for the services that are known."""
        self._fail()
        return {service: self.passed.get(service, Counts()) for service in self.services}

    def kill(self) -> None:
        """The process dies; what it was told is kept in its files."""
        self.running = False
        self.requests.clear()
        self._quiet.clear()

    def clusters(self, service: str, state: BackendState) -> list[str]:
        """Names of the service's backends in a state."""
        return [one.cluster for one in self.services.get(service, ()) if one.state is state]

    def _clusters(self, service: str) -> set[str]:
        return {one.cluster for one in self.services.get(service, ())}

    def _fail(self) -> None:
        if self.failing is not None:
            raise GatewayError(self.failing)
