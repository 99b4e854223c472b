"""How far a price may step, alone and with its region, and for how long a doubt stands."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter import gate
from arbiter.domain import Purchase
from arbiter.gate import Known, Move, moves, series_key
from arbiter.provider import PricedOffer
from arbiter.testing import priced

OD = Purchase.ON_DEMAND


def move(ratio: float, **facts: object) -> Move:
    offer = priced(usd=f"{2 * ratio:.6f}", **facts)  # type: ignore[arg-type]
    return Move(series_key(offer), offer, 2_000_000, offer.price.micros / 2_000_000)


def region(ratios: list[tuple[float, int]], name: str = "eu-north-1") -> list[Move]:
    """A move for each (ratio, number of GPUs)."""
    return [
        move(ratio, region=name, instance_type=f"m{index}", gpu_count=count)
        for index, (ratio, count) in enumerate(ratios)
    ]


def all_of(moved: list[Move], more: int = 0) -> Callable[[], Known]:
    """The known offers: those that moved, and some that did not."""
    parts = Counter((one.key[1], one.key[4]) for one in moved)
    large = Counter((one.key[1], one.key[4]) for one in moved if one.offer.gpu_count > 1)
    for part in parts:
        parts[part] += more
    return lambda: Known(parts, large)


HERE = ("eu-north-1", "spot")


@pytest.mark.parametrize(
    ("purchase", "ratio", "far"),
    [
        (Purchase.SPOT, 4.9, False),
        (Purchase.SPOT, 1 / 4.9, False),
        (Purchase.SPOT, 5.1, True),
        (Purchase.SPOT, 1 / 5.1, True),
        (OD, 0.5, False),  # a list price that is halved
        (OD, 2.9, False),
        (OD, 3.1, True),
        (OD, 1 / 7.2, True),  # a placeholder of 0.50 for a machine of 3.59
    ],
)
def test_a_step_is_far_beyond_what_was_seen_to_be_true(
    purchase: Purchase, ratio: float, far: bool
) -> None:
    assert gate.is_far(move(ratio, purchase=purchase)) is far


def test_only_offers_with_another_price_have_moved() -> None:
    same, dearer, new = (priced(instance_type=name, usd="2") for name in ("a", "b", "c"))
    past = {series_key(same): 2_000_000, series_key(dearer): 1_000_000}
    assert [(one.offer, one.ratio) for one in moves([same, dearer, new], past)] == [(dearer, 2.0)]


def test_a_step_within_reach_of_the_last_90_days_is_believed() -> None:
    step = move(10)
    assert gate.doubt(step, 2_000_000, 2_000_000, None) == gate.FAR_FROM_PAST
    assert gate.doubt(step, 2_000_000, 5_000_000, None) is None
    assert gate.doubt(step, None, None, None) is None


def test_peers_decide_how_long_a_doubt_stands() -> None:
    offer = priced(usd="8", gpu_count=2)
    assert gate.agreement(offer, [4_000_000] * 4) is None
    assert gate.agreement(offer, [3_000_000] * 5) is True
    assert gate.agreement(offer, [1_000_000] * 5) is False
    reason = gate.doubt(move(10), 2_000_000, 2_000_000, False)
    assert reason == gate.FAR_FROM_BOTH
    agree = gate.patience(gate.FAR_FROM_PAST, True)
    unknown = gate.patience(gate.FAR_FROM_PAST, None)
    against = gate.patience(gate.FAR_FROM_BOTH, False)
    assert agree is not None
    assert unknown is not None
    assert against is not None
    assert agree.seconds < unknown.seconds < against.seconds


@pytest.mark.parametrize(("polls", "seconds", "over"), [
    (3, 3600, True), (2, 9e9, False), (99, 3599, False),
])  # fmt: skip
def test_patience_asks_for_polls_and_for_time(polls: int, seconds: float, over: bool) -> None:
    assert gate.Patience(3, 3600).is_over(polls, seconds) is over


def test_what_cannot_be_a_price_is_never_believed() -> None:
    assert gate.patience(gate.WORTHLESS, None) is None


# --- regions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [100, 0.01, 1000, 10, 0.1])
def test_most_of_a_region_by_the_same_power_of_ten_is_a_slip(factor: float) -> None:
    moved = region([(factor * 1.02, 1), (factor, 1), (factor * 0.97, 1)])
    assert gate.slipped_parts(moved, all_of(moved, 2)) == {HERE: gate.POWER_OF_TEN}


def test_a_few_of_a_region_are_no_slip_of_the_region() -> None:
    moved = region([(100, 1), (100, 1), (100, 1)])
    assert gate.slipped_parts(moved, all_of(moved, 3)) == {}
    assert gate.slipped_parts(moved[:2], all_of(moved[:2])) == {}


def test_different_powers_of_ten_are_no_slip_of_the_region() -> None:
    moved = region([(100, 1), (0.01, 1), (10, 1), (3, 1)])
    assert gate.slipped_parts(moved, all_of(moved)) == {}


def test_a_price_per_gpu_is_told_from_a_price_of_the_machine() -> None:
    moved = region([(1 / 8, 8), (1 / 4, 4), (1 / 2, 2)])
    assert gate.slipped_parts(moved, all_of(moved, 9)) == {HERE: gate.GPU_COUNT}
    moved = region([(8, 8), (4, 4), (2, 2)])
    assert gate.slipped_parts(moved, all_of(moved)) == {HERE: gate.GPU_COUNT}


def test_machines_of_two_gpus_at_half_the_price_may_just_be_cheaper() -> None:
    moved = region([(1 / 2, 2), (1 / 2, 2), (1 / 2, 2)])
    assert gate.slipped_parts(moved, all_of(moved)) == {}


def test_a_price_cut_of_a_whole_region_is_believed() -> None:
    moved = region([(0.5, 8), (0.55, 4), (0.5, 1), (0.6, 1)])
    assert gate.slipped_parts(moved, all_of(moved)) == {}


@pytest.mark.parametrize(("ratio", "slip"), [
    (1.17, True), (1 / 1.17, True), (1.0, False), (1.02, False), (0.5, False), (2.0, False),
])  # fmt: skip
def test_all_prices_by_a_rate_of_exchange(ratio: float, slip: bool) -> None:
    assert gate.moved_by_one_factor(region([(ratio, 1)] * 20), 20) is slip


def test_prices_that_rise_by_different_shares_are_no_rate_of_exchange() -> None:
    moved = region([(1.10 + index / 100, 1) for index in range(20)])
    assert not gate.moved_by_one_factor(moved, 20)
    assert not gate.moved_by_one_factor(region([(1.17, 1)] * 20), 40)
    assert not gate.moved_by_one_factor(region([(1.17, 1)] * 9), 9)


@given(st.lists(st.floats(min_value=0.26, max_value=3.9), min_size=1, max_size=30))
def test_steps_as_they_were_recorded_are_never_far_and_never_a_slip_of_ten(
    ratios: list[float],
) -> None:
    moved = region([(ratio, 1) for ratio in ratios])
    assert not any(gate.is_far(one) for one in moved)
    assert gate.slipped_parts(moved, all_of(moved)) == {}


# --- against what was recorded ----------------------------------------------------------------


def steps(
    file: Path, key: tuple[str, ...], at: str, price: str
) -> Iterator[tuple[str, str, float]]:
    """(first key column, day, ratio) of every step of a recorded history."""
    last: dict[tuple[str, ...], float] = {}
    with file.open(newline="") as opened:
        rows = sorted(csv.DictReader(opened), key=lambda row: datetime.fromisoformat(row[at]))
    for row in rows:
        if not row[price]:
            continue
        name, value = tuple(row[one] for one in key), float(row[price])
        if name in last and last[name] != value:
            yield row[key[0]], row[at][:10], value / last[name]
        last[name] = value


HISTORIES = {
    "aws": ("aws_gpu_spot_eu_2019-12_2020-02.csv",
            ("instance_type", "availability_zone", "product_description"),
            "timestamp", "spot_price_usd", Purchase.SPOT),
    "azure": ("azure_gpu_daily_min_2026-04_2026-05.csv", ("instance_type", "region"),
              "date", "spot_usd_hour_min", Purchase.SPOT),
    "gcp spot": ("gcp_gpu_machine_price_history_2022-2026.csv", ("machine_type", "region"),
                 "observed_at_commit", "spot_usd_hour", Purchase.SPOT),
    "gcp on demand": ("gcp_gpu_machine_price_history_2022-2026.csv", ("machine_type", "region"),
                      "observed_at_commit", "ondemand_usd_hour", OD),
}  # fmt: skip
SLIP = {("a2-ultragpu-2g", day) for day in ("2023-05-09", "2023-05-10")}
"""Two days on which the GPU's share of one machine was missing, and came back."""


