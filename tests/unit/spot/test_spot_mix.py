"""The score of a mix, against a count of every outcome."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest

from arbiter.spot.mix import Mix, Risk
from arbiter.spot.regional import HIT, SHOCKS, whole

RISKS = {
    "a": Risk(0.3, 0.1),
    "b": Risk(0.5, 0.02),
    "c": Risk(0.2, 0.7),
    "d": Risk(0.4, 0.45),
    "roomy": Risk(0.3, 0.1, room=2, full_loss=0.3),
    "north-1": Risk(0.3, 0.04, region="north"),
    "north-2": Risk(0.3, 0.2, region="north"),
    "north-3": Risk(0.2, 0.8, region="north"),
    "south-1": Risk(0.3, 0.1, room=2, full_loss=0.3, region="south"),
    "south-2": Risk(0.35, 0.1, region="south"),
    "on-demand": Risk(1.0, 0.0),
}
V = 20.0


def fates(region: str, losses: dict[str, float]) -> Iterator[tuple[float, dict[str, float]]]:
    """What can become of a region: how likely, and how likely each of its pools is lost then."""
    if not region or len(losses) == 1:
        yield 1.0, losses
        return
    struck = {pool: SHOCKS * min(loss, HIT) for pool, loss in losses.items()}
    for low, high in pairwise([0.0, *sorted(struck.values()), 1.0]):
        yield (
            high - low,
            {
                pool: max(HIT, loss)
                if struck[pool] >= high
                else (loss - struck[pool] * max(HIT, loss)) / (1 - struck[pool])
                for pool, loss in losses.items()
            },
        )


def by_hand(counts: dict[str, int], replicas: int) -> float:
    """Price + V x missing, summed over all that can be lost."""
    regions: dict[str, dict[str, float]] = {}
    for pool, count in counts.items():
        if count:
            regions.setdefault(RISKS[pool].region, {})[pool] = RISKS[pool].at(count)
    running = sum(counts.values())
    missing = 0.0
    for worlds in product(*(list(fates(*one)) for one in regions.items())):
        losses = {pool: loss for _, part in worlds for pool, loss in part.items()}
        outcomes = [
            [(0, 1 - loss), (1, loss * (1 - whole(n))), (n, loss * whole(n))]
            for pool, loss in losses.items()
            for n in [counts[pool]]
        ]
        for one in product(*outcomes):
            chance = 1.0
            for share, _ in (*worlds, *((share, None) for _, share in one)):
                chance *= share
            missing += chance * max(0, replicas - running + sum(number for number, _ in one))
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
    ({"north-1": 1}, 1),
    ({"north-1": 1, "north-2": 1}, 1),
    ({"north-1": 2, "north-2": 1, "north-3": 1}, 2),
    ({"north-1": 1, "north-2": 1, "south-1": 1, "south-2": 1}, 3),
    ({"south-1": 2, "south-2": 3, "a": 1, "north-3": 1, "on-demand": 1}, 4),
    ({"south-1": 2, "north-2": 1}, 5),
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


def test_a_spare_in_the_same_region_covers_less() -> None:
    both = {"north-1": Risk(0.3, 0.04, region="north"), "north-2": Risk(0.3, 0.2, region="north")}
    apart = {**both, "north-2": Risk(0.3, 0.2, region="west")}
    here, there = (Mix(risks, 1, V, {"north-1": 1, "north-2": 1}) for risks in (both, apart))
    assert there.missing == pytest.approx(0.04 * 0.2)
    assert here.missing > SHOCKS * HIT**2 * 0.04 > there.missing  # most of them by shocks


def test_a_spare_is_worth_what_it_covers() -> None:
    alone, doubled = mix({"a": 1}, 1), mix({"a": 1, "b": 1}, 1)
    assert alone.missing == pytest.approx(0.1)
    assert doubled.missing == pytest.approx(0.1 * 0.02)
