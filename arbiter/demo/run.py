"""The demo: the daemon itself on a written market, with servers that really run on loopback.

Nothing of the daemon is replaced. Its providers read a market instead of a cloud, its executor
starts processes instead of machines, and its policy counts in market time.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from arbiter.clock import Clock
from arbiter.credentials import api_key, key_file
from arbiter.daemon import Daemon, serve
from arbiter.demo.folder import GATEWAY, REPLICAS, end_gateway, end_replicas
from arbiter.demo.market import Market
from arbiter.demo.reclaims import Reclaims
from arbiter.demo.replay import Replay, ReplayProvider
from arbiter.demo.traffic import Tally, Traffic
from arbiter.domain import Replica, ReplicaState, Service
from arbiter.executors.local import LocalExecutor
from arbiter.free_port import free_port
from arbiter.policy import Policy
from arbiter.profiles import load_profile
from arbiter.provider import ProviderSettings
from arbiter.resources import resource_dir
from arbiter.schedule import Kind
from arbiter.settings import DaemonSettings, GatewaySettings, Settings
from arbiter.store import fleet
from arbiter.store.engine import Store

FIRST_RECLAIM = 7200
"""Second of the market at which the cheapest place for a 70B model is taken away."""

BEFORE_S = 20.0
"""Seconds of the present before that: time to see everything calm."""

TICK_S = 0.5
POLL_S = 2.0
MARKET_S = 0.25  # between two looks at what the market does to the servers
COLD_START_S = 1.0
DRAIN_S = 6.0  # LocalExecutor keeps 5 of them for itself
LEAVE_S = 3  # an answer of the demo takes one; a profile's minutes would be hours of the market
PROFILES = "profiles"


class Demo:
    """A daemon on a market, and traffic for it.

    Args:
        folder: everything is kept in it.
        speed: seconds of the market in a second of the present.
        log: as of Daemon.

    Raises:
        ProfileError: there is no such model.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        log: Callable[[str, str], None],
        *,
        speed: float = 60.0,
        model: str = "llama70b-awq",
        replicas: int = 2,
    ) -> None:
        self.model = load_profile(model).name
        self.settings = demo_settings(folder, speed)
        write_profile(self.model, folder / PROFILES)
        self._clock = clock
        self._folder = folder
        now = clock.now()
        market = Market.load(resource_dir("data") / "demo")
        begin = max(0.0, FIRST_RECLAIM - BEFORE_S * speed)
        self._replay = Replay(market, now, speed, begin)
        executor = LocalExecutor(folder / REPLICAS, cold_start_s=COLD_START_S, drain_s=DRAIN_S)
        self._reclaims = Reclaims(self._replay, executor, now)
        self.store = Store(self.settings.database_url)
        with self.store.begin() as connection:
            fleet.add_service(connection, Service(self.model, self.model, replicas), now)
        providers = {name: ReplayProvider(name, self._replay, clock) for name in market.providers}
        self.daemon = Daemon(
            self.settings, self.store, executor, providers, clock, log, self.market_time
        )
        key = api_key(self.settings)
        self._traffic = Traffic(self.model, key, self._asked, self.daemon.ending)
        self._turns = itertools.count()
        every = self.daemon.schedule.every
        every("market", Kind.UPKEEP, MARKET_S, lambda: self._reclaims.apply(clock.now()))

    def run(self, bound: socket.socket, duration_s: float | None = None) -> None:
        """Serve until a signal, or for so long; at the end no server is left. The main thread's.

        A second signal ends the servers at once.
        """
        ending = self.daemon.ending
        before: Any = signal.signal(signal.SIGHUP, lambda *_: ending.set())
        traffic = threading.Thread(target=self._traffic.run, name="traffic", daemon=True)
        timer = threading.Timer(duration_s, ending.set) if duration_s is not None else None
        try:
            self.daemon.start()
            traffic.start()
            if timer is not None:
                timer.daemon = True
                timer.start()
            serve(self.daemon, bound, force=self._hurry)
        finally:
            ending.set()
            self._end()
            signal.signal(signal.SIGHUP, before)

    def market_time(self) -> datetime:
        """The instant of the story."""
        seconds = self._replay.seconds_at(self._clock.now())
        return self._replay.market.starts + timedelta(seconds=seconds)

    def serving(self) -> Sequence[Replica]:
        """The replicas that answer now."""
        snapshot = self.daemon.sources.snapshot()
        return [one for one in snapshot.replicas if one.state is ReplicaState.HEALTHY]

    def address(self) -> str | None:
        """Where clients ask: the gateway, or a replica where there is none; without /v1."""
        gateway, serving = self._gateway(), self.serving()
        if gateway is not None:
            return gateway
        return serving[0].endpoint if serving else None

    @property
    def tally(self) -> Tally:
        """What became of the questions so far."""
        return self._traffic.tally

    def curl(self, endpoint: str) -> str:
        """A question to type."""
        return (
            f"curl -s {endpoint}/v1/chat/completions "
            f'-H "Authorization: Bearer $(cat {key_file(self.settings)})" '
            "-H 'Content-Type: application/json' "
            f'-d \'{{"model": "{self.model}", "messages": '
            '[{"role": "user", "content": "Where are you running?"}]}\''
        )

    def _asked(self) -> Sequence[str]:
        """The gateway, once somebody serves; without one, two replicas, others each time."""
        answering, gateway = self.serving(), self._gateway()
        if gateway is not None:
            return [gateway] if answering or self.tally.answered else []
        first = next(self._turns) % max(1, len(answering))
        turned = [*answering[first:], *answering[:first]]
        return [replica.endpoint or "" for replica in turned[:2]]

    def _gateway(self) -> str | None:
        health, stable = self.daemon.routing.health(), self.daemon.routing.endpoint(self.model)
        if health is None or not health.running or stable is None:
            return None
        return stable.removesuffix("/v1")

    def _end(self) -> None:
        self.store.close()
        try:
            end_gateway(self._folder / GATEWAY)
            end_replicas(self._folder / REPLICAS, wait_s=1.0)
        except KeyboardInterrupt:
            self._hurry()

    def _hurry(self) -> NoReturn:
        """Kill the servers, and leave without waiting for anything else."""
        end_gateway(self._folder / GATEWAY)
        end_replicas(self._folder / REPLICAS, wait_s=0.0)
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(130)