@pytest.mark.parametrize("name", HISTORIES)
def test_no_true_step_that_was_recorded_is_far(shared: Path, name: str) -> None:
    file, key, at, price, purchase = HISTORIES[name]
    found = [one for one in steps(shared / "history" / file, key, at, price) if one[:2] not in SLIP]
    assert len(found) > 40
    assert [one for one in found if gate.is_far(move(one[2], purchase=purchase))] == []


def test_the_recorded_slip_of_on_demand_prices_is_far(shared: Path) -> None:
    file, key, at, price, purchase = HISTORIES["gcp on demand"]
    found = [one for one in steps(shared / "history" / file, key, at, price) if one[:2] in SLIP]
    assert len(found) == 22
    assert all(gate.is_far(move(one[2], purchase=purchase)) for one in found)


def test_the_recorded_change_from_machine_to_gpu_is_seen(shared: Path) -> None:
    """Every cloud of the tracker that had three larger machines or more."""
    before: dict[tuple[str, ...], tuple[PricedOffer, int]] = {}
    moved: dict[str, list[Move]] = defaultdict(list)
    file = shared / "history" / "gpu_tracker_observations_2026-02_2026-04.csv"
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            count, amount = int(row["gpu_count"]), row["price_min_usd"]
            if not amount or float(amount) <= 0 or row["date"] > "2026-02-18":
                continue
            key = (row["provider"], row["gpu_model"], row["gpu_count"], row["rental_type"])
            offer = priced("global", amount, instance_type="/".join(key), gpu_count=count,
                           gpu=row["gpu_model"], purchase=Purchase(row["rental_type"]))  # fmt: skip
            if row["date"] == "2026-02-18" and key in before:
                old = before[key][1]
                if old != offer.price.micros:
                    ratio = offer.price.micros / old
                    moved[row["provider"]].append(Move(series_key(offer), offer, old, ratio))
            before[key] = (offer, offer.price.micros)
    for cloud in ("aws", "azure", "gcp", "verda", "oracle"):
        slipped = gate.slipped_parts(moved[cloud], all_of(moved[cloud]))
        assert slipped.get(("global", "on_demand")) == gate.GPU_COUNT, cloud
