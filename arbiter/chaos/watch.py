"""What is seen of a fleet during a run, several times a second, and what was wrong with it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from pathlib import Path

from arbiter.chaos.invariants import DOUBLE, LEAKED, OUTSIDE, Span, Violations
from arbiter.chaos.load import OK, ask
from arbiter.chaos.world import FORBIDDEN, KILL_S, REPLICAS, SERVICE, TICK_S, World
from arbiter.domain import Replica, ReplicaState
from arbiter.errors import ArbiterError
from arbiter.executors.base import Phase
from arbiter.executors.folder import Folder
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.store import fleet
from arbiter.store.engine import Store

OUTSIDE_S = TICK_S + 2 * (KILL_S + 1) + 1.0
"""A tick, a kill, and as much again as two shared cores may take for both."""

MOST = 3 * REPLICAS + 4
"""Machines at a time: those that serve, those that take over, those that end, and spares."""

MARGIN_S = 0.3
CUT_S = 1.0


class Watch:
    """Looks, and remembers what excuses a failure.

    Attributes:
        able: whether the worker runs and has its database; while it is not, nothing can be ended.
    """

    def __init__(
        self, world: World, store: Store, gateway: EnvoyGateway, violations: Violations
    ) -> None:
        self.able = True
        self.replicas: list[Replica] = []
        self.standing: set[str] = set()
        self._world, self._store, self._gateway = world, store, gateway
        self._violations = violations
        self._executor = world.executor()
        self._machines = world.folder / "machines"
        self._pids: dict[str, int] = {}
        self._outside: dict[str, float] = {}
        self._looked_at = time.monotonic()
        self._spans: list[Span] = []
        self._silent_since: float | None = None
        self._gateway_down_since: float | None = None
        self._told: set[str] = set()

    def look(self) -> None:
        """Look once."""
        before = set(self._executor.standing())
        with self._store.read() as connection:
            known = fleet.replicas(connection, self._world.atlas, SERVICE, settled=True)
        self.standing = set(self._executor.standing())
        self.replicas = [one for one in known if one.state is not ReplicaState.TERMINATED]
        settled = {one.cluster for one in known if one.state is ReplicaState.TERMINATED}
        for cluster in sorted(before - {one.cluster for one in known}):
            self._once(LEAKED, f"{cluster} runs and nothing is written of it")
        for cluster in sorted(self.standing & settled):
            self._once(LEAKED, f"{cluster} is believed gone and stands")
        if len(self.standing) > MOST:
            self._once(DOUBLE, f"{len(self.standing)} machines stand for {REPLICAS} replicas")
        self._look_for_doubles()
        self._look_at_places()
        self._look_at_service()
        self._looked_at = time.monotonic()

    def begin(self) -> None:
        """The run begins: nothing that was before excuses anything."""
        self._spans.clear()

    def settled(self) -> bool:
        """Whether what was ordered answers, and a client gets an answer."""
        return len(self._serving()) >= REPLICAS and ask(self._world.port, 1).what == OK

    def gone(self) -> bool:
        """Whether nothing stands and nothing is left to do."""
        return not self.replicas and not self.standing

    def may_cut(self, at: float, ran_s: float = 0.0) -> None:
        """From an instant on, answers that had begun so many seconds before may be cut."""
        self._spans.append(Span(at - MARGIN_S, at + CUT_S, cuts=True, ran_s=ran_s))

    def gateway_killed(self) -> None:
        """Until it answers again, everything may fail."""
        if self._gateway_down_since is None:
            self._gateway_down_since = time.time() - MARGIN_S

    def spans(self) -> Sequence[Span]:
        """What excuses a failure."""
        now, found = time.time(), list(self._spans)
        if self._silent_since is not None:
            found.append(Span(self._silent_since, now, fails=True))
        if self._gateway_down_since is not None:
            found.append(Span(self._gateway_down_since, now, cuts=True, fails=True))
        return found

    def _serving(self) -> list[Replica]:
        return [
            one
            for one in self.replicas
            if one.state is ReplicaState.HEALTHY and one.cluster in self.standing
        ]

    def _look_for_doubles(self) -> None:
        for cluster in self.standing:
            pid = Folder(Path(self._machines) / cluster).server()
            if pid is not None and self._pids.setdefault(cluster, pid) != pid:
                self._once(DOUBLE, f"{cluster} was launched twice")

    def _look_at_places(self) -> None:
        """Time outside the rule counts while the worker could do something about it."""
        denied = {*self._world.conditions().denied, FORBIDDEN[0]}
        passed = time.monotonic() - self._looked_at
        try:
            seen = self._executor.observe(sorted(self.standing))
        except ArbiterError:
            return
        outside = {
            cluster
            for cluster, sighting in seen.items()
            if sighting.phase is Phase.UP and sighting.region in denied
        }
        for cluster in outside:
            spent = self._outside.get(cluster, 0.0) + (passed if self.able else 0.0)
            self._outside[cluster] = spent
            if spent > OUTSIDE_S:
                where = seen[cluster].region
                self._once(OUTSIDE, f"{cluster} stood in {where}, which the rule refuses")
        self._outside = {name: self._outside[name] for name in outside}

    def _look_at_service(self) -> None:
        now = time.time()
        if self._serving():
            if self._silent_since is not None:
                # The gateway has yet to hear of the one that answers now.
                self._spans.append(Span(self._silent_since, now + 2 * MARGIN_S, fails=True))
                self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now - MARGIN_S - (time.monotonic() - self._looked_at)
        if self._gateway_down_since is not None and self._gateway_answers():
            since = self._gateway_down_since
            self._spans.append(Span(since, now + MARGIN_S, cuts=True, fails=True))
            self._gateway_down_since = None

    def _gateway_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._world.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _once(self, invariant: str, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._violations.add(invariant, sentence)
