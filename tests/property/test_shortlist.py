"""Bounds by which launches are left out unscored must never be below what one gains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.spot.mix import Mix, Risk
from arbiter.spot.shortlist import on_the_line

losses = st.floats(0.0, 0.9)


@st.composite
def risks(draw: st.DrawFn) -> Risk:
    """A place that loses no less often for being full."""
    loss, room = draw(losses), draw(st.sampled_from([0, 2, 3]))
    full = max(loss, draw(losses)) if room else loss
    region = draw(st.sampled_from(["", "north", "north", "south"]))
    return Risk(draw(st.floats(0.05, 1.5)), loss, room, full, region)


@st.composite
def mixes(draw: st.DrawFn) -> tuple[Mix, dict[str, Risk]]:
    """A mix of up to five pools, and the risks of these and of a new one."""
    names = [f"p{number}" for number in range(draw(st.integers(0, 5)))]
    known = {name: draw(risks()) for name in [*names, "new"]}
    counts = {name: draw(st.integers(1, 5)) for name in names}
    spare = sum(counts.values()) - draw(st.integers(0, 12))
    return Mix(known, spare, draw(st.sampled_from([0.0, 2.0, 20.0, 300.0])), counts), known


@given(mixes())
def test_a_line_is_the_score_with_a_pool_in_a_new_region(made: tuple[Mix, dict[str, Risk]]) -> None:
    mix, known = made
    new = known["new"]
    for place, (fixed, slope) in mix.lines().items():
        without = mix.without(place)
        score, line = without.score_with("new"), fixed + slope * new.at(1) + new.price
        if new.region and new.region in without.regions:
            assert line <= score + 1e-7
        else:
            assert line == pytest.approx(score, abs=1e-7)


@given(mixes())
def test_a_line_where_all_is_lost_is_the_score_without(made: tuple[Mix, dict[str, Risk]]) -> None:
    mix, _ = made
    for place, line in mix.lines().items():
        assert sum(line) == pytest.approx(mix.without(place).score, abs=1e-7)


@given(mixes())
def test_one_machine_more_is_no_better_than_its_bound(made: tuple[Mix, dict[str, Risk]]) -> None:
    mix, known = made
    for name, count in mix.counts.items():
        loss, less = on_the_line(known[name], count)
        for place, (fixed, slope) in mix.lines().items():
            if place != name:
                bound = fixed + slope * loss + known[name].price - less * mix.missing_cost
                assert mix.without(place).score_with(name) >= bound - 1e-7
