"""How the zones of a region lose machines together, against what was recorded of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.spot.regional import Exposed, combined, joined, parted, together

rare = st.floats(1e-4, 0.02)
losses = st.floats(0.0, 1.0)
pools = st.lists(st.builds(Exposed, st.integers(1, 3), losses), max_size=4)


def lost(*each: float) -> list[float]:
    """The probabilities that 0, 1, ... of one machine each in such pools of a region are lost."""
    return list(together([Exposed(1, loss) for loss in each], len(each) + 1))


@given(rare, rare)
def test_both_are_lost_three_tenths_as_often_as_the_safer_one(one: float, other: float) -> None:
    by_chance = 0.16 * one * other  # what is left of each by itself
    assert lost(one, other)[2] == pytest.approx(0.3 * min(one, other) + by_chance, rel=0.03)


def test_of_three_exactly_two_are_lost_three_times_as_often_as_all() -> None:
    _, _, two, three = lost(1e-4, 1e-4, 1e-4)
    assert two / three == pytest.approx(44 / 13, rel=0.15)


@given(pools)
def test_what_a_pool_loses_is_no_more_and_no_less_for_its_neighbours(found: list[Exposed]) -> None:
    length = sum(one.machines for one in found) + 1
    alone = [1.0] + [0.0] * (length - 1)
    for one in found:
        alone = joined(alone, *one)
    few = together(found, length)
    assert sum(few) == pytest.approx(1.0)
    assert min(few) >= -1e-12
    assert _mean(few) == pytest.approx(_mean(alone), abs=1e-9)


@given(pools, st.integers(0, 4))
def test_with_neighbours_no_fewer_are_missing(found: list[Exposed], spare: int) -> None:
    length = sum(one.machines for one in found) + 1
    alone = [1.0] + [0.0] * (length - 1)
    for one in found:
        alone = joined(alone, *one)
    assert _beyond(together(found, length), spare) >= _beyond(alone, spare) - 1e-9


@given(pools, st.lists(st.floats(0.0, 0.4), max_size=3))
def test_what_was_combined_is_parted_again(found: list[Exposed], region: list[float]) -> None:
    few = list(together(found, 8))
    other = together([Exposed(1, loss) for loss in region], 8)
    if other[0] >= 0.55:
        assert parted(combined(few, other), other) == pytest.approx(few, abs=1e-9)


def _mean(few: list[float]) -> float:
    return sum(number * share for number, share in enumerate(few))


def _beyond(few: list[float], spare: int) -> float:
    return sum(max(0, number - spare) * share for number, share in enumerate(few))
