"""What `arbiter prices` prints, to the letter: for a fixed market and clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import Machine, market

Golden = Callable[[str, str], None]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """The market as it was polled a minute ago; half an hour has gone by since."""
    machine = Machine(tmp_path)
    market(machine)
    machine.clock.advance(1800)
    return machine


def transcript(machine: Machine, *arguments: str) -> str:
    ended = machine.arbiter("prices", *arguments)
    out = ended.out
    if "--json" in arguments:
        out = json.dumps(json.loads(out), indent=1, ensure_ascii=False) + "\n"
    said = f"$ arbiter prices {' '.join(arguments)}\n{out}--- stderr\n{ended.err}"
    return f"{said}--- exit {ended.code}\n".replace(str(machine.folder), "FOLDER")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("prices-stats", ["stats", "--spot", "--by", "provider", "--since", "1d"]),
        ("prices-stats-json", ["stats", "--gpu", "h100", "--since", "1d", "--json"]),
        ("prices-below", ["below", "2.50", "--gpu", "H100-NVL", "--since", "1d"]),
        ("prices-below-json", ["below", "2.50", "--gpu", "H100-NVL", "--since", "1d", "--json"]),
        ("prices-history", ["history", "--gpu", "L4", "--since", "1h", "--sovereignty", "eu"]),
        ("prices-history-json", ["history", "--gpu", "H100", "--since", "1h", "--json"]),
        ("prices-grid", ["history", "--grid", "1h", "--since", "2h", "--timezone", "Asia/Kolkata"]),
        ("prices-grid-json", ["history", "--grid", "1h", "--since", "2h", "--spot", "--json"]),
        ("prices-plot", ["history", "--provider", "azure", "--since", "1h", "--plot"]),
        ("prices-changes", ["changes", "--provider", "aws", "--limit", "3"]),
        ("prices-changes-json", ["changes", "--gpu", "K80", "--json"]),
        ("prices-as-of", ["as-of", "--sovereignty", "eu", "--limit", "4"]),
        ("prices-as-of-json", ["as-of", "2026-11-01T12:10", "--gpu", "L40S", "--json"]),
        ("prices-index", ["index", "--spot", "--since", "7d"]),
        ("prices-seasonality", ["seasonality", "--gpu", "L4"]),
        ("prices-rates", ["rates"]),
        ("prices-no-rate", ["stats", "--currency", "EUR"]),
        ("prices-backwards", ["stats", "--from", "2026-10-01", "--to", "2026-09-01"]),
        ("prices-unknown-gpu", ["stats", "--gpu", "H10O"]),
        ("prices-unknown-zone", ["stats", "--timezone", "Europe/Berln"]),
        ("prices-nothing", ["stats", "--from", "2020-01-01", "--to", "2020-02-01"]),
    ],
)
def test_output(golden: Golden, machine: Machine, name: str, arguments: list[str]) -> None:
    golden(name, transcript(machine, *arguments))


def test_an_index_of_days_that_are_over(golden: Golden, machine: Machine) -> None:
    machine.clock.advance(86_400)
    golden("prices-index-of-a-day", transcript(machine, "index", "--spot", "--since", "1d"))
    drawn = machine.arbiter("prices", "index", "--spot", "--since", "1d", "--plot")
    assert drawn.code == 0
    assert "|" in drawn.out


def test_rates_are_loaded_from_a_file_and_then_used(golden: Golden, machine: Machine) -> None:
    file = machine.folder / "eurofxref-hist.csv"
    file.write_text("Date,USD,JPY,\n2026-10-30,1.2500,N/A,\n2026-10-29,1.2000,180.5,\n")
    golden("prices-rates-loaded", transcript(machine, "rates", "--load", str(file)))
    golden(
        "prices-in-euros",
        transcript(machine, "stats", "--gpu", "L4", "--currency", "eur", "--since", "1d"),
    )
    assert machine.arbiter("prices", "rates", "--json").json["rates"][1]["rate"] == "1.25"


def test_a_rates_file_that_is_none(machine: Machine) -> None:
    ended = machine.arbiter("prices", "rates", "--load", str(machine.folder))
    assert (ended.code, ended.err) == (
        1,
        f"error: {machine.folder} cannot be read: Is a directory\n",
    )
    ended = machine.arbiter("prices", "rates", "--load", str(machine.toml))
    assert ended.code == 1
    assert "does not begin with a column Date" in ended.err


def test_a_group_needs_a_grid(machine: Machine) -> None:
    ended = machine.arbiter("prices", "history", "--by", "gpu")
    assert ended.code == 1
    assert "--by needs a --grid" in ended.err
    ended = machine.arbiter("prices", "history", "--grid", "1d", "--points", "8")
    assert ended.code == 1
    assert "--points is for steps" in ended.err
