"""`arbiter backtest`: what is answered, and what is said when it cannot be."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cli_world import NOW, Ended, Machine

from arbiter.backtest.generate import Recipe, generate, write_market
from arbiter.domain import Purchase
from arbiter.testing import priced

KEYS = [
    "market", "policy", "replicas", "cold_start_s", "cost", "availability", "missing", "j",
    "launches", "preemptions", "on_demand_share", "bound", "saving_usd_day", "migrations",
    "worst_day",
]  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market")
    write_market(generate(Recipe(days=1, zones_per_region=(2, 1)), 3), path)
    return path


def failed(ended: Ended) -> str:
    """The one line of an error."""
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err


def test_json_is_the_contract(machine: Machine, folder: Path) -> None:
    ended = machine.arbiter(
        "backtest", "--market", str(folder), "--policy", "spothedge:1", "--replicas", "2",
        "--cold-start", "3m", "--json",
    )  # fmt: skip
    answer = ended.json
    assert list(answer) == KEYS
    assert (answer["market"], answer["policy"]) == ("generated-3", "spothedge:1")
    assert (answer["replicas"], answer["cold_start_s"], answer["bound"]) == (2, 180, None)
    assert answer["j"] == pytest.approx(answer["cost"] + 20 * answer["missing"], abs=1e-4)
    assert "note: " in ended.err


def test_the_bound_is_below_what_was_run(machine: Machine, folder: Path) -> None:
    answer = machine.arbiter(
        "backtest", "--market", str(folder), "--policy", "round-robin", "--bound", "--json"
    ).json
    assert 0 < answer["bound"] <= answer["j"]


def test_several_runs_are_a_list_and_a_table(machine: Machine, folder: Path) -> None:
    asked = (
        "backtest", "--market", str(folder), "--policy", "on-demand", "--policy", "omniscient",
        "--replicas", "1", "--replicas", "3",
    )  # fmt: skip
    rows = machine.arbiter(*asked, "--json").json
    assert [(row["policy"], row["replicas"]) for row in rows] == [
        ("on-demand", 1), ("omniscient", 1), ("on-demand", 3), ("omniscient", 3),
    ]  # fmt: skip
    assert all(list(row) == KEYS for row in rows)
    shown = machine.arbiter(*asked).out.splitlines()
    assert shown[0].startswith("MARKET")
    assert len(shown) == 5


def test_without_a_policy_a_market_meets_our_own(machine: Machine, folder: Path) -> None:
    answer = machine.arbiter("backtest", "--market", str(folder), "--json").json
    assert answer["policy"] == "arbiter"


def test_the_policy_in_force_is_replayed(machine: Machine, folder: Path) -> None:
    machine.settings("[policy]\nspot = false\n")
    asked = ("backtest", "--market", str(folder), "--policy", "in-force", "--json")
    answer = machine.arbiter(*asked).json
    assert (answer["policy"], answer["cost"], answer["on_demand_share"]) == ("in-force", 1, 1)


def test_a_policy_file_is_compared_with_the_one_in_force(machine: Machine, folder: Path) -> None:
    file = machine.folder / "no-spot.toml"
    file.write_text("[policy]\nspot = false\n")
    asked = ("backtest", "--market", str(folder), "--policy", str(file), "--json")
    before, after = machine.arbiter(*asked).json
    assert (before["policy"], after["policy"]) == ("in-force", str(file))
    assert before["cost"] < after["cost"] == 1


def test_what_a_policy_would_have_changed_is_told_in_a_sentence(
    machine: Machine, folder: Path
) -> None:
    file = machine.folder / "no-spot.toml"
    file.write_text("[policy]\nspot = false\n")
    asked = ("backtest", "--market", str(folder), "--policy", str(file), "--policy", "on-demand")
    shown = machine.arbiter(*asked).out.splitlines()
    said = next(line for line in shown if line.startswith(f"{file} beside in-force: cost 1.000"))
    assert "USD a day more" in said
    assert "availability 100.000% instead of" in said
    assert "migrations a day instead of" in said
    assert "its worst day" in said
    assert any(line.startswith("on-demand beside in-force: ") for line in shown)
    before, after, _ = machine.arbiter(*asked, "--json").json
    assert after["saving_usd_day"] == 0
    assert before["saving_usd_day"] > 0
    assert after["migrations"] == 0
    assert after["worst_day"]["cost"] == 1
    assert before["worst_day"]["j"] >= before["j"]


def test_a_policys_own_worth_of_a_missing_replica_decides(machine: Machine, folder: Path) -> None:
    def cost(worth: str) -> float:
        file = machine.folder / "policy.toml"
        file.write_text(f"[policy]\nmissing_cost = {worth}\n")
        asked = ("backtest", "--market", str(folder), "--policy", str(file), "--json")
        found: float = machine.arbiter(*asked).json[1]["cost"]
        return found

    assert cost("1") < cost("2000")


def test_cold_starts_of_places_and_the_rest(machine: Machine, folder: Path) -> None:
    def missing(*more: str) -> float:
        given = [part for text in more for part in ("--cold-start", text)]
        asked = ("backtest", "--market", str(folder), "--policy", "spothedge:0", "--json", *given)
        found = machine.arbiter(*asked).json["missing"]
        assert isinstance(found, float)
        return found

    assert missing("1m") < missing("6m") < missing("20m", "on-demand=10m")


def test_a_shaken_market_is_another_and_says_so(machine: Machine, folder: Path) -> None:
    asked = ("backtest", "--market", str(folder), "--policy", "spothedge:0", "--json", "--shake")
    first, again, other = (machine.arbiter(*asked, seed).json for seed in ("1", "1", "2"))
    assert first == again
    assert first["market"] == "generated-3~1"
    assert other["j"] != first["j"]


def test_files_beside_the_answer(machine: Machine, folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install matplotlib")
    table, picture = machine.folder / "runs.parquet", machine.folder / "runs.svg"
    ended = machine.arbiter(
        "backtest", "--market", str(folder), "--policy", "on-demand",
        "--parquet", str(table), "--picture", str(picture),
    )  # fmt: skip
    assert ended.code == 0
    assert table.stat().st_size > 0
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "clever"], "there is no policy 'clever'"),
        (["--policy", "gone.toml"], "there is no policy file gone.toml; check the path"),
        (["--cold-start", "soon"], "'soon' is no span of at most a day"),
        (["--cold-start", "1m", "--cold-start", "2m"], "--cold-start is given twice"),
        (["--cold-start", "mars=1m"], "has no place 'mars'"),
        (["--launch-cost", "much"], "--launch-cost 'much' is no amount"),
        (["--launch-cost=-1"], "may be negative"),
        (["--replicas", "0"], "0 is not in the range"),
        (["--missing-cost=-1"], "not in the range"),
        (["--since", "3d"], "name either --market DIR or --since SPAN"),
        (["--gpu", "L4"], "--gpu needs --since"),
        (["--picture", "a.gif"], "a.gif is no picture that can be drawn"),
    ],
)
def test_a_mistake_is_one_line(
    machine: Machine, folder: Path, options: list[str], said: str
) -> None:
    assert said in failed(machine.arbiter("backtest", "--market", str(folder), *options))


def test_a_market_that_is_not_there_or_is_broken_or_short(machine: Machine) -> None:
    missing = machine.folder / "none"
    assert "there is no market folder" in failed(
        machine.arbiter("backtest", "--market", str(missing))
    )
    write_market(generate(Recipe(days=2), 1), missing)
    about = json.loads((missing / "market.json").read_text())
    kept = [
        line
        for line in (missing / "changes.csv").read_text().splitlines()
        if not line.split(",")[0].isdigit() or int(line.split(",")[0]) < 3600
    ]
    (missing / "market.json").write_text(json.dumps({**about, "seconds": 3600}))
    (missing / "changes.csv").write_text("\n".join([*kept, ""]))
    said = failed(machine.arbiter("backtest", "--market", str(missing)))
    assert "lasts 60 ticks and the first 120 are warm-up" in said


def test_an_unknown_key_of_a_policy_file_is_named(machine: Machine, folder: Path) -> None:
    file = machine.folder / "typo.toml"
    file.write_text("[policy]\nmin_savings = 0.3\n")
    said = failed(machine.arbiter("backtest", "--market", str(folder), "--policy", str(file)))
    assert f"{file}:2" in said
    assert "min_saving" in said


# --- our own recorded prices ----------------------------------------------------------------

SPOT = [("eu-north-1", "eun1-az1"), ("eu-central-1", "euc1-az2"), ("us-east-1", "use1-az4")]


@pytest.fixture
def recording(machine: Machine) -> Machine:
    """A day of prices: two zones of the EU and one outside; on demand in the EU."""
    for hour, usd in ((24, "0.40"), (12, "0.60"), (6, "0.30"), (0.01, "0.30")):
        offers = [
            priced(region, usd if region == "eu-north-1" else "0.50", zone=zone)
            for region, zone in SPOT
            if not (region == "us-east-1" and hour == 12)
        ]
        offers.append(priced("eu-north-1", "1.00", purchase=Purchase.ON_DEMAND))
        machine.sells("aws", offers, age_s=hour * 3600)
    return machine


def test_recorded_prices_are_replayed_and_what_is_assumed_is_said(recording: Machine) -> None:
    asked = ("backtest", "--since", "12h", "--policy", "spothedge:0", "--json")
    ended = recording.arbiter(*asked)
    answer = ended.json
    assert list(answer) == [*KEYS, "assumed"]
    assert answer["market"] == "recorded L4 x1"
    # 0.6 for six hours and 0.3 for six, of which the first two are warm-up; the other zone is 0.5.
    assert answer["cost"] == pytest.approx(0.5, abs=0.01)
    assert any("capacity is not recorded" in line for line in answer["assumed"])
    assert all(f"note: {line}\n" in ended.err for line in answer["assumed"])
    assert any("2 spot series" in line for line in answer["assumed"])


def test_the_policy_in_force_decides_which_series_count(recording: Machine) -> None:
    recording.settings('[policy.sovereignty]\nlevel = "any"\n')
    answer = recording.arbiter("backtest", "--since", "12h", "--json").json
    assert any("3 spot series" in line for line in answer["assumed"])


def test_a_policy_file_with_a_looser_rule_is_compared_on_the_same_prices(
    recording: Machine,
) -> None:
    file = recording.folder / "cap.toml"
    file.write_text("[policy]\nmax_usd_per_hour = 0.55\n")
    asked = ("backtest", "--since", "12h", "--policy", str(file), "--json", "--bound")
    before, after = recording.arbiter(*asked).json
    assert before["bound"] == after["bound"] <= min(before["j"], after["j"])


def test_a_span_without_prices_is_told(recording: Machine) -> None:
    recording.clock.advance(timedelta(days=400).total_seconds())
    assert "error: " in failed(recording.arbiter("backtest", "--since", "1h", "--gpu", "H100"))
    assert recording.clock.now() > NOW


def test_no_series_that_the_rule_lets_pass_is_told(machine: Machine) -> None:
    for age in (6 * 3600, 60):
        machine.sells("aws", [priced("us-east-1", "0.5", zone="use1-az4")], age_s=age)
    said = failed(machine.arbiter("backtest", "--since", "5h"))
    assert "no recorded spot series may be used under the policy" in said


def test_without_on_demand_prices_there_is_no_share_to_state(machine: Machine) -> None:
    dear = priced("us-east-1", "9", purchase=Purchase.ON_DEMAND)
    for age in (6 * 3600, 60):
        machine.sells("aws", [priced("eu-north-1", "0.5", zone="eun1-az1"), dear], age_s=age)
    said = failed(machine.arbiter("backtest", "--since", "5h"))
    assert "no on-demand price of L4 x1 is recorded that the policy may use" in said


def test_hours_without_a_price_are_told_and_have_no_capacity(machine: Machine) -> None:
    offers = [
        priced("eu-north-1", "0.5", zone="eun1-az1"),
        priced("eu-north-1", "1", purchase=Purchase.ON_DEMAND),
    ]
    for age in (6 * 3600, 3 * 3600):
        machine.sells("aws", offers, age_s=age)
    machine.sells("aws", offers[1:], age_s=60)
    answer = machine.arbiter("backtest", "--since", "5h", "--policy", "spothedge:0", "--json").json
    assert any("have no recorded price" in line for line in answer["assumed"])
    assert answer["on_demand_share"] > 0
