"""What `arbiter prices import` and `export` print and write, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import Machine, market

from arbiter import __version__

Golden = Callable[[str, str], None]

ROWS = """\
provider,region,instance_type,gpu,gpu_count,purchase,currency,price_hour,valid_from,valid_to
aws,eu-north-1,g6e.12xlarge,NVIDIA L40S,4,on-demand,USD,13.10,2026-10-01T00Z,2026-10-20T00Z
aws,eu-north-1,g6e.12xlarge,NVIDIA L40S,4,on-demand,USD,free,2026-10-20T00:00:00Z,
verda,FIN-01,1H100.80S,H100 SXM5,1,spot,EUR,1.19,2026-10-02T08:00:00+02:00,
verda,FIN-01,1H100.80S,H100 SXM5,1,spot,EUR,,2026-10-05T08:00:00+02:00,
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    market(machine)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(ROWS)
    return machine


def transcript(machine: Machine, *arguments: str) -> str:
    ended = machine.arbiter(*arguments)
    typed = " ".join(arguments)
    return f"$ arbiter {typed}\n{ended.out}--- stderr\n{ended.err}--- exit {ended.code}\n"


def test_output_of_an_import_and_of_an_export(machine: Machine, golden: Golden) -> None:
    skip = ("prices", "import", "mine.csv", "--on-error", "skip")
    steps = (
        ("prices", "import", "mine.csv"),
        skip,
        skip,
        ("prices", "import", "mine.cvs"),
        ("prices", "export", "--since", "90d", "--provider", "aws", "--on-demand", "-o", "out.csv"),
        ("prices", "export", "-o", "out.csv"),
    )
    golden("prices-files", "\n".join(transcript(machine, *step) for step in steps))
    golden("prices-export-csv", Path("out.csv").read_text().replace(__version__, "VERSION"))
