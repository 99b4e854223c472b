"""The process that ticks, and that is killed. Forked: a new interpreter would take a second."""

from __future__ import annotations

import os
import signal
import sys
import threading
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
    """Tick for ever, and look in between from a thread of its own, as the daemon does."""
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
    wanted = threading.Event()
    threading.Thread(target=watch, args=(world, loop, wanted, log), daemon=True).start()
    while True:
        began = time.monotonic()
        wanted.clear()
        try:
            loop.tick()
        except StoreError as error:
            _write(log, f"no tick: {error}")
        wanted.wait(max(0.01, world.tick_s - (time.monotonic() - began)))


def watch(world: World, loop: Loop, wanted: threading.Event, log: Path) -> None:
    """Look for ever at what serves; a change brings a tick."""
    while True:
        time.sleep(world.watch_s)
        try:
            if loop.has_changed():
                wanted.set()
        except StoreError as error:
            _write(log, f"no look: {error}")


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
