"""Drills: one kind of fault, at known instants, under many streams, and what clients saw of it.

A seeded schedule shows that nothing breaks whatever comes together. A drill says what one thing
costs: a move by order, a machine taken with and without notice, the process that ticks killed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from arbiter.assemble import make_routing
from arbiter.chaos import load, worker
from arbiter.chaos.load import OK, Outcome, ask
from arbiter.chaos.world import MODEL, SERVICE, World
from arbiter.clock import SystemClock
from arbiter.domain import Replica, ReplicaState, Service
from arbiter.errors import ArbiterError
from arbiter.free_port import free_port
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.orders import Destination
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from arbiter.typed import decode

STREAMS = 64
TOKENS = 24
TOKENS_PER_SECOND = 15.0
"""An answer takes 1.6 s: longer than a server that is ended has left, so an early end is seen."""

PATIENCE_S = 90.0
LOOK_S = 0.05
SPREAD_S = 3.0
"""So long the load has to spread over all replicas before one of them is taken."""

LOSSES = ("spot_reclaimed", "lost", "unhealthy", "wrong_answer")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the process that ticks does so, and how long a notice is.

    Attributes:
        tick_s, watch_s: as the daemon's.
        notice_s: between a notice and the end of its machine.
        leave_s: so long before that end a machine is given no more requests.
        calm_s: before the first disturbance.
    """

    tick_s: float
    watch_s: float
    notice_s: float
    leave_s: float
    calm_s: float


DAEMON = Pace(tick_s=10.0, watch_s=2.0, notice_s=30.0, leave_s=15.0, calm_s=10.0)
"""The daemon's own, by default, and the shortest notice that a cloud gives."""

