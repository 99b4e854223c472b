"""The process that ticks, and that is killed. Forked: a new interpreter would take a second."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from arbiter.assemble import make_routing
from arbiter.chaos.world import KEY, TICK_S, OffClock, World
from arbiter.errors import StoreError
from arbiter.health import HttpHealthCheck
from arbiter.reconcile import Loop, Tools
from arbiter.routing import Routing
from arbiter.store.engine import Store


class CutStore(Store):
    """A database that can be cut off."""

    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__(world.settings.database_url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As Store's, while the database is there."""
        self._reach()
        with super().begin() as connection:
            yield connection
            self._reach()  # cut before the commit: nothing of the transaction is left

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As Store's, while the database is there."""
        self._reach()
        with super().read() as connection:
            yield connection

    def _reach(self) -> None:
        if self._world.conditions().cut:
            raise StoreError("the database is cut off (simulated)")


def start(world: World) -> int:
    """Fork a worker; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work(world)
    except BaseException as error:  # noqa: BLE001  a fork must never return into its parent's code
        with (world.folder / "worker.log").open("a") as log:
            log.write(f"the worker ended: {type(error).__name__}: {error}\n")
    finally:
        os._exit(1)


def work(world: World) -> None:
    """Tick for ever."""
    os.environ["ARBITER_API_KEY"] = KEY
    log = world.folder / "worker.log"
    store = None
    while store is None:
        try:
            store = CutStore(world)
            loop = make_chaos_loop(world, store, log)
        except StoreError:
            store = None
            time.sleep(TICK_S)
    due = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            if world.watch_s is None or began >= due or loop.has_changed():
                due = began + world.tick_s
                loop.tick()
        except StoreError as error:
            _write(log, f"no tick: {error}")
        pause = world.tick_s if world.watch_s is None else world.watch_s
        time.sleep(max(0.01, pause - (time.monotonic() - began)))


def make_chaos_loop(world: World, store: Store, log: Path, routing: Routing | None = None) -> Loop:
    """The real loop over the world."""
    return Loop(
        Tools(
            store=store,
            executor=world.executor(),
            health=HttpHealthCheck(KEY, timeout_s=1.0, completion_s=3.0),
            clock=OffClock(world),
            atlas=world.atlas,
            policy=lambda _service: world.policy(),
            profile=lambda name: replace(world.profile(), name=name),
            spec=world.spec,
            quotes=world.quotes,
            not_launchable={},
            tell=lambda sentence: _write(log, sentence),
            routing=routing or make_routing(world.settings),
            fleet=world.settings.fleet,
        )
    )


def _write(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{time.time():.2f} {line}\n")
