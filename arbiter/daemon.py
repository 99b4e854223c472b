"""The daemon: polls, records, decides, acts and explains itself, until it is told to end.

Everything that counts is in the store, so the daemon may be killed at any instant. What it ends in
order for is only the tick that is going on; replicas are left as they are, and the next daemon
finds them.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from arbiter import registry
from arbiter.api.metrics import Metrics
from arbiter.api.sources import Parts, Sources
from arbiter.api.vitals import TICK, degraded_line
from arbiter.assemble import make_loop, make_routing, policy_of, stored_quotes
from arbiter.clock import Clock
from arbiter.errors import ArbiterError, StoreError
from arbiter.executors.base import Executor
from arbiter.keeping import BACKFILL_S, FIRST_BACKFILL_S, FIRST_LET_GO_S, LET_GO_S, Keeping
from arbiter.launchable import not_launchable
from arbiter.lease import LASTS, Lease
from arbiter.polling import Poller
from arbiter.profiles import load_profile
from arbiter.provider import Provider
from arbiter.pulse import Pulse
from arbiter.rate_keeping import FETCH_S, FIRST_FETCH_S, RateKeeping
from arbiter.regions import load_atlas
from arbiter.schedule import Kind, Schedule
from arbiter.settings import Settings
from arbiter.store import fleet, journal, rollups
from arbiter.store.engine import Store
from arbiter.store.prices import PollRow, last_polls
from arbiter.store.turns import turns

if TYPE_CHECKING:
    from datetime import datetime

    import uvicorn
    from starlette.types import ASGIApp

Log = Callable[[str, str], None]
"""Takes the kind of a line ("journal", "poll", "daemon") and its text."""

LOOK_S = 1.0
"""Seconds between two looks for orders: so soon an `arbiter launch` is acted on."""

WATCH_S = 2.0
"""Seconds between two looks at what serves: so soon a lost replica, or a notice, brings a tick."""

FIRST_POLLS_S = 30.0
"""For so long a new database waits for the first prices of every provider."""

ROLL_UP_S, ROLL_UP_TAKES_S = 600.0, 2.0
"""Seconds between two looks for days to roll up, and how long one may keep other chores waiting."""

FORCED = 130


class Daemon:
    """All parts of a running arbiter.

    Args:
        providers: name -> provider, polled at its own interval.
        log: gets a line for every decision, event and change of a poll's state.
        market_time: of a simulated market, for the screen.

    Attributes:
        ending: whoever sets it ends the daemon in order.
        lost_lease: another daemon acts on the database now, so this one has ended.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        executor: Executor,
        providers: Mapping[str, Provider],
        clock: Clock,
        log: Log,
        market_time: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings, self.store, self.clock = settings, store, clock
        self.pulse = Pulse()
        self.schedule = Schedule(self.pulse, clock)
        self.ending = threading.Event()
        self.lost_lease = False
        self._log = log
        self._providers = providers
        self._last_polls: dict[str, tuple[object, ...]] = {}
        self._awaited: set[str] = set()
        self._awaited_until = 0.0
        self._orders: object = None
        self._lease = Lease(store, clock)
        atlas = load_atlas()
        self.routing = make_routing(settings)
        self.loop = make_loop(
            settings,
            store,
            executor,
            clock,
            atlas,
            lambda sentence: log("journal", sentence),
            self.routing,
        )
        self.sources = Sources(
            Parts(
                store=store,
                atlas=atlas,
                clock=clock,
                pulse=self.pulse,
                quotes=stored_quotes(store, atlas),
                policy=partial(policy_of, settings),
                profile=lambda name: load_profile(name, settings.profiles_path),
                preview=self.loop.preview,
                not_launchable=not_launchable(settings.executor),
                routing=self.routing,
                standing_troubles=lambda: self.loop.troubles.standing,
                demand=self.loop.demand.of,
                tick_s=settings.daemon.tick_s,
                scheduling=lambda: self.schedule.running,
                simulated=settings.simulated,
                market_time=market_time,
            )
        )
        self.metrics = Metrics(self.sources)

    def start(self, patience_s: float = LASTS.total_seconds()) -> None:
        """Take the lease, and begin: every provider is polled at once, and the first tick made.

        Args:
            patience_s: seconds to wait for whoever acts now: a command for one tick, a daemon
                that died on another machine until its lease runs out.

        Raises:
            ArbiterError: another daemon acts on this database.
        """
        self._take_lease(time.monotonic() + patience_s)
        self._orders = self._ordered()
        self._awaited = self._never_polled()
        self._awaited_until = time.monotonic() + FIRST_POLLS_S
        with self.store.begin() as connection:
            seed, before = journal.owner(connection), turns(connection)
        every = self.schedule.every
        for name, provider in self._providers.items():
            poller = Poller(
                provider,
                self.settings.provider(name),
                self.store,
                self.clock,
                self._polled,
                seed=seed,
                before=before.get(name),
            )
            self.schedule.paced(
                f"poll {name}", Kind.POLL, poller.poll, poller.wait_s, poller.wait_s()
            )
        every(TICK, Kind.RECONCILE, self.settings.daemon.tick_s, self._tick)
        every("lease", Kind.UPKEEP, LASTS.total_seconds() / 4, self._keep_lease)
        every("rollups", Kind.UPKEEP, ROLL_UP_S, self._roll_up)
        keeping = Keeping(
            self._providers.values(),
            self.store,
            self.clock,
            self.settings.retention,
            partial(self._log, "prices"),
        )
        paced = self.schedule.paced
        paced("backfill", Kind.POLL, keeping.backfill, lambda: BACKFILL_S, FIRST_BACKFILL_S)
        paced("retention", Kind.POLL, keeping.let_go, lambda: LET_GO_S, FIRST_LET_GO_S)
        rates = RateKeeping(self.store, self.clock, self.settings, partial(self._log, "prices"))
        paced("rates", Kind.POLL, rates.refresh, lambda: FETCH_S, FIRST_FETCH_S)
        every("orders", Kind.UPKEEP, LOOK_S, self._look_for_orders)
        every("watch", Kind.WATCH, WATCH_S, self._watch)
        self.schedule.start()

    def stop(self) -> None:
        """Let the tick that is going on end, and give the lease back. Replicas are left alone."""
        self.schedule.stop()
        with suppress(StoreError):  # it runs out by itself
            self._lease.release()

    # --- jobs -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if not self._keep_lease():
            return
        if self._awaited and time.monotonic() < self._awaited_until:
            return  # the best offer may be with the provider that has not answered yet
        began = time.monotonic()
        self.loop.tick()
        self.metrics.ticked(time.monotonic() - began)

    def _polled(self, row: PollRow) -> None:
        name = row.provider
        self.metrics.polled(row)
        if self._last_polls.get(name) != (row.state, row.reasons):
            self._last_polls[name] = (row.state, row.reasons)
            self._log("poll", _poll_line(row))
        if self._awaited:
            self._awaited.discard(name)
            if not self._awaited:
                self.schedule.soon(TICK)

    def _never_polled(self) -> set[str]:
        with self.store.read() as connection:
            return set(self._providers) - {row.provider for row in last_polls(connection)}

    def _take_lease(self, until: float) -> None:
        waits = False
        while not self._lease.acquire():
            holder = _holder(self._lease.holder_now())
            if time.monotonic() > until:
                raise ArbiterError(
                    f"another arbiter acts on this database: {holder}",
                    "end it first, or set ARBITER_DATABASE_URL to another database",
                )
            if not waits:
                self._log("daemon", f"waiting for {holder}, which acts on this database now")
            waits = True
            time.sleep(0.2)

    def _keep_lease(self) -> bool:
        """Renew the lease; without it nothing may be done any more."""
        if self.lost_lease:
            return False
        if not self._lease.acquire():
            holder = _holder(self._lease.holder_now())
            self._log("daemon", f"lost the right to act on this database to {holder}, and ended")
            self.lost_lease = True
            self.ending.set()
        return not self.lost_lease

    def _watch(self) -> None:
        """Tick at once when something that serves has stopped, or is to be taken away."""
        if not self.lost_lease and self.loop.has_changed():
            self.schedule.soon(TICK)

    def _roll_up(self) -> None:
        """Build the days that are over; after a great import it takes several turns."""
        if not self.lost_lease:
            rollups.roll_up(self.store, self.clock.now(), ROLL_UP_TAKES_S)

    def _look_for_orders(self) -> None:
        """Act on an order given by another process without waiting for the next tick."""
        ordered = self._ordered()
        if ordered != self._orders:
            self._orders = ordered
            self.schedule.soon(TICK)

    def _ordered(self) -> object:
        with self.store.read() as connection:
            return tuple(
                (
                    one.name,
                    one.profile,
                    one.replicas,
                    one.sovereignty,
                    one.paused,
                    one.down,
                    one.generation,  # a move that was ordered is a launch
                    one.scaling,
                )
                for one in fleet.services(connection)
            )


