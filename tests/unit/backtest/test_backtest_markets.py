"""Reading a market's folder: what is read, and each way in which it can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.backtest.generate import SIMULATED, Recipe, generate, write_market
from arbiter.backtest.grid import Grid
from arbiter.backtest.markets import MarketError, load_market
from arbiter.errors import ArbiterError

ABOUT: dict[str, Any] = {
    "name": "small",
    "provider": "aws",
    "start": "2023-02-15T00:00:00Z",
    "seconds": 36_000,
    "tick_seconds": 60,
    "on_demand_usd_hour": 3.06,
    "zones": [{"zone": "a", "region": "r"}, {"zone": "b", "region": "r"}],
}
ROWS = ["0,a,1,0.9", "0,b,0,0.918", "600,a,0,0.9", "600,b,2,1.1234567", "7170,a,3,0.9"]

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(rows: list[str] | None = None, text: str | None = None, **about: object) -> Path:
        content = {key: value for key, value in {**ABOUT, **about}.items() if value is not ...}
        (tmp_path / "market.json").write_text(json.dumps(content))
        body = "\n".join(["seconds,zone,available,spot_usd_hour", *(rows or ROWS), ""])
        (tmp_path / "changes.csv").write_text(text if text is not None else body)
        return tmp_path

    return write


def test_what_is_read(written: Written) -> None:
    market = load_market(written())
    assert (market.name, market.seconds, market.ticks) == ("small", 36_000, 600)
    assert market.on_demand_micros == 3_060_000
    assert market.start.isoformat() == "2023-02-15T00:00:00+00:00"
    assert [zone.name for zone in market.zones] == ["a", "b"]
    assert market.changes[3] == (600, 1, 2, 1_123_457)


def test_a_change_within_a_tick_counts_from_the_next_one(written: Written) -> None:
    grid = Grid(load_market(written()))
    assert grid.available[0, [0, 9, 10, 119, 120]].tolist() == [1, 1, 0, 0, 3]
    assert grid.micros[1, [9, 10]].tolist() == [918_000, 1_123_457]
    assert grid.paid_before[0, [0, 1, 600]].tolist() == [0, 900_000, 600 * 900_000]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["0,a,1,0.9"], "zone b has no rows, so no price"),
        (["0,a,1,0.9", "60,b,1,0.9"], "a gap: zone b is not known before second 60"),
        (["0,a,1,0.9", "0,b,,0.9"], "line 3: a gap: available is empty"),
        (["0,a,1,0.9", "0,b,1,"], "line 3: a gap: spot_usd_hour is empty"),
        (["0,a,1,0.9", "0,b,1,1", "90,a,1,1", "60,b,1,1"], "line 5: second 60 is earlier"),
        (["0,a,-1,0.9", "0,b,1,1"], "line 2: available is negative: -1"),
        (["0,a,1.5,0.9", "0,b,1,1"], "line 2: available must be a whole number, not '1.5'"),
        (["0,a,1,0", "0,b,1,1"], "line 2: not a price above zero"),
        (["0,a,1,nan", "0,b,1,1"], "line 2: not an amount of money: 'nan'"),
        (["0,a,1,free", "0,b,1,1"], "line 2: not an amount of money: 'free'"),
        (["0,a,1,1", "0,a,2,1", "0,b,1,1"], "line 3: zone a has a row for this second already"),
        (["0,a,1,1", "0,b,1,1", "36000,a,1,1"], "line 4: second 36000 is outside the market's"),
        (["0,a,1,1", "0,c,1,1"], "line 3: market.json has no zone 'c'"),
        (["0,a,1"], "line 2: must have 4 columns, not 3"),
    ],
)
def test_a_bad_row_is_one_line_that_says_where(
    written: Written, rows: list[str], said: str
) -> None:
    with pytest.raises(MarketError) as caught:
        load_market(written(rows))
    assert said in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"zones": ...}, "zones is missing"),
        ({"zones": []}, "at least one zone"),
        ({"zones": [{"zone": "a", "region": "r"}] * 2}, "zone a is listed twice"),
        ({"seconds": 0}, "seconds must be a whole number from 1"),
        ({"seconds": "long"}, "not 'long'"),
        ({"tick_seconds": True}, "tick_seconds must be a whole number"),
        ({"start": "2023-02-15T00:00:00"}, "must say its time zone"),
        ({"start": "yesterday"}, "start must be an instant"),
        ({"on_demand_usd_hour": -1}, "not a price above zero"),
        ({"on_demand_usd_hour": None}, "not an amount of money"),
        ({"name": 7}, "name must be a text"),
    ],
)
def test_a_bad_description_is_one_line(
    written: Written, about: dict[str, object], said: str
) -> None:
    with pytest.raises(MarketError, match=r"market\.json") as caught:
        load_market(written(**about))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("market.json", "{", "is not JSON"),
        ("market.json", "[]", "must be an object"),
        ("changes.csv", "a,b\n1,2\n", "line 1: must be seconds,zone"),
        ("changes.csv", "", "line 1: must be seconds,zone"),
        ("changes.csv", b"\xff\xfe\x00", "is not a table of text"),
    ],
)
def test_a_file_that_is_something_else(
    written: Written, name: str, content: str | bytes, said: str
) -> None:
    folder = written()
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(MarketError, match=said):
        load_market(folder)


@pytest.mark.parametrize("name", ["market.json", "changes.csv"])
def test_a_file_that_is_missing(written: Written, name: str) -> None:
    folder = written()
    (folder / name).unlink()
    with pytest.raises(MarketError, match=f"{name}: No such file"):
        load_market(folder)


def test_a_long_silence_is_told(written: Written) -> None:
    assert load_market(written(seconds=36_000)).notes == (
        "nothing changes in any zone for 8 hours from second 7170: a gap in the recording would "
        "look the same",
    )
    rows = [*ROWS, *(f"{second},a,{second % 2},0.9" for second in range(7201, 36_000, 3001))]
    assert load_market(written(rows)).notes == ()


# --- generated markets ----------------------------------------------------------------------


def test_a_generated_market_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = generate(Recipe(days=3), seed=5)
    write_market(made, tmp_path)
    back = load_market(tmp_path)
    assert (back.zones, back.changes, back.seconds) == (made.zones, made.changes, made.seconds)
    assert made.notes == (SIMULATED,)


def test_the_seed_alone_decides() -> None:
    assert generate(Recipe(), 1) == generate(Recipe(), 1)
    assert generate(Recipe(), 1).changes != generate(Recipe(), 2).changes


def test_shocks_empty_zones_of_one_region_together() -> None:
    calm = Recipe(days=60, zones_per_region=(6,), up_h=24, down_h=4, shocks_per_day=0)
    stormy = Recipe(days=60, zones_per_region=(6,), up_h=24, down_h=4, shocks_per_day=1)
    assert _together(stormy) > 5 * max(1, _together(calm))


def _together(recipe: Recipe) -> int:
    """Minutes in which three zones or more lose their room at once."""
    losses: dict[int, int] = {}
    room: dict[int, int] = {}
    for change in generate(recipe, 3).changes:
        if room.get(change.zone) and not change.available:
            losses[change.seconds] = losses.get(change.seconds, 0) + 1
        room[change.zone] = change.available
    return sum(count >= 3 for count in losses.values())


def test_zones_have_room_for_the_share_of_time_that_the_recipe_says() -> None:
    recipe = Recipe(
        days=400, zones_per_region=(4,), up_h=12, down_h=6, spread=0, shocks_per_day=0, age_shape=1
    )
    share = (Grid(generate(recipe, 2)).available > 0).mean()
    assert share == pytest.approx(12 / 18, abs=0.04)


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": 0},
        {"zones_per_region": ()},
        {"depth": 0},
        {"shock_share": 2},
        {"up_h": 0},
        {"discount": (0.5, 0.2)},
        {"price_step": -1},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArbiterError, match="no market can be generated"):
        generate(Recipe(**wrong), 1)