QUICK = Pace(tick_s=0.1, watch_s=0.25, notice_s=8.0, leave_s=3.0, calm_s=1.0)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One thing that was done.

    Attributes:
        begins, ends: from the deed until all is as ordered again; seconds since 1970.
        server: the server that it befell, as its answers name it.
        detected_s: seconds until it was written down; None where there is nothing to detect.
    """

    begins: float
    ends: float
    server: str
    detected_s: float | None = None


@dataclass(slots=True)
class Drilled:
    """What came of a drill."""

    outcomes: Sequence[Outcome] = ()
    disturbances: list[Disturbance] = field(default_factory=list)

    def of(self, what: str) -> list[Outcome]:
        """The requests with this outcome."""
        return [one for one in self.outcomes if one.what == what]

    def split(self) -> tuple[list[Outcome], list[Outcome]]:
        """The answers in calm times, and those around a disturbance."""
        calm: list[Outcome] = []
        around: list[Outcome] = []
        for one in self.of(OK):
            met = any(it.begins <= one.ended and one.began <= it.ends for it in self.disturbances)
            (around if met else calm).append(one)
        return calm, around


class Drill:
    """A service on loopback under load, with a process that ticks.

    Raises:
        ArbiterError: something does not come about in time.
    """

    def __init__(self, folder: Path, replicas: int, pace: Pace = QUICK) -> None:
        self.done = Drilled()
        self._pace = pace
        self._replicas = replicas
        self._world = World(
            folder,
            free_port(),
            tokens_per_second=TOKENS_PER_SECOND,
            restless=False,
            drain_s=20,
            tick_s=pace.tick_s,
            watch_s=pace.watch_s,
            leave_s=pace.leave_s,
        )
        self._store = Store(self._world.settings.database_url)
        self._executor = self._world.executor()
        self._worker: int | None = None
        self._clients: int | None = None

    def begin(self, streams: int) -> None:
        """Bring the service up, let it be asked, and leave it alone for a while."""
        with self._store.begin() as connection:
            ordered = Service(SERVICE, MODEL, self._replicas)
            fleet.add_service(connection, ordered, SystemClock().now())
        self._start_worker()
        self._until(lambda: self._settled() and ask(self._world.port, 1).what == OK, "come up")
        self._store.close()  # no connection may go through a fork
        self._clients = load.start(self._world.port, streams, self._answers, TOKENS)
        time.sleep(self._pace.calm_s)

    def end(self) -> Drilled:
        """Ask nothing more, and tell what became of every request."""
        if self._clients is not None:
            time.sleep(1.0)
            os.kill(self._clients, signal.SIGTERM)
            os.waitpid(self._clients, 0)
            self._clients = None
            self.done.outcomes = decode(self._answers.read_bytes(), list[Outcome])
        return self.done

    def clean_up(self) -> None:
        """Leave no process behind."""
        if self._clients is not None:
            os.kill(self._clients, signal.SIGKILL)
            os.waitpid(self._clients, 0)
        self._kill_worker()
        self._store.close()
        EnvoyGateway(self._world.settings.gateway_dir, tuple, port=self._world.port).stop()
        for cluster in self._executor.standing():
            self._executor.reclaim(cluster)
            self._executor.terminate(cluster)

    # --- what is done to it ---------------------------------------------------------------------

    def move(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Move the dearest replica to the other cloud, by order, and wait until it has moved.

        Args:
            meanwhile: done once it is ordered.
        """
        old, begins = self._serving(), time.time()
        here = {one.offer.provider for one in old}
        to = Destination("azure" if here == {"aws"} else "aws")
        loop = worker.make_chaos_loop(
            self._world, self._store, self._log, make_routing(self._world.settings)
        )
        loop.move(SERVICE, to, write=True)
        meanwhile()
        before = {one.cluster for one in old}
        self._until(
            lambda: self._settled() and {one.cluster for one in self._serving()} != before, "move"
        )
        (gone,) = [one for one in old if one.cluster not in self._clusters()]
        self._note(begins, gone)

    def kill_worker(self, drawn: random.Random) -> None:
        """Kill the process that ticks with -9 within a move, and let another one go on."""

        def strike() -> None:
            time.sleep(drawn.uniform(0, 3))
            self._kill_worker()
            time.sleep(drawn.uniform(0.2, 1))
            self._start_worker()

        self.move(strike)

    def reclaim(self, drawn: random.Random) -> None:
        """Take a machine away without a word, and wait until it is replaced and serves."""
        time.sleep(SPREAD_S + drawn.uniform(0, self._pace.watch_s))
        victim, begins = drawn.choice(self._serving()), time.time()
        self._executor.reclaim(victim.cluster)
        self._replaced(victim)
        with self._store.read() as connection:
            told = journal.events(connection, SERVICE, limit=1000)
        (first, *_) = [
            one.at.timestamp() - begins
            for one in told
            if one.cluster == victim.cluster and one.kind in LOSSES
        ]
        self._note(begins, victim, first)

    def give_notice(self, drawn: random.Random) -> None:
        """Announce that a machine is taken away, and do it."""
        time.sleep(SPREAD_S)
        victim, begins = drawn.choice(self._serving()), time.time()
        self._executor.give_notice(victim.cluster, self._pace.notice_s)
        taken_at = time.monotonic() + self._pace.notice_s
        while victim.cluster in self._executor.standing() and time.monotonic() < taken_at:
            time.sleep(LOOK_S)
        self._executor.reclaim(victim.cluster)
        self._replaced(victim)
        self._note(begins, victim)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _answers(self) -> Path:
        return self._world.folder / "outcomes.json"

    @property
    def _log(self) -> Path:
        return self._world.folder / "worker.log"

    def _note(self, begins: float, victim: Replica, detected_s: float | None = None) -> None:
        server = (victim.endpoint or "").rpartition(":")[2]
        self.done.disturbances.append(Disturbance(begins, time.time(), server, detected_s))

    def _replaced(self, victim: Replica) -> None:
        self._until(
            lambda: victim.cluster not in self._clusters() and self._settled(), "be replaced"
        )

    def _known(self) -> list[Replica]:
        with self._store.read() as connection:
            return fleet.replicas(connection, self._world.atlas, SERVICE)

    def _clusters(self) -> set[str]:
        return {one.cluster for one in self._known()}

    def _serving(self) -> list[Replica]:
        return [one for one in self._known() if one.state is ReplicaState.HEALTHY]

    def _settled(self) -> bool:
        known = self._known()
        healthy = [one for one in known if one.state is ReplicaState.HEALTHY]
        return len(known) == len(healthy) == self._replicas

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                states = {one.cluster: str(one.state) for one in self._known()}
                raise ArbiterError(
                    f"the service did not {what} within {PATIENCE_S:.0f} s: {states}",
                    f"its last words: {self._log.read_text()[-2000:]}",
                )
            time.sleep(LOOK_S)

    def _start_worker(self) -> None:
        self._store.close()
        self._worker = worker.start(self._world)

    def _kill_worker(self) -> None:
        if self._worker is not None:
            os.kill(self._worker, signal.SIGKILL)
            os.waitpid(self._worker, 0)
            self._worker = None


@contextmanager
def drilling(
    folder: Path, replicas: int, pace: Pace = QUICK, streams: int = STREAMS
) -> Iterator[Drill]:
    """A drill under load; whatever happens, no process is left.

    Args:
        folder: an empty one.
    """
    drill = Drill(folder, replicas, pace)
    try:
        drill.begin(streams)
        yield drill
        drill.end()
    finally:
        drill.clean_up()