def enabled_providers(settings: Settings) -> dict[str, Provider]:
    """The providers that are to be polled, by name.

    Raises:
        SettingsError: an installed package announces a provider that it cannot deliver.
    """
    return {
        name: registry.load(name, settings.provider(name))
        for name in registry.names()
        if settings.provider(name).enabled
    }


def listen(host: str, port: int) -> socket.socket:
    """A bound socket for the API.

    Raises:
        ArbiterError: the port is taken, or the host is none of this machine's.
    """
    bound: socket.socket | None = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(256)  # now, so that a second daemon is refused before it does anything
    except OSError as error:
        if bound is not None:
            bound.close()
        raise ArbiterError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "choose another --port, or end the program that listens there",
        ) from None
    return bound


def _leave() -> NoReturn:
    os._exit(FORCED)


def serve(
    daemon: Daemon,
    bound: socket.socket,
    names: Iterable[str] = (),
    force: Callable[[], object] = _leave,
) -> None:
    """Answer until SIGINT or SIGTERM, then stop the daemon. The main thread's work.

    Args:
        names: host names under which it may be reached, beside localhost and plain addresses.
        force: called on a second signal; the default ends the program at once.
    """
    from arbiter.api.app import create_app

    server = http_server(create_app(daemon.sources, daemon.metrics, names))
    with _Signals(server, force):
        watch = threading.Thread(target=_end_when_told, args=(daemon, server), daemon=True)
        watch.start()
        try:
            server.run(sockets=[bound])
        finally:
            daemon.stop()


def http_server(app: ASGIApp) -> uvicorn.Server:
    """A server of the application that logs nothing but its own trouble."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )


class _Signals:
    """SIGINT and SIGTERM around uvicorn, which handles them while it serves and passes them on."""

    def __init__(self, server: uvicorn.Server, force: Callable[[], object]) -> None:
        self._server = server
        self._force = force
        self._before: dict[int, Any] = {}
        self._seen = 0

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._end)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, _number: int, _frame: object) -> None:
        self._seen += 1
        self._server.should_exit = True
        if self._seen > 1:
            self._force()


def _end_when_told(daemon: Daemon, server: uvicorn.Server) -> None:
    daemon.ending.wait()
    server.should_exit = True


def _holder(holder: str | None) -> str:
    """A lease's holder for people."""
    if holder is None:
        return "one that has just ended"
    host, pid, _ = holder.rsplit(":", 2)
    return f"process {pid} on {host}"


def _poll_line(row: PollRow) -> str:
    if row.state == "ok":
        return f"{row.provider}: {row.offers} offers, {row.changes} changed{row.aside}"
    return f"{degraded_line(row)} ({row.offers} offers)"
