"""Small markets for tests, written in as few words as they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from arbiter.backtest import Market, Orders, Setting, View, Zone
from arbiter.backtest.markets import Change, checked

ON_DEMAND = 1_000_000
"""One USD an hour, so that prices below are shares of it."""


def market(
    zones: Mapping[str, Sequence[tuple[int, int] | tuple[int, int, int]]],
    ticks: int = 600,
    regions: Mapping[str, str] | None = None,
) -> Market:
    """A market of zones, each a list of (tick, available) or (tick, available, micros).

    A price that is not given is the one before it, and 400,000 at first.
    """
    changes = []
    for number, steps in enumerate(zones.values()):
        micros = 400_000
        for step in steps:
            micros = step[2] if len(step) > 2 else micros
            changes.append(Change(step[0] * 60, number, step[1], micros))
    return checked(
        Market(
            name="made",
            provider="nobody",
            start=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=ticks * 60,
            tick_s=60,
            on_demand_micros=ON_DEMAND,
            zones=tuple(Zone(name, (regions or {}).get(name, "r")) for name in zones),
            changes=tuple(sorted(changes)),
            notes=("made for a test",),
        ),
        "made",
    )


class Scripted:
    """A policy that gives the orders of a script: tick -> orders. It keeps what it was told."""

    def __init__(self, script: Mapping[int, Iterable[object]]) -> None:
        self.script = script
        self.views: list[View] = []
        self.outcomes: list[object] = []

    def __call__(self, setting: Setting) -> Scripted:
        self.setting = setting
        return self

    def tick(self, view: View) -> Orders:
        self.views.append(view)
        for order in self.script.get(view.tick, ()):
            outcome = yield order  # type: ignore[misc]
            self.outcomes.append(outcome)
        return None
