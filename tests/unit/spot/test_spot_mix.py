"""The score of a mix, against a count of every outcome."""

from __future__ import annotations

from itertools import product

import pytest

from arbiter.spot.mix import Mix, Risk, whole

RISKS = {
    "a": Risk(0.3, 0.1),
    "b": Risk(0.5, 0.02),
    "c": Risk(0.2, 0.7),
    "d": Risk(0.4, 0.45),
    "roomy": Risk(0.3, 0.1, room=2, full_loss=0.3),
    "on-demand": Risk(1.0, 0.0),
}
V = 20.0


def by_hand(counts: dict[str, int], replicas: int) -> float:
    """Price + V x missing, summed over all that can be lost."""
    outcomes = []
    for pool, count in counts.items():
        loss = RISKS[pool].at(count)
        outcomes.append(
            [(0, 1 - loss), (1, loss * (1 - whole(count))), (count, loss * whole(count))]
            if count
            else [(0, 1.0)]
        )
    running = sum(counts.values())
    missing = 0.0
    for one in product(*outcomes):
        lost = sum(number for number, _ in one)
        chance = 1.0
        for _, share in one:
            chance *= share
        missing += chance * max(0, replicas - running + lost)
    return sum(RISKS[pool].price * count for pool, count in counts.items()) + V * missing


def mix(counts: dict[str, int], replicas: int) -> Mix:
    return Mix(RISKS, sum(counts.values()) - replicas, V, counts)


CASES: list[tuple[dict[str, int], int]] = [
    ({}, 1),
    ({"a": 1}, 1),
    ({"a": 1, "b": 1}, 1),
    ({"a": 3, "b": 1}, 2),
    ({"a": 2, "c": 2, "d": 1}, 2),
    ({"a": 1, "b": 2, "c": 3, "d": 1}, 2),
    ({"a": 2, "on-demand": 2}, 3),
    ({"c": 4}, 1),
    ({"a": 1, "b": 1}, 5),
    ({"a": 1, "roomy": 1}, 1),
    ({"a": 1, "roomy": 2}, 2),
    ({"roomy": 3, "d": 1}, 2),
]


@pytest.mark.parametrize(("counts", "replicas"), CASES)
def test_the_score_is_the_sum_over_all_outcomes(counts: dict[str, int], replicas: int) -> None:
    assert mix(counts, replicas).score == pytest.approx(by_hand(counts, replicas), abs=1e-12)


@pytest.mark.parametrize(("counts", "replicas"), CASES)
def test_the_score_of_a_neighbour_is_its_own(counts: dict[str, int], replicas: int) -> None:
    here = mix(counts, replicas)
    for pool in RISKS:
        more = {**counts, pool: counts.get(pool, 0) + 1}
        assert here.score_with(pool) == pytest.approx(by_hand(more, replicas), abs=1e-12)
        assert here.with_one(pool).score == pytest.approx(by_hand(more, replicas), abs=1e-12)
        if counts.get(pool):
            less = {**counts, pool: counts[pool] - 1}
            assert here.score_with(pool, -1) == pytest.approx(by_hand(less, replicas), abs=1e-12)
            assert here.without(pool).score == pytest.approx(by_hand(less, replicas), abs=1e-12)


def test_neighbours_of_neighbours_still_agree() -> None:
    counts = {"a": 2, "b": 1, "d": 3}
    walked = mix(counts, 2)
    for pool, by in [("c", 1), ("a", -1), ("d", -1), ("a", -1), ("b", 1), ("on-demand", 1)]:
        expected = walked.score_with(pool, by)
        walked = walked.with_one(pool, by)
        counts[pool] = counts.get(pool, 0) + by
        assert walked.score == pytest.approx(expected, abs=1e-12)
        assert walked.score == pytest.approx(by_hand(counts, 2), abs=1e-12)


def test_a_spare_is_worth_what_it_covers() -> None:
    alone, doubled = mix({"a": 1}, 1), mix({"a": 1, "b": 1}, 1)
    assert alone.missing == pytest.approx(0.1)
    assert doubled.missing == pytest.approx(0.1 * 0.02)
