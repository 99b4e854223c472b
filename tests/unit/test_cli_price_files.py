"""`arbiter prices import` and `arbiter prices export`, as a user types them."""

from __future__ import annotations

import builtins
import csv
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from cli_world import NOW, OD, Machine
from sqlalchemy import func, insert, select

from arbiter import registry
from arbiter.price_files import writing
from arbiter.provider import Fetched, Page, ParsedHistory, PastPrice, Progress, ProviderSettings
from arbiter.store.retention import KEPT_SINCE
from arbiter.store.tables import meta, price_change
from arbiter.testing import FakeProvider, priced

HEADER = (
    "provider,region,instance_type,gpu,gpu_count,purchase,currency,price_hour,valid_from,valid_to"
)
ROWS = (
    "aws,eu-north-1,g6.12xlarge,L4,4,spot,USD,2.5,2026-10-01T00:00:00Z,2026-10-05T00:00:00Z",
    "aws,eu-north-1,g6.12xlarge,L4,4,spot,USD,3.25,2026-10-05T00:00:00Z,2026-10-09T00:00:00Z",
    "azure,westeurope,NC40,H100,1,on_demand,EUR,9.08,2026-10-02T00:00:00Z,2026-10-03T00:00:00Z",
)


class Historian(FakeProvider):
    """Tells a past of one price."""

    def __init__(self, _: ProviderSettings) -> None:
        super().__init__("historian")

    def fetch_history(self, since: datetime, until: datetime, progress: Progress) -> Fetched:
        return Fetched((Page("history", "", until),), ("eu-south-1: not enabled",))

    def parse_history(self, fetched: Fetched, now: datetime) -> ParsedHistory:
        return ParsedHistory([PastPrice(priced(usd="2.00"), fetched.pages[0].body - timedelta(9))])


class Forgetful(FakeProvider):
    """Tells no past."""

    def __init__(self, _: ProviderSettings) -> None:
        super().__init__("forgetful")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for provider in (Historian, Forgetful):
        name = provider.__name__.lower()
        monkeypatch.setitem(registry.BUILT_IN, name, f"{__name__}:{provider.__name__}")
    return Machine(tmp_path)


def write(machine: Machine, rows: Sequence[str] = ROWS, header: str = HEADER) -> str:
    path = machine.folder / "mine.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return str(path)


def prices(machine: Machine) -> int:
    store = machine.store()
    with store.read() as connection:
        found = connection.execute(select(func.count()).select_from(price_change)).scalar_one()
    store.close()
    return int(found)


# --- import -----------------------------------------------------------------------------------


def test_a_file_is_imported_and_a_second_time_changes_nothing(machine: Machine) -> None:
    path = write(machine)
    ended = machine.arbiter("prices", "import", path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{path}: 3 rows, 3 prices written to 2 series (2 of them new), "
        "2026-10-01T00:00:00Z to 2026-10-09T00:00:00Z\n"
    )
    again = machine.arbiter("prices", "import", path)
    assert again.out == f"{path}: 3 rows, nothing was written: all of it is known already\n"
    assert prices(machine) == 3


def test_what_is_older_than_prices_are_kept_is_told(machine: Machine) -> None:
    store = machine.store()
    with store.begin() as connection:
        since = int(datetime(2026, 10, 2, tzinfo=UTC).timestamp())
        connection.execute(insert(meta).values(key=KEPT_SINCE, value=str(since)))
    store.close()
    old = ROWS[0].replace("2026-10", "2025-10")
    path = write(machine, [old])
    told = "since when changes are kept (retention.prices_days)"
    ended = machine.arbiter("prices", "import", path)
    assert ended.out == (
        f"{path}: 1 rows, nothing was written: it is known already, or too old\n"
        f"1 prices ended before 2026-10-02, {told}\n"
    )
    both = machine.arbiter("prices", "import", write(machine, [old, *ROWS[1:]]), "--json").json
    assert (both["prices"], both["too_old"]) == (2, 1)
    assert both["kept_since"] == "2026-10-02T00:00:00Z"


