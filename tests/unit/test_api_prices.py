"""The questions about recorded prices, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path)
    world.poll()
    world.clock.advance(1800)
    yield world
    world.store.close()


def get(world: World, path: str, status: int = 200) -> Any:
    answer = world.client.get(f"/api/v1/prices/{path}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_every_answer_says_what_it_is_of(world: World) -> None:
    for path in ("history", "history?grid=1d", "stats", "below?price=1", "changes", "as-of"):
        about = get(world, path)["about"]
        assert about["currency"] == "USD"
        assert about["per"] == "gpu"
        assert about["time_zone"] == "UTC"
        assert about["series"] == 4
        assert about["rate"] is None
        assert about["simulated"] is False
        assert {"as_of", "begin", "end", "hours_covered", "hours_missing"} <= set(about)


def test_stats_are_of_what_the_filters_let_pass(world: World) -> None:
    everything = get(world, "stats")["rows"][0]
    assert (everything["min"], everything["hours_covered"]) == ("0.1", 2.0)
    eu = get(world, "stats?sovereignty=eu&country=SE&country=IE")["rows"][0]
    assert eu["series"] < everything["series"]
    assert get(world, "stats?by=region")["rows"][0]["group"].startswith("aws/")


def test_history_comes_as_columns(world: World) -> None:
    answer = get(world, "history?since=1h")
    one = answer["series"][0]
    assert len(one["t"]) == len(one["price"]) == 2
    assert one["t"][1] - one["t"][0] == 1800
    assert one["price"][1] is None
    grid = get(world, "history?since=2h&grid=1h")
    assert len(grid["t"]) == len(grid["groups"][0]["mean"])
    assert sum(grid["groups"][0]["hours"]) == 2.0


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("stats?gpu=H1OO", 404, "no price of GPU 'H1OO' is recorded"),
        ("stats?timezone=Europe/Berln", 404, "did you mean Europe/Berlin?"),
        ("stats?from=2026-10-02&to=2026-10-01", 400, "swap --from and --to"),
        ("stats?by=colour", 422, "by: Input should be"),
        ("stats?currency=EUR", 400, "no reference rate of USD is stored"),
        ("history?grid=5m", 400, "there is no grid '5m'"),
        ("history?points=2", 422, "points: "),
        ("history?by=region", 400, "by needs a grid: without one, series are never mixed"),
        ("history?grid=1d&points=8", 400, "points is for steps: a grid has its cells"),
        ("stats?gpus=H100", 400, "there is no parameter 'gpus'; did you mean gpu?"),
        ("as-of?since=1d", 400, "there is no parameter 'since'; there are "),
        ("below?price=cheap", 400, "'cheap' is no price"),
        ("below?percent=101", 400, "'101' is no percentage"),
        ("index", 400, "an index is of one purchase"),
        ("seasonality", 400, "needs 8 weeks of prices, and there are 0.0"),
        ("as-of?at=2031-01-01", 400, "has not come yet"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(world: World, path: str, status: int, said: str) -> None:
    error = get(world, path, status)
    assert said in error["error"]
    assert "\n" not in error["error"]
