"""Brings faults about, and takes back those that end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from arbiter.chaos.faults import LASTING, Fault, Kind
from arbiter.chaos.watch import Watch
from arbiter.chaos.world import FORBIDDEN, LEAVE_S, NOTICE_S, REGIONS, Conditions, World
from arbiter.domain import ReplicaState
from arbiter.errors import ArbiterError
from arbiter.gateway.process import Runs

RESPAWN_S = 0.8
DISTURBS = (Kind.DATABASE_CUT, Kind.CLOCK_STEP)
CLOCKS_S = (-3600.0, -90.0, 90.0, 3600.0)
CUT_AT_MOST_S = 1.0
STARVED_S = 0.5
"""Who looks every twentieth of a second and comes so late shows that nobody gets a processor."""


class Arranger:
    """Does to a run what its schedule says.

    Attributes:
        worker: the process that ticks, None while it is dead.
    """

    def __init__(self, world: World, watch: Watch, start_worker: Callable[[], int]) -> None:
        self.worker: int | None = None
        self._world, self._watch = world, watch
        self._start_worker = start_worker
        self._executor = world.executor()
        self._done: set[Fault] = set()
        self._respawn_at: float | None = None
        self._taken_at: dict[str, float] = {}
        self._disturbed_at = 0.0
        self._applied_at = time.monotonic()
        self._active: tuple[Fault, ...] = ()

    def apply(self, faults: Sequence[Fault], at: float) -> None:
        """Bring about what is due so many seconds after the begin."""
        for fault in faults:
            if fault.at <= at and fault.kind not in LASTING and fault not in self._done:
                self._done.add(fault)
                self._strike(fault)
        active = tuple(one for one in faults if one.kind in LASTING and one.at <= at < _ends(one))
        if active != self._active:
            self._active = active
            self._arrange(active)
        self._take_what_was_announced()
        self._respawn()
        cut = any(one.kind is Kind.DATABASE_CUT for one in self._active)
        self._watch.able = self.worker is not None and not cut
        now = time.monotonic()
        starved = now - self._applied_at > STARVED_S
        if starved or not self._watch.able or any(one.kind in DISTURBS for one in self._active):
            self._disturbed_at = now
        self._applied_at = now

    def heal(self) -> None:
        """Take back everything that lasts."""
        self._active = ()
        self._arrange(())
        self.apply((), 0.0)

    def end_worker(self) -> None:
        """Kill it, if it runs."""
        if self.worker is not None:
            with suppress(ProcessLookupError):
                os.kill(self.worker, signal.SIGKILL)
            os.waitpid(self.worker, 0)
            self.worker = None

    # --- at an instant --------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        if fault.kind is Kind.DAEMON_KILLED:
            if self.worker is not None:
                self.end_worker()
                self._respawn_at = time.monotonic() + fault.draw * RESPAWN_S
        elif fault.kind is Kind.GATEWAY_KILLED:
            self._watch.gateway_killed()
            current = Runs(self._world.settings.gateway_dir, 1.0, lambda _run: None).newest()
            if current is not None:
                current.folder.kill()
        else:
            self._hit(fault)

    def _hit(self, fault: Fault) -> None:
        standing = sorted(self._watch.standing)
        healthy = [
            one.cluster
            for one in self._watch.replicas
            if one.state is ReplicaState.HEALTHY and one.cluster in self._watch.standing
        ]
        if fault.kind is Kind.NOTICE and healthy:
            victim = healthy[int(fault.draw * len(healthy))]
            if victim not in self._taken_at and self._executor.give_notice(victim, NOTICE_S):
                self._taken_at[victim] = time.monotonic() + NOTICE_S
        elif fault.kind is Kind.RECLAIM and standing:
            self._reclaim(standing[int(fault.draw * len(standing))])

    def _take_what_was_announced(self) -> None:
        now = time.monotonic()
        for cluster, at in list(self._taken_at.items()):
            if now < at:
                continue
            del self._taken_at[cluster]
            # Unless nobody could act on the notice, only what had lasted too long to be let end.
            acted = now - self._disturbed_at >= NOTICE_S + 1 and now - at < STARVED_S
            self._watch.may_cut(time.time(), LEAVE_S if acted else 0.0)
            with suppress(ArbiterError):
                self._executor.reclaim(cluster)

    def _reclaim(self, cluster: str) -> None:
        self._watch.may_cut(time.time())
        with suppress(ArbiterError):
            self._executor.reclaim(cluster)

    def _respawn(self) -> None:
        if self.worker is not None:
            ended, _ = os.waitpid(self.worker, os.WNOHANG)
            if ended:
                self.worker = None
                self._respawn_at = time.monotonic()
        if self.worker is None and (
            self._respawn_at is None or time.monotonic() >= self._respawn_at
        ):
            self.worker = self._start_worker()

    # --- while it lasts -------------------------------------------------------------------------

    def _arrange(self, active: Sequence[Fault]) -> None:
        capacity, elsewhere = {}, {}
        dear, stale, denied = set(), set(), set()
        clock_s, cut = 0.0, False
        for fault in active:
            region = REGIONS[int(fault.draw * len(REGIONS))]
            place = _place(region)
            if fault.kind is Kind.REFUSED:
                capacity["aws:spot" if fault.draw > 0.8 else place] = "none"
            elif fault.kind is Kind.HUNG:
                capacity[place] = "hangs"
            elif fault.kind is Kind.MISPLACED:
                if not self._stands_in(region):
                    elsewhere[place] = {"region": FORBIDDEN[0], "zone": FORBIDDEN[1]}
            elif fault.kind is Kind.PRICE_SPIKE:
                dear.add(region)
            elif fault.kind is Kind.PROVIDER_DOWN:
                stale.add("aws" if fault.draw < 0.5 else "azure")
            elif fault.kind is Kind.RULE_WITHDRAWN:
                denied.add(region)
            elif fault.kind is Kind.CLOCK_STEP:
                clock_s = CLOCKS_S[int(fault.draw * len(CLOCKS_S))]
            elif fault.kind is Kind.DATABASE_CUT:
                cut = True
        self._executor.set_capacity(capacity)
        self._executor.set_misplaced(elsewhere)
        self._world.arrange(
            Conditions(
                tuple(sorted(dear)), tuple(sorted(stale)), tuple(sorted(denied)), clock_s, cut
            )
        )

    def _stands_in(self, region: str) -> bool:
        """A machine that stands does not wander: only later ones are misplaced."""
        return any(one.offer.region == region for one in self._watch.replicas)


def _place(region: str) -> str:
    return f"{'azure' if region == 'swedencentral' else 'aws'}/{region}"


def _ends(fault: Fault) -> float:
    lasts = min(fault.lasts, CUT_AT_MOST_S) if fault.kind is Kind.DATABASE_CUT else fault.lasts
    return fault.at + lasts
