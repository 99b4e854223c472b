"""What is made of runs: intervals, mixtures, tables, pictures; and many runs at once."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from backtest_markets import market

from arbiter.backtest import run
from arbiter.backtest.accounts import Day
from arbiter.backtest.conditions import Conditions
from arbiter.backtest.generate import Recipe, generate
from arbiter.backtest.panel import Job, run_all
from arbiter.backtest.picture import draw
from arbiter.backtest.planned import Planned
from arbiter.backtest.score import Result, better, bootstrap, cost_at
from arbiter.backtest.table import write_parquet
from arbiter.errors import ArbiterError, UnknownName
from arbiter.policy import Policy
from arbiter.regions import load_atlas

WEEK = generate(Recipe(days=7, zones_per_region=(2, 2)), 4)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    names = ("on-demand", "spothedge:0", "spothedge:1", "omniscient")
    return run_all([Job(WEEK, name, 2) for name in names], with_bound=True, workers=1)


def test_days_add_up_to_the_run(results: list[Result]) -> None:
    for result in results[:3]:
        paid, short, needed = np.array(result.days).sum(axis=0)
        assert len(result.days) == 7
        assert paid / needed == pytest.approx(result.cost)
        assert short / needed == pytest.approx(result.missing)


def test_an_interval_holds_the_figure_and_is_the_same_every_time(results: list[Result]) -> None:
    hedged = results[1]
    interval = bootstrap(hedged.days, 20)
    assert interval is not None
    assert interval[0] < hedged.j < interval[1]
    assert bootstrap(hedged.days, 20) == interval
    assert bootstrap(hedged.days, 20, seed=1) != interval


def test_three_days_are_too_few_for_an_interval() -> None:
    assert bootstrap([Day(1, 0, 1)] * 3, 20) is None
    assert bootstrap([Day(1, 0, 1)] * 4, 20) == (1, 1)


def test_two_runs_are_compared_on_the_same_days(results: list[Result]) -> None:
    demand, hedged = results[0], results[1]
    gain = better(hedged.days, demand.days, 20)
    assert gain is not None
    assert gain[0] <= gain[1] <= gain[2]
    assert gain[1] == pytest.approx(hedged.j - demand.j, abs=0.1)
    assert better(hedged.days, hedged.days, 20) == (0, 0, 0)
    with pytest.raises(ValueError, match="not over the same days"):
        better(hedged.days, demand.days[:-1], 20)


def test_settings_are_mixed_in_time_to_an_equal_shortage() -> None:
    settings = [(0.03, 0.4), (0.01, 0.6), (0.0, 1.0)]
    assert cost_at(settings, 0.02) == pytest.approx(0.5)
    assert cost_at(settings, 0.005) == pytest.approx(0.8)
    assert cost_at(settings, 0.2) == 0.4
    assert cost_at(settings[:2], 0.001) is None


def test_a_dominated_setting_does_not_make_a_mixture_dearer() -> None:
    assert cost_at([(0.02, 0.4), (0.01, 0.95), (0, 1.0)], 0.01) == pytest.approx(0.7)


# --- many at once ---------------------------------------------------------------------------


def test_processes_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbiter.backtest.panel.ALONE_TICKS", 0)
    where = generate(Recipe(days=1), 1)
    policies = ("spothedge:0", "round-robin", Planned(Policy()))
    jobs = [Job(where, policy, n, Conditions(), "x") for policy in policies for n in (1, 3)]
    told: list[tuple[int, int]] = []
    together = run_all(jobs, with_bound=True, workers=2, progress=lambda *how: told.append(how))
    assert together == run_all(jobs, with_bound=True, workers=1)
    assert told[-1] == (8, 8)  # six runs and two bounds


def test_an_error_of_one_run_is_the_error_of_all() -> None:
    jobs = [Job(WEEK, name) for name in ("on-demand", "nonsense")]
    with pytest.raises(UnknownName, match="nonsense"):
        run_all(jobs, workers=1)


# --- a policy file --------------------------------------------------------------------------


def test_plan_runs_in_a_backtest_and_keeps_to_its_policy() -> None:
    where = market({"a": [(0, 5, 300_000)], "b": [(0, 5, 500_000)]})
    cheap = run(where, Planned(Policy()), label="plan")
    assert {one.zone for one in cheap.lives} == {0}
    bought = run(where, Planned(Policy(spot=False)), label="plan")
    assert {one.zone for one in bought.lives} == {None}
    assert bought.cost == pytest.approx(1)


def test_plan_falls_back_on_demand_and_returns() -> None:
    where = market({"a": [(0, 1), (200, 0), (400, 1)]}, ticks=2000)
    result = run(where, Planned(Policy()), label="plan")
    assert [one.zone for one in result.lives] == [0, None, 0]


def test_plan_refuses_zones_by_the_rule_where_their_places_are_known() -> None:
    where = market({"a": [(0, 5, 300_000)], "b": [(0, 5, 500_000)]})
    atlas = load_atlas()
    places = (atlas.place("aws", "us-east-1"), atlas.place("aws", "eu-north-1"))
    policy = Planned(Policy(), places, ("standard", "standard"))
    assert {one.zone for one in run(where, policy, label="plan").lives} == {1}


# --- files ----------------------------------------------------------------------------------


def test_a_parquet_row_is_the_json_and_more(results: list[Result], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install pyarrow")
    write_parquet(results, tmp_path / "runs.parquet")
    rows = parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert len(rows) == 4
    for row, result in zip(rows, results, strict=True):
        told = result.as_dict()
        worst = told.pop("worst_day")
        assert told.items() <= row.items()
        assert row["worst_day_j"] == pytest.approx(worst and worst["j"], abs=1e-6)
        assert row["bound"] <= row["j"] + 1e-6
    assert rows[3]["preemptions"] is None


def test_a_parquet_file_that_cannot_be_written(results: list[Result], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    with pytest.raises(ArbiterError, match="cannot write"):
        write_parquet(results, tmp_path / "no" / "runs.parquet")


@pytest.mark.parametrize("ending", ["svg", "png", "html"])
def test_a_picture_says_what_it_shows(results: list[Result], tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install matplotlib")
    file = tmp_path / f"runs.{ending}"
    draw(results, WEEK, file)
    content = file.read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    if ending == "svg":
        assert ET.fromstring(text).tag.endswith("svg")
    else:
        assert "simulated" in text
    # matplotlib keeps the drawn texts as comments beside their outlines
    for said in ("spothedge:1", "on demand", "least possible J", WEEK.zones[0].name):
        assert said in text
    draw(results, WEEK, tmp_path / f"again.{ending}")
    assert (tmp_path / f"again.{ending}").read_bytes() == content


def test_a_picture_of_an_unknown_kind_is_refused(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(ArbiterError, match="no picture that can be drawn"):
        draw(results, WEEK, tmp_path / "runs.gif")
