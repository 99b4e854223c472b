"""SpotHedge and the others: their rules on small markets, their figures on public traces."""

from __future__ import annotations

import pytest
from backtest_markets import market
from checkout import REPOSITORY

from arbiter.backtest import load_market, run
from arbiter.backtest.policies import NAMES, named
from arbiter.errors import UnknownName

TRACES = REPOSITORY.parent / "shared" / "data" / "markets"

# J(20) at six minutes of cold start, as measured by others with the same model.
MEASURED = [
    ("aws-v100-9zones-2023a", 1, (0.535, 0.684, 1.030)),
    ("aws-v100-9zones-2023a", 2, (0.581, 0.580, 0.784)),
    ("aws-v100-9zones-2023a", 4, (0.793, 0.638, 0.754)),
    ("aws-v100-3zones-cap4-2023", 1, (0.617, 0.830, 1.055)),
    ("aws-v100-3zones-cap4-2023", 4, (0.635, 0.632, 0.701)),
    ("aws-v100-3zones-cap4-2023", 8, (0.797, 0.733, 0.751)),
    ("aws-v100-2zones-2022", 1, (0.878, 0.890, 1.466)),
    ("gcp-a100-6zones-cap4", 1, (0.403, 0.703, 1.021)),
    ("gcp-a100-6zones-cap4", 4, (0.443, 0.493, 0.550)),
]


@pytest.mark.parametrize(("name", "replicas", "measured"), MEASURED)
def test_spothedge_comes_to_what_others_measured(
    name: str, replicas: int, measured: tuple[float, float, float]
) -> None:
    if not (TRACES / name).is_dir():
        pytest.skip("no shared data beside the checkout")
    where = load_market(TRACES / name)
    for extra, j in enumerate(measured):
        assert run(where, f"spothedge:{extra}", replicas=replicas).j == pytest.approx(j, abs=0.001)


def zones_of(policy: str, *zones: list[tuple[int, ...]], replicas: int = 1) -> list[int | None]:
    """Where a policy launched, in order."""
    where = market({f"z{number}": steps for number, steps in enumerate(zones)})  # type: ignore[misc]
    return [one.zone for one in run(where, policy, replicas=replicas).lives]


CHEAP, MIDDLE, DEAR = 300_000, 500_000, 900_000


def test_spothedge_takes_zones_not_in_use_first_and_the_cheapest_of_them() -> None:
    zones = ([(0, 5, MIDDLE)], [(0, 5, CHEAP)], [(0, 5, DEAR)])
    found = zones_of("spothedge:0", *zones, replicas=4)
    assert [zone for zone in found if zone is not None] == [1, 0, 2, 1]


def test_spothedge_shuns_a_zone_that_took_a_machine_until_one_is_ready_there() -> None:
    lost = [(0, 1, CHEAP), (200, 0, CHEAP), (201, 1, CHEAP), (400, 1, CHEAP)]
    other = [(0, 1, MIDDLE), (400, 0, MIDDLE)]
    third = [(0, 1, DEAR)]
    spot = [zone for zone in zones_of("spothedge:0", lost, other, third) if zone is not None]
    # Lost in 0: to 1. Lost in 1: only 2 is trusted, though 0 is cheaper and has room.
    assert spot == [0, 1, 2]


def test_skypilot_trusts_all_again_when_fewer_than_two_are_left() -> None:
    lost = [(0, 1, CHEAP), (200, 0, CHEAP), (201, 1, CHEAP), (400, 1, CHEAP)]
    other = [(0, 1, MIDDLE), (400, 0, MIDDLE)]
    third = [(0, 1, DEAR)]
    spot = [zone for zone in zones_of("skypilot:0", lost, other, third) if zone is not None]
    assert spot == [0, 1, 0]


def test_on_demand_stands_in_until_spot_is_ready_and_for_extra_ones_too() -> None:
    result = run(market({"a": [(0, 9)]}), "spothedge:1", replicas=2)
    bought = [one for one in result.lives if one.zone is None]
    assert [(one.launched, one.ended) for one in bought] == [(0, 6), (0, 6)]
    assert len(result.lives) == 5


def test_a_cap_leaves_dear_zones_out_even_where_nothing_else_is_left() -> None:
    zones = ([(0, 1, DEAR)], [(0, 0, CHEAP)])
    assert set(zones_of("spothedge:0:0.5", *zones)) == {None}
    assert 0 in zones_of("spothedge:0", *zones)


def test_round_robin_goes_round_and_even_spread_balances() -> None:
    zones = ([(0, 5, DEAR)], [(0, 5, CHEAP)], [(0, 5, MIDDLE)])
    assert [z for z in zones_of("round-robin", *zones, replicas=5) if z is not None] == [
        0, 1, 2, 0, 1,
    ]  # fmt: skip
    spread = [z for z in zones_of("even-spread", *zones, replicas=7) if z is not None]
    assert sorted(map(spread.count, range(3))) == [2, 2, 3]


def test_single_zone_stays_where_it_was_cheapest_at_first() -> None:
    zones = ([(0, 0, CHEAP), (300, 1, DEAR)], [(0, 1, MIDDLE)])
    assert [zone for zone in zones_of("single-zone", *zones) if zone is not None] == [0]


def test_fewer_replicas_end_what_is_not_ready_and_then_the_dearest() -> None:
    where = market({"a": [(0, 5, CHEAP)], "b": [(0, 5, MIDDLE)]})
    result = run(where, "spothedge:0", replicas=[(0, 3), (300 * 60, 1)])
    left = [one for one in result.lives if one.ended == where.ticks]
    assert [one.zone for one in left] == [0]


@pytest.mark.parametrize("name", ["spothedge", "spothedge:2:0.5", "spothedge:0:1", "skypilot:1"])
def test_names_with_settings(name: str) -> None:
    assert run(market({"a": [(0, 5)]}), name).policy == name


@pytest.mark.parametrize("name", ["", "spot", "spothedge:", "spothedge:-1", "spothedge:1:7", "x:1"])
def test_a_name_that_is_none_lists_those_that_are(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        named(name)
    assert all(known in str(caught.value.hint) for known in NAMES)
