"""Other systems' policies and simple ones, to compare with. All but the first fall back on demand.

SpotHedge is the policy of SkyServe (EuroSys'25, arXiv 2411.01438): zones that lately lost or
refused a machine are left alone while others are left, and on-demand machines stand in for spot
replicas that are not ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from arbiter.backtest.view import (
    FOREVER,
    Buy,
    End,
    Instance,
    Launch,
    Orders,
    Setting,
    View,
)

FEW_ZONES = 3


class OnDemand:
    """All replicas on demand, all the time."""

    def __init__(self, setting: Setting) -> None:
        del setting

    def tick(self, view: View) -> Orders:
        """As many on demand as are asked for."""
        yield from _stand_in(view, view.replicas)
        return FOREVER


class SpotHedge:
    """N + X spot replicas in the cheapest zone not in use; on demand for what is not ready.

    Args:
        extra: X, spot replicas beyond those asked for.
        cap: zones dearer than this share of the on-demand price are left out; None: none is.
        least: where fewer zones than this are trusted, all are again. SkyPilot has 2. Of two or
            three zones that would shun none for long and never reach the dearest, so there the
            default is 1: the shunned come back when none is left.
    """

    def __init__(
        self,
        setting: Setting,
        extra: int = 0,
        cap: float | None = None,
        least: int | None = None,
    ) -> None:
        self._least = least or (1 if len(setting.zones) <= FEW_ZONES else 2)
        self._extra = extra
        self._most = None if cap is None else cap * setting.on_demand_micros
        self._active = list(range(len(setting.zones)))
        self._shunned: list[int] = []

    def tick(self, view: View) -> Orders:
        """Launch what is missing, and let on-demand machines follow."""
        for instance in view.lost:
            if instance.zone is not None:
                self._shun(instance.zone)
        for instance in view.spot:
            if instance.ready_at == view.tick and instance.zone is not None:
                self._trust(instance.zone)
        held = list(view.spot)
        yield from _end_surplus(view, held, view.replicas + self._extra)
        while len(held) < view.replicas + self._extra and view.attempts:
            zone = self._choose(view.prices, held)
            if zone is None:
                break
            outcome = yield Launch(zone)
            if isinstance(outcome, Instance):
                held.append(outcome)
                if view.is_ready(outcome):
                    self._trust(zone)
            else:
                self._shun(zone)
        ready = sum(map(view.is_ready, held))
        wanted = min(view.replicas, max(0, view.replicas + self._extra - ready))
        yield from _stand_in(view, wanted)
        complete = len(held) >= view.replicas + self._extra
        return FOREVER if complete else None

    def _shun(self, zone: int) -> None:
        if zone in self._active:
            self._active.remove(zone)
            self._shunned.append(zone)
        if len(self._active) < self._least:
            self._active += self._shunned
            self._shunned = []

    def _trust(self, zone: int) -> None:
        if zone in self._shunned:
            self._shunned.remove(zone)
            self._active.append(zone)

    def _choose(self, prices: Sequence[int], held: Sequence[Instance]) -> int | None:
        used = {one.zone for one in held}
        open_ = [zone for zone in self._active if self._most is None or prices[zone] <= self._most]
        return min(open_, key=lambda zone: (zone in used, prices[zone], zone), default=None)


class EvenSpread:
    """Each launch goes to the zone with the fewest of ours, whatever it costs and did before."""

    def __init__(self, setting: Setting) -> None:
        self._zones = range(len(setting.zones))

    def tick(self, view: View) -> Orders:
        """Launch what is missing; a zone that refuses is passed over until the next tick."""
        held = list(view.spot)
        count = Counter(one.zone for one in held)
        yield from _end_surplus(view, held, view.replicas)
        willing = list(self._zones)
        while len(held) < view.replicas and view.attempts and willing:
            zone = min(willing, key=lambda one: (count[one], one))
            outcome = yield Launch(zone)
            if isinstance(outcome, Instance):
                held.append(outcome)
                count[zone] += 1
            else:
                willing.remove(zone)
        yield from _stand_in(view, max(0, view.replicas - sum(map(view.is_ready, held))))
        return FOREVER if len(held) >= view.replicas else None


class RoundRobin:
    """Each launch goes to the zone after the last one that was tried."""

    def __init__(self, setting: Setting) -> None:
        self._zones = len(setting.zones)
        self._next = 0

    def tick(self, view: View) -> Orders:
        """Launch what is missing, going round."""
        held = list(view.spot)
        yield from _end_surplus(view, held, view.replicas)
        while len(held) < view.replicas and view.attempts:
            outcome = yield Launch(self._next)
            self._next = (self._next + 1) % self._zones
            if isinstance(outcome, Instance):
                held.append(outcome)
        yield from _stand_in(view, max(0, view.replicas - sum(map(view.is_ready, held))))
        return FOREVER if len(held) >= view.replicas else None


class SingleZone:
    """Everything in the zone that was the cheapest at the beginning."""

    def __init__(self, setting: Setting) -> None:
        del setting
        self._zone: int | None = None

    def tick(self, view: View) -> Orders:
        """Fill the one zone."""
        if self._zone is None:
            self._zone = min(range(len(view.prices)), key=lambda zone: (view.prices[zone], zone))
        held = list(view.spot)
        yield from _end_surplus(view, held, view.replicas)
        while len(held) < view.replicas:
            outcome = yield Launch(self._zone)
            if not isinstance(outcome, Instance):
                break
            held.append(outcome)
        yield from _stand_in(view, max(0, view.replicas - sum(map(view.is_ready, held))))
        return FOREVER if len(held) >= view.replicas else None


def _stand_in(view: View, wanted: int) -> Orders:
    """Hold so many on demand: launch what is missing, end what is too much, the newest first."""
    held = view.on_demand
    for _ in range(wanted - len(held)):
        yield Buy()
    for instance in held[wanted:]:
        yield End(instance.id)
    return None


def _end_surplus(view: View, held: list[Instance], wanted: int) -> Orders:
    """End spot machines beyond so many: what is not ready yet first, then the dearest."""
    surplus = len(held) - wanted
    if surplus > 0:
        for instance in sorted(held, key=lambda one: _worth(view, one))[:surplus]:
            held.remove(instance)
            yield End(instance.id)
    return None


def _worth(view: View, instance: Instance) -> tuple[bool, int, int]:
    assert instance.zone is not None
    return (view.is_ready(instance), -view.prices[instance.zone], -instance.id)