def test_the_answer_as_json(machine: Machine) -> None:
    path = write(machine, [*ROWS, ROWS[0].replace("2.5", "-1"), ROWS[0].replace("2.5", "")])
    ended = machine.arbiter("prices", "import", path, "--on-error", "skip", "--json")
    assert ended.code == 0
    assert ended.json == {
        "source": path, "rows": 4, "prices": 2, "series": 2, "new_series": 2,
        "from": "2026-10-02T00:00:00Z", "to": "2026-10-09T00:00:00Z", "without_price": 1,
        "left_out": {"price is negative": 1},
        "lines": [{"line": 5, "reason": "price_hour: price is negative ('-1')"}],
        "degraded": [],
    }  # fmt: skip


def test_a_wrong_row_stops_the_import_and_nothing_is_stored(machine: Machine) -> None:
    path = write(machine, [*ROWS, ROWS[0].replace("2.5", "cheap")])
    ended = machine.arbiter("prices", "import", path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: {path}:5: price_hour: price is not a number ('cheap'); nothing was imported; "
        "mend it, or leave such rows out: --on-error skip\n"
    )
    assert prices(machine) == 0


def test_rows_left_out_are_told(machine: Machine) -> None:
    path = write(machine, [*ROWS, ROWS[0].replace("2.5", "cheap"), ROWS[2].replace("H100", "")])
    ended = machine.arbiter("prices", "import", path, "--on-error", "skip")
    assert ended.code == 0
    reason = "is not given, and neither a recorded price nor azure itself says it"
    assert f"2 rows left out: 1 x {reason}" in ended.err
    assert "  line 5: price_hour: price is not a number ('cheap')\n" in ended.err
    assert prices(machine) == 3


def test_columns_and_values_and_the_time_zone_are_options(machine: Machine) -> None:
    path = write(machine, ["2026-10-01,1.25"], "when,spot_usd")
    ended = machine.arbiter(
        "prices", "import", path, "--map", "when=valid_from", "--map", "spot_usd=price_hour",
        "--set", "provider=runpod", "--set", "region=EU-RO-1", "--set", "instance_type=H100 SXM",
        "--set", "gpu=H100", "--set", "gpu_count=1", "--set", "purchase=spot",
        "--set", "currency=USD", "--tz", "Europe/Berlin", "--json",
    )  # fmt: skip
    assert ended.json["from"] == "2026-09-30T22:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv cannot be read: No such file or directory; check the path"),
        (["azur"], "no provider is called 'azur'; did you mean azure?"),
        (["forgetful"], "forgetful tells no past prices; "),
        (["mine.csv", "--tz", "Europe/Berlim"], "did you mean Europe/Berlin?"),
        (["mine.csv", "--map", "x"], "--map 'x' is not COLUMN=OURS"),
        (["mine.csv", "--set", "prise=2"], "'prise' is no column of prices"),
    ],
)
def test_slips_are_told_in_one_line(machine: Machine, arguments: list[str], message: str) -> None:
    ended = machine.arbiter("prices", "import", *arguments)
    assert ended.code == 1
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_a_providers_past_is_imported(machine: Machine) -> None:
    ended = machine.arbiter("prices", "import", "historian")
    assert ended.code == 0
    assert ended.out == (
        "historian: 1 rows, 1 prices written to 1 series (1 of them new), "
        "2026-10-23T12:00:00Z to 2026-11-01T12:00:00Z\n"
    )
    assert ended.err == "missing: eu-south-1: not enabled\n"
    again = machine.arbiter("prices", "import", "historian", "--json")
    assert again.json["prices"] == 0


# --- export -----------------------------------------------------------------------------------


@pytest.fixture
def filled(machine: Machine) -> Machine:
    """What was imported, and a price that stands."""
    assert machine.arbiter("prices", "import", write(machine)).code == 0
    offer = priced("fr-par-2", "2.73", instance_type="H100-1-80G", gpu="H100", purchase=OD)
    machine.sells("scaleway", [offer])
    return machine


