"""Runs the loop on local replicas and kills itself at the n-th effect. Run in a forked child."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, event

from arbiter.clock import SystemClock
from arbiter.domain import Offer, Purchase, ReplicaState
from arbiter.executors.base import LaunchSpec, Sighting
from arbiter.executors.local import LocalExecutor
from arbiter.health import HttpHealthCheck
from arbiter.profiles import Profile, load_profile
from arbiter.settings import FleetSettings
from arbiter.store import fleet
from arbiter.store.engine import Store
from tests.store.loops import Bench


class Fuse:
    """Counts effects; at the given one the process dies as by kill -9."""

    def __init__(self, die_at: int) -> None:
        self._left = die_at

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FusedStore(Store):
    """Burns the fuse before and after every commit of a transaction that writes."""

    def __init__(self, url: str, fuse: Fuse) -> None:
        super().__init__(url)
        self._fuse = fuse
        event.listen(self.engine, "before_cursor_execute", self._note_write)

    def _note_write(
        self, connection: Connection, _cursor: object, sql: str, *_rest: object
    ) -> None:
        if sql.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
            connection.info["wrote"] = True

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            yield connection
            wrote = connection.info.pop("wrote", False)
            if wrote:
                self._fuse.burn()
        if wrote:
            self._fuse.burn()


class FusedExecutor:
    """Burns the fuse before and after every call that changes something."""

    name = "local"

    def __init__(self, inner: LocalExecutor, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def submit(self, spec: LaunchSpec) -> str:
        self._fuse.burn()
        request_id = self._inner.submit(spec)
        self._fuse.burn()
        return request_id

    def can_park(self, offer: Offer) -> str | None:
        return self._inner.can_park(offer)

    def park(self, cluster: str) -> None:
        self._fuse.burn()
        self._inner.park(cluster)
        self._fuse.burn()

    def terminate(self, cluster: str) -> None:
        self._fuse.burn()
        self._inner.terminate(cluster)
        self._fuse.burn()

    def observe(self, clusters: Sequence[str]) -> Mapping[str, Sighting]:
        return self._inner.observe(clusters)

    def inventory(self, owner: str) -> Sequence[str]:
        return self._inner.inventory(owner)


def main(url: str, folder: str, die_at: int, job: str) -> None:
    fuse = Fuse(0)
    store = FusedStore(url, fuse)
    executor = FusedExecutor(LocalExecutor(Path(folder)), fuse)
    patience = FleetSettings(hedge_after_s=0.2) if job == "hedge" else FleetSettings()
    bench = Bench(store, executor=executor, clock=SystemClock(), fleet=patience)  # type: ignore[arg-type]
    bench.policy = replace(bench.policy, max_spares=0, parked=1, min_stay_s=0)
    if job in ("bought", "start"):  # no spot is offered
        bought = [key for key in bench.prices if key[2] is Purchase.ON_DEMAND]
        bench.prices = {key: bench.prices[key] for key in bought}
    bench.loop._tools = replace(bench.loop._tools, health=HttpHealthCheck("k"))
    if job in ("park", "start"):
        bench.loop._tools = replace(bench.loop._tools, profile=_without_a_drain)
    if job != "down":
        bench.order()
    else:
        with store.begin() as connection:
            fleet.order(connection, "chat", down=True)
    if job == "hedge" and die_at:  # a launch hangs; how it is begun is the other job's
        while not (bench.replicas() and bench.replicas()[0].request_id):
            bench.loop.tick()
        time.sleep(1.2 * patience.hedge_after_s)
    fuse._left = die_at
    deadline = time.monotonic() + 40
    while not _finished(bench, job):
        if time.monotonic() > deadline:
            sys.exit("the job did not finish in time")
        bench.loop.tick()
        time.sleep(0.02)
    store.close()


def _without_a_drain(name: str) -> Profile:
    """No gateway tells when the last answer is over, so that each drain would take its time."""
    profile = load_profile(name)
    return replace(profile, serving=replace(profile.serving, drain_s=0))


def _finished(bench: Bench, job: str) -> bool:
    replicas = bench.replicas()
    if job == "down":
        return not replicas
    if job == "park":
        return sorted(one.state for one in replicas) == [ReplicaState.HEALTHY, ReplicaState.PARKED]
    return [one.state for one in replicas] == [ReplicaState.HEALTHY]
