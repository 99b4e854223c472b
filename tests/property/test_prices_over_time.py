"""Every figure over time equals what one counts second by second."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arbiter.prices.steps import (
    BASIS,
    Steps,
    changed,
    divided,
    divided_all,
    drawn,
    joined,
    split,
    weighted,
    within,
)

END = 60

Second = int | None
"""A price at a second, or None where none stood."""

timelines = st.lists(
    st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=END, max_size=END),
    min_size=1,
    max_size=3,
)


def steps_of(lines: list[list[Second]]) -> Steps:
    """Rows of whatever length, as a poll writes them: here every second, then joined."""
    rows = [
        (number, second, second + 1, price)
        for number, line in enumerate(lines)
        for second, price in enumerate(line)
        if price is not None
    ]
    columns = np.asarray(rows, np.int64).reshape(-1, 4).T
    return joined(Steps(*columns))


def seconds_of(steps: Steps, lines: int) -> list[list[Second]]:
    found: list[list[Second]] = [[None] * END for _ in range(lines)]
    columns = (steps.line, steps.begin, steps.end, steps.micros)
    for number, begin, end, micros in zip(*(one.tolist() for one in columns), strict=True):
        for second in range(begin, end):
            assert found[number][second] is None, "two prices at once"
            found[number][second] = micros
    return found


@given(timelines)
def test_joining_changes_nothing_and_leaves_no_row_too_many(lines: list[list[Second]]) -> None:
    steps = steps_of(lines)
    assert seconds_of(steps, len(lines)) == lines
    beginnings = sum(
        price is not None and (second == 0 or line[second - 1] != price)
        for line in lines
        for second, price in enumerate(line)
    )
    assert len(steps) == beginnings


@given(timelines, st.integers(0, END - 1), st.integers(1, END))
def test_a_window_begins_with_the_price_that_was_carried_in(
    lines: list[list[Second]], begin: int, length: int
) -> None:
    end = min(END, begin + length)
    inside = within(steps_of(lines), begin, end)
    assert seconds_of(inside, len(lines)) == [
        [price if begin <= second < end else None for second, price in enumerate(line)]
        for line in lines
    ]


@given(timelines, st.sets(st.integers(1, END - 1)))
def test_cutting_changes_no_second_and_names_the_cell_of_each(
    lines: list[list[Second]], cuts: set[int]
) -> None:
    bounds = np.asarray([0, *sorted(cuts), END], np.int64)
    cut, cell = split(steps_of(lines), bounds)
    assert seconds_of(cut, len(lines)) == lines
    assert (bounds[cell] <= cut.begin).all()
    assert (cut.end <= bounds[cell + 1]).all()


@given(timelines, st.integers(0, BASIS))
def test_a_quantile_is_the_lowest_price_that_held_for_that_share(
    lines: list[list[Second]], share: int
) -> None:
    steps = steps_of(lines)
    groups = len(lines) + 1  # the last one has no rows
    found = weighted(steps, steps.line, groups)
    for line, answer in zip([*lines, []], found.quantile(share), strict=True):
        prices = sorted(price for price in line if price is not None)
        expected = next(
            (
                price
                for rank, price in enumerate(prices, 1)
                if Fraction(rank, len(prices)) >= Fraction(share, BASIS)
            ),
            None,
        )
        assert answer == expected


@given(timelines, st.integers(1, 5))
def test_means_and_shares_are_counted_by_the_second(lines: list[list[Second]], price: int) -> None:
    steps = steps_of(lines)
    found = weighted(steps, np.zeros(len(steps), np.int64), 1)
    prices = [price for line in lines for price in line if price is not None]
    assert found.seconds.tolist() == [len(prices)]
    assert found.seconds_below(price).tolist() == [sum(one < price for one in prices)]
    expected = divided(sum(prices), len(prices)) if prices else None
    assert found.mean() == [expected]


@given(timelines)
def test_a_change_is_from_one_price_to_another_at_once(lines: list[list[Second]]) -> None:
    expected = sum(
        before is not None and after is not None and before != after
        for line in lines
        for before, after in pairwise(line)
    )
    assert changed(steps_of(lines)).sum() == expected


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    expected = round(Fraction(numerator, denominator))
    assert divided(numerator, denominator) == expected
    assert divided_all(np.asarray([numerator]), denominator).tolist() == [expected]


@given(st.integers(1 << 38, 1 << 39), st.integers(1, 40), st.integers(1, 1 << 33))
def test_the_mean_of_great_sums_is_exact(micros: int, rows: int, seconds: int) -> None:
    """Twelve thousand series over years leave 64 bits."""
    begin = np.arange(rows, dtype=np.int64) * seconds
    prices = micros + np.arange(rows, dtype=np.int64)
    steps = Steps(np.zeros(rows, np.int64), begin, begin + seconds, prices)
    found = weighted(steps, np.zeros(rows, np.int64), 1)
    assert found.mean() == [round(Fraction(sum(prices.tolist()), rows))]


@given(st.lists(st.integers(1, 9), min_size=5, max_size=200), st.integers(4, 40))
def test_a_drawing_keeps_both_ends_and_every_extreme(prices: list[int], most: int) -> None:
    begin = np.arange(len(prices), dtype=np.int64) * 7
    kept = drawn(begin, np.asarray(prices, np.int64), most)
    shown = [prices[place] for place in kept.tolist()]
    assert len(kept) <= max(most, 4)
    assert (kept[0], kept[-1]) == (0, len(prices) - 1)
    assert (min(shown), max(shown)) == (min(prices), max(prices))