def test_csv_says_what_it_is_and_has_exact_figures(filled: Machine) -> None:
    path = filled.folder / "out.csv"
    arguments = ("--gpu", "H100", "--gpu", "L4", "--spot", "--since", "90d")
    ended = filled.arbiter("prices", "export", *arguments, "-o", str(path))
    assert (ended.code, ended.out) == (0, f"{path}: 2 prices of 1 series\n")
    lines = path.read_text().splitlines()
    about = dict(line[2:].split(": ", 1) for line in lines if line.startswith("#"))
    assert about["as_of"] == "2026-11-01T12:00:00Z"
    assert about["query"] == "--gpu L4 --spot --since 90d"
    assert (about["rows"], about["series"]) == ("2", "1")
    assert "price_gpu_hour per GPU" in about["units"]
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert rows[1] == {
        "provider": "aws", "tier": "standard", "region": "eu-north-1", "zone": "",
        "country": "SE", "instance_type": "g6.12xlarge", "gpu": "L4", "gpu_count": "4",
        "purchase": "spot", "currency": "USD", "price_hour": "3.25", "price_gpu_hour": "0.8125",
        "valid_from": "2026-10-05T00:00:00Z", "valid_to": "2026-10-09T00:00:00Z",
        "source": "mine.csv", "is_backfill": "true",
    }  # fmt: skip


def test_parquet_has_types_and_metadata(filled: Machine) -> None:
    path = filled.folder / "out.parquet"
    assert filled.arbiter("prices", "export", "-o", str(path)).code == 0
    table = pq.read_table(path)
    assert str(table.schema.field("price_hour").type) == "decimal128(20, 6)"
    assert str(table.schema.field("valid_from").type).startswith("timestamp[")
    assert table.schema.metadata[b"rows"] == b"4"
    assert table.schema.metadata[b"query"] == b"everything"
    rows = table.to_pylist()
    standing = next(row for row in rows if row["provider"] == "scaleway")
    assert standing["valid_to"] is None
    assert standing["is_backfill"] is False
    assert (standing["price_hour"], standing["country"]) == (Decimal("2.730000"), "FR")
    assert standing["valid_from"] == NOW - timedelta(seconds=60)


def test_xlsx_has_a_sheet_of_prices_and_one_about_them(filled: Machine) -> None:
    path = filled.folder / "out.xlsx"
    assert filled.arbiter("prices", "export", "-o", str(path)).code == 0
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["prices", "about"]
    heading, *rows = book["prices"].iter_rows(values_only=True)
    assert len(rows) == 4
    row = dict(zip(heading, rows[0], strict=True))
    assert (row["price_hour"], row["valid_from"]) == (2.5, datetime(2026, 10, 1))  # noqa: DTZ001
    about = dict(book["about"].iter_rows(values_only=True))
    assert (about["rows"], about["as_of"]) == ("4", "2026-11-01T12:00:00Z")
    book.close()


def test_the_window_has_what_stood_at_some_instant_of_it(filled: Machine) -> None:
    path = filled.folder / "out.csv"
    window = ("--from", "2026-10-02T12:00Z", "--to", "2026-10-05")
    ended = filled.arbiter("prices", "export", *window, "-o", str(path), "--json")
    assert ended.json == {
        "file": str(path), "format": "csv", "rows": 2, "series": 3,
        "as_of": "2026-11-01T12:00:00Z",
        "from": "2026-10-02T12:00:00Z", "to": "2026-10-05T00:00:00Z",
    }  # fmt: skip


