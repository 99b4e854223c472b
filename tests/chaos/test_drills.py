"""One fault at a time under 64 concurrent streams through the gateway: who loses an answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.chaos.drills import STREAMS, Drill, Drilled, drilling
from arbiter.chaos.load import CUT, FAILED
from arbiter.chaos.world import KEY
from arbiter.errors import GatewayError
from arbiter.gateway import binary


@pytest.fixture(autouse=True)
def _needs_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        binary.find()
    except GatewayError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("ARBITER_API_KEY", KEY)


def drilled(folder: Path, replicas: int, *steps: Callable[[Drill], object]) -> Drilled:
    with drilling(folder, replicas) as drill:
        for step in steps:
            step(drill)
    assert len(drill.done.outcomes) >= 2 * STREAMS
    assert len(drill.done.disturbances) == len(steps)
    return drill.done


def test_moves_to_and_fro_lose_nothing(tmp_path: Path) -> None:
    done = drilled(tmp_path, 1, Drill.move, Drill.move)
    assert not done.of(FAILED) + done.of(CUT)
    assert len({one.server for one in done.disturbances}) == 2, "the same machine moved twice"


def test_a_machine_taken_with_notice_loses_nothing(tmp_path: Path) -> None:
    done = drilled(tmp_path, 2, lambda drill: drill.give_notice(random.Random(1)))
    assert not done.of(FAILED) + done.of(CUT)


def test_a_machine_taken_without_a_word_cuts_only_what_it_had_begun(tmp_path: Path) -> None:
    done = drilled(tmp_path, 2, lambda drill: drill.reclaim(random.Random(1)))
    assert not done.of(FAILED)
    (taken,) = done.disturbances
    assert done.of(CUT), "half of the streams were on it"
    assert {one.server for one in done.of(CUT)} == {taken.server}
    assert taken.detected_s is not None
    assert taken.detected_s >= 0


def test_the_process_that_ticks_killed_within_a_move_loses_nothing(tmp_path: Path) -> None:
    done = drilled(tmp_path, 1, lambda drill: drill.kill_worker(random.Random(1)))
    assert not done.of(FAILED) + done.of(CUT)
