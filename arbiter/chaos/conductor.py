"""One run: brings the faults of a seed, watches what becomes of the fleet, and judges it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from arbiter.chaos import load, worker
from arbiter.chaos.arranger import Arranger
from arbiter.chaos.faults import Fault, schedule
from arbiter.chaos.invariants import (
    BELOW,
    LEAKED,
    LOST,
    REPLAY,
    UNSETTLED,
    Violations,
    ended_too_soon,
    excused,
)
from arbiter.chaos.load import CUT, FAILED, OK, Outcome
from arbiter.chaos.watch import Watch
from arbiter.chaos.world import MODEL, REPLICAS, SERVICE, World
from arbiter.clock import SystemClock
from arbiter.domain import Service
from arbiter.free_port import free_port
from arbiter.gateway.envoy import EnvoyGateway
from arbiter.replay import replay
from arbiter.store import fleet, journal
from arbiter.store.engine import Store
from arbiter.typed import decode

LOOK_S = 0.05
SETTLE_S = 25.0
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one seed.

    Attributes:
        outcomes: kind of outcome -> requests.
        excused: of the failed and cut ones, those with a cause that a client may notice.
        violations: invariant -> a sentence for each time that it did not hold.
        took_s: seconds of the whole run.
    """

    seed: int
    faults: tuple[Fault, ...]
    outcomes: dict[str, int]
    excused: int
    violations: dict[str, list[str]]
    took_s: float
    folder: str | None = None
    log: tuple[str, ...] = field(default=(), repr=False)

    @property
    def count(self) -> int:
        """How many violations."""
        return sum(len(found) for found in self.violations.values())


def run_seed(seed: int, seconds: float, *, keep: bool = False) -> Report:
    """Run one seed.

    Args:
        seconds: for how long faults come.
        keep: leave the folder of a run that violated something, to look at.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="arb-chaos-"))
    world = World(folder, free_port())
    shutil.copy(_empty_database(), folder / "arbiter.db")
    run = _Run(world, schedule(seed, seconds))
    try:
        run.play(seconds)
        run.judge()
    finally:
        run.clean_up()
    violated = run.violations.count > 0
    log = tuple((folder / "worker.log").read_text().splitlines()) if violated else ()
    if not (keep and violated):
        shutil.rmtree(folder, ignore_errors=True)
    return Report(
        seed=seed,
        faults=run.faults,
        outcomes=dict(Counter(one.what for one in run.outcomes)),
        excused=run.excused,
        violations=run.violations.found,
        took_s=time.monotonic() - began,
        folder=str(folder) if keep and violated else None,
        log=log,
    )


class _Run:
    """One run, from an empty folder to an empty folder."""

    def __init__(self, world: World, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        self.violations = Violations()
        self.outcomes: Sequence[Outcome] = ()
        self.excused = 0
        self._world = world
        self._store = Store(world.settings.database_url)
        self._gateway = EnvoyGateway(world.settings.gateway_dir, tuple, port=world.port)
        self._watch = Watch(world, self._store, self._gateway, self.violations)
        self._arranger = Arranger(world, self._watch, self._start_worker)
        self._clients: int | None = None
        self._answers = world.folder / "outcomes.json"

    def play(self, seconds: float) -> None:
        """Bring the service up, let the faults come, let it settle, and end it."""
        with self._store.begin() as connection:
            ordered = Service(SERVICE, MODEL, REPLICAS)
            fleet.add_service(connection, ordered, SystemClock().now())
        self._start_worker()
        if not self._until(self._watch.settled):
            self.violations.add(UNSETTLED, "the service did not come up before any fault")
            return
        self._watch.begin()
        self._store.close()
        self._clients = load.start(self._world.port, CLIENTS, self._answers)
        begin = time.monotonic()
        while (at := time.monotonic() - begin) < seconds:
            self._arranger.apply(self.faults, at)
            self._watch.look()
            time.sleep(LOOK_S)
        self._arranger.heal()
        if not self._until(self._watch.settled):
            self.violations.add(UNSETTLED, f"not back to health within {SETTLE_S:.0f} s")
        self._for(0.6)
        self._end_clients()
        with self._store.begin() as connection:
            fleet.order(connection, SERVICE, down=True)
        if not self._until(self._watch.gone):
            self.violations.add(UNSETTLED, f"not down within {SETTLE_S:.0f} s")

    def judge(self) -> None:
        """What can only be said at the end."""
        executor, spans = self._world.executor(), self._watch.spans()
        for cluster in executor.standing():
            self.violations.add(LEAKED, f"{cluster} stands after the service is down")
        for outcome in self.outcomes:
            if outcome.what == OK:
                continue
            if excused(outcome, spans):
                self.excused += 1
            else:
                when = f"{outcome.began:.2f} to {outcome.ended:.2f}"
                self.violations.add(LOST, f"{outcome.what} from {when}: {outcome.why}")
        self._judge_decisions()

    def _judge_decisions(self) -> None:
        with self._store.read() as connection:
            for row in journal.decisions(connection, SERVICE, limit=10_000):
                given = journal.inputs(connection, row.id)
                if journal.encode(replay(given)) != journal.encode(row.plan):
                    self.violations.add(REPLAY, f"decision {row.id}: {row.sentence}")
                wrong = ended_too_soon(given, row)
                if wrong is not None:
                    self.violations.add(BELOW, wrong)
            for replica in fleet.replicas(connection, self._world.atlas, SERVICE):
                self.violations.add(LEAKED, f"{replica.cluster} is {replica.state} for ever")

    def clean_up(self) -> None:
        """Leave no process behind."""
        self._end_clients()
        self._arranger.end_worker()
        self._store.close()
        self._gateway.stop()
        executor = self._world.executor()
        for cluster in executor.standing():
            executor.reclaim(cluster)
            executor.terminate(cluster)

    def _start_worker(self) -> int:
        self._store.close()  # no connection may go through a fork
        pid = worker.start(self._world)
        self._arranger.worker = pid
        return pid

    def _end_clients(self) -> None:
        if self._clients is None:
            return
        os.kill(self._clients, signal.SIGTERM)
        os.waitpid(self._clients, 0)
        self._clients = None
        with suppress(FileNotFoundError):
            self.outcomes = decode(self._answers.read_bytes(), list[Outcome])

    def _until(self, holds: object) -> bool:
        assert callable(holds)
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            self._arranger.apply((), 0.0)
            self._watch.look()
            if holds():
                return True
            time.sleep(LOOK_S)
        return False

    def _for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._watch.look()
            time.sleep(LOOK_S)


@cache
def _empty_database() -> Path:
    """A database of the newest schema, made once: migrations take a second."""
    path = Path(tempfile.mkdtemp(prefix="arb-chaos-db-")) / "empty.db"
    store = Store(f"sqlite:///{path}")
    with store.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
    store.close()
    return path


@contextmanager
def prepared() -> Iterator[None]:
    """The empty database is there for as long as runs are made, also for forked ones."""
    path = _empty_database()
    try:
        yield
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)
        _empty_database.cache_clear()


__all__ = ["CUT", "FAILED", "OK", "Report", "prepared", "run_seed"]