def test_a_file_that_exists_is_kept_unless_forced(filled: Machine) -> None:
    path = filled.folder / "out.csv"
    path.write_text("precious")
    ended = filled.arbiter("prices", "export", "-o", str(path))
    assert (ended.code, path.read_text()) == (1, "precious")
    assert ended.err == f"error: {path} exists; name another file, or overwrite it: --force\n"
    assert filled.arbiter("prices", "export", "-o", str(path), "--force").code == 0
    assert "aws" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "prices.ods"], "prices.ods names no format; use --format csv, parquet, xlsx"),
        (["-o", "nowhere/prices.csv"], "there is no folder nowhere; make it first"),
        (["-o", "p.csv", "--gpu", "Q9000"], "no price of GPU 'Q9000' is recorded"),
        (["-o", "p.csv", "--since", "90 moons"], "is no length of time"),
    ],
)
def test_what_cannot_be_exported_is_told(
    filled: Machine, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled.folder)
    ended = filled.arbiter("prices", "export", *arguments)
    assert ended.code == 1
    assert message in ended.err
    assert not list(filled.folder.glob("*.part"))


def test_more_rows_than_a_sheet_holds_are_refused(
    filled: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "XLSX_ROWS", 4)
    path = filled.folder / "out.xlsx"
    ended = filled.arbiter("prices", "export", "-o", str(path))
    assert ended.err == (
        "error: 4 rows are more than the 3 that a sheet can hold; use --format parquet or csv, "
        "or a narrower question (--since, --gpu, --provider)\n"
    )
    assert not path.exists()


def test_a_file_that_fails_half_way_is_not_there(
    filled: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "_write_csv", full)
    path = filled.folder / "out.csv"
    ended = filled.arbiter("prices", "export", "-o", str(path))
    assert ended.err == f"error: {path} cannot be written: No space left on device\n"
    assert not list(filled.folder.glob(".out*"))


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow"), ("xlsx", "xlsxwriter")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    filled: Machine, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    monkeypatch.setattr(builtins, "__import__", _without(module))
    ended = filled.arbiter("prices", "export", "-o", str(filled.folder / f"out.{kind}"))
    assert ended.code == 1
    assert ended.err.endswith(
        f"needs {module}, which is not installed; pip install 'arbiter[files]'\n"
    )


def _without(module: str) -> Callable[..., Any]:
    imported = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return imported(name, *rest)

    return importing


# --- histories beside the checkout --------------------------------------------------------------

HISTORIES = {
    "aws_gpu_spot_eu_2019-12_2020-02.csv": (
        "--map", "spot_price_usd=price_hour", "--set", "provider=aws", "--set", "purchase=spot",
        "--set", "currency=USD", "--set", "gpu=V100-16GB", "--set", "gpu_count=8",
    ),
    "azure_gpu_daily_min_2026-04_2026-05.csv": (
        "--map", "spot_usd_hour_min=price_hour", "--set", "provider=azure",
        "--set", "purchase=spot", "--set", "currency=USD", "--tz", "UTC", "--on-error", "skip",
    ),
    "gcp_gpu_machine_price_history_2022-2026.csv": (
        "--map", "spot_usd_hour=price_hour", "--map", "observed_at_commit=valid_from",
        "--set", "provider=gcp", "--set", "purchase=spot", "--set", "currency=USD",
        "--set", "gpu=H100", "--set", "gpu_count=8",
    ),
    "gpu_tracker_observations_2026-02_2026-04.csv": (
        "--map", "price_median_usd=price_hour", "--map", "gpu_model=gpu",
        "--map", "gpu_model=instance_type", "--set", "currency=USD", "--tz", "UTC",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_public_histories_are_imported_by_naming_their_columns(
    machine: Machine, shared: Path, name: str
) -> None:
    path = shared / "history" / name
    ended = machine.arbiter("prices", "import", str(path), *HISTORIES[name], "--json")
    assert ended.code == 0, ended.err
    with path.open() as file:
        lines = sum(1 for _ in file) - 1
    answer = ended.json
    assert answer["rows"] + sum(answer["left_out"].values()) == lines
    # Azure lists parts of an A10, which are no number of GPUs.
    assert set(answer["left_out"]) <= {"is no number of GPUs"}
    assert 0 < answer["prices"] <= answer["rows"]
    assert datetime.fromisoformat(answer["from"]) >= datetime(2019, 12, 1, tzinfo=UTC)
    again = machine.arbiter("prices", "import", str(path), *HISTORIES[name], "--json")
    assert again.json["prices"] == 0
