"""What `arbiter explain` shows of what was learnt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arbiter.believed import believed, believed_lines, measured_rates, rate_line
from arbiter.calibration import Busy, kind
from arbiter.spot.beliefs import Beliefs, Event, Happened, hazard, learn

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def told(*events: tuple[float, str, Happened]) -> Beliefs:
    """Beliefs after events, given as hours before AT."""
    return learn(
        Beliefs(),
        [
            Event(AT.timestamp() - hours * 3600, pool, "aws/eu-north-1", kind, 1, 1)
            for hours, pool, kind in events
        ],
    )


def test_nothing_learnt_shows_nothing() -> None:
    assert believed(Beliefs(), AT) == []
    assert believed_lines([]) == []


def test_open_pools_come_first_and_the_lost_one_is_closed_since_its_loss() -> None:
    rows = believed(
        told(
            (9, "lost", Happened.GAVE),
            (2, "lost", Happened.LOST),
            (1, "stands", Happened.GAVE),
            (0, "stands", Happened.STANDS),
        ),
        AT,
    )
    assert [(row.pool, row.open) for row in rows] == [("stands", True), ("lost", False)]
    assert rows[1].age_h == pytest.approx(2)
    assert rows[0].losses_per_h == pytest.approx(hazard(rows[0].age_h, rows[0].factor))
    assert rows[1].losses_per_h > rows[0].losses_per_h


def test_the_lines_say_how_many_are_left_out() -> None:
    rows = believed(told(*((1, f"pool {n}", Happened.GAVE) for n in range(12))), AT)
    lines = believed_lines(rows)
    assert len(lines) == 9
    assert lines[-1] == "and 4 more: --json shows all"
    assert "losses an hour" in lines[0]


def test_measured_rates_of_the_model_are_told_with_what_they_count_for() -> None:
    beliefs = learn(
        Beliefs(),
        [
            Busy(AT.timestamp(), kind("llama8b", "bf16", "H100", 1), 600, 420_000, 1000.0),
            Busy(AT.timestamp(), kind("other", "bf16", "H100", 1), 600, 420_000, 1000.0),
        ],
    )
    (row,) = measured_rates(beliefs, "llama8b", AT)
    assert (row.gpu, row.gpu_count, row.measured, row.factor) == ("H100", 1, 0.7, 0.85)
    assert rate_line(row) == (
        "measured on H100 x1 as bf16: 0.70 of the estimate in 10.0 busy minutes, "
        "last at 2026-11-01 12:00 UTC, counted as 0.85"
    )
    assert measured_rates(Beliefs(), "llama8b", AT) == []