def demo_settings(folder: Path, speed: float) -> Settings:
    """The settings of a demo; its folder is the data folder."""
    source = ProviderSettings(interval_s=POLL_S)
    return Settings(
        database_url=f"sqlite:///{folder / 'arbiter.db'}",
        data_dir=folder,
        profiles_dir=folder / PROFILES,
        executor="local",
        providers={"aws": source, "azure": source},
        policy=demo_policy(speed),
        daemon=DaemonSettings(tick_s=TICK_S),
        gateway=GatewaySettings(port=free_port(), state_dir=folder / GATEWAY, workers=1),
        simulated=True,
    )


def write_profile(model: str, folder: Path) -> None:
    """Write arbiter's own profile of that name to a folder, with a drain as short as the demo's."""
    import yaml

    source = resource_dir("templates") / "profiles" / f"{model}.yaml"
    profile = yaml.safe_load(source.read_text(encoding="utf-8"))
    profile["serving"] = {**(profile.get("serving") or {}), "drain_s": LEAVE_S}
    folder.mkdir()
    (folder / source.name).write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")


def demo_policy(speed: float) -> Policy:
    """A policy whose patience is counted in the time of the market."""

    def market(minutes: float) -> int:
        return max(1, round(minutes * 60 / speed))

    return Policy(
        name="demo",
        min_saving=Decimal("0.15"),
        min_stay_s=market(15),
        spread_premium=Decimal("0.6"),
        max_moves_per_day=1000,  # a day of the present is two months of the market
        fallback_window_s=max(15, market(15)),
        refusal_s=market(15),
        refusal_max_s=market(60),
        unhealthy_s=2,
    )
