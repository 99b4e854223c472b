"""The number of replicas under a load that does its worst: bounded, and never to and fro."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.scaling import Load, Reaction, Scaling, noted, target

START = datetime(2026, 11, 2, tzinfo=UTC)
TICK_S = 10
REACTION = Reaction()
PER_REPLICA = 8.0

scalings = st.builds(
    lambda low, more, idle: Scaling(low, max(1, low + more), idle_s=idle),
    st.integers(0, 4),
    st.integers(0, 6),
    st.sampled_from([60.0, 300.0, 900.0]),
)
# Each step is a load, and for how many ticks it stands.
loads = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 50)), min_size=1, max_size=60)


@dataclass
class Run:
    """What became of a service: every change as (tick, from, to)."""

    changes: list[tuple[int, int, int]] = field(default_factory=list)
    ticks: int = 0
    peaks: list[int] = field(default_factory=list)

    @property
    def downs(self) -> list[int]:
        return [tick for tick, before, after in self.changes if after < before]

    @property
    def ups(self) -> list[int]:
        return [tick for tick, before, after in self.changes if after > before]


def live(scaling: Scaling, steps: list[tuple[int, int]]) -> Run:
    """A service that follows its load, one look every tick."""
    run, history, now, passed = Run(), list[Load](), START, 0
    current = max(1, scaling.min)
    for requests, ticks in steps:
        for _ in range(ticks):
            now += timedelta(seconds=TICK_S)
            passed += requests
            last = history[-1] if history else None
            newest = noted(last, now, requests, passed, REACTION)
            history = [one for one in history if one.since != newest.since]
            history = [one for one in history if one.until >= now - REACTION.memory] + [newest]
            found = target(now, scaling, current, PER_REPLICA, history, {}, REACTION).replicas
            assert scaling.max is not None
            assert scaling.min <= found <= scaling.max
            if found != current:
                run.changes.append((run.ticks, current, found))
            current = found
            run.peaks.append(requests)
            run.ticks += 1
    return run


@settings(max_examples=150, deadline=None)
@given(scalings, loads)
def test_a_replica_that_was_added_stays_for_the_stabilisation_window(
    scaling: Scaling, steps: list[tuple[int, int]]
) -> None:
    """Or for the idle time, where that is shorter: it was ordered to."""
    run = live(scaling, steps)
    shortest = min(REACTION.down_s, scaling.idle_s if scaling.min == 0 else REACTION.down_s)
    for down in run.downs:
        before = [up for up in run.ups if up < down]
        if before:
            assert (down - before[-1]) * TICK_S >= shortest


@settings(max_examples=150, deadline=None)
@given(scalings, loads)
def test_changes_are_bounded_whatever_the_load(
    scaling: Scaling, steps: list[tuple[int, int]]
) -> None:
    """Each turn from up to down takes a whole window, and between two turns it goes one way."""
    run = live(scaling, steps)
    assert scaling.max is not None
    shortest = min(REACTION.down_s, scaling.idle_s if scaling.min == 0 else REACTION.down_s)
    turns = 1 + run.ticks * TICK_S / shortest
    travelled = sum(abs(after - before) for _, before, after in run.changes)
    assert travelled <= 2 * (scaling.max - scaling.min) * (turns + 1)


@settings(max_examples=100, deadline=None)
@given(scalings, st.integers(0, 120), st.integers(0, 8))
def test_a_steady_load_comes_to_rest(scaling: Scaling, requests: int, begun: int) -> None:
    """With what it needs, and no more than one replica of tolerance above."""
    first = [(begun * 8, 60)]
    run = live(scaling, [*first, (requests, 300)])
    late = [change for change in run.changes if change[0] > 60 + 100]
    assert late == []


@settings(max_examples=100, deadline=None)
@given(scalings, loads)
def test_what_was_needed_within_the_window_is_not_ended(
    scaling: Scaling, steps: list[tuple[int, int]]
) -> None:
    """No end leaves fewer than any whole minute of the last five needed, but for the tolerance."""
    run = live(scaling, steps)
    window, minute = int(REACTION.down_s // TICK_S), int(REACTION.up_s // TICK_S)
    for tick, _, after in run.changes:
        if tick in run.downs and after > 0:
            lately = run.peaks[max(0, tick - window) : tick + 1]
            minutes = [
                sum(lately[start : start + minute]) / minute
                for start in range(len(lately) - minute + 1)
            ]
            needed = max(minutes, default=0.0)
            assert after >= min(needed / PER_REPLICA, scaling.max or 0) - 1e-6
