"""Results as a Parquet file, for whoever compares many of them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arbiter.backtest.score import Result, bootstrap
from arbiter.errors import ArbiterError


def write_parquet(results: Sequence[Result], file: Path) -> None:
    """Write a row per result: the keys of the JSON, and what the JSON leaves out.

    Raises:
        ArbiterError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ArbiterError(
            "writing Parquet needs pyarrow", "pip install 'arbiter[files]', or use --json"
        ) from error
    table = pyarrow.Table.from_pylist([_row(result) for result in results], _schema(pyarrow))
    try:
        parquet.write_table(table, file, compression="zstd")
    except OSError as error:
        raise ArbiterError(f"cannot write {file}: {error.strerror or error}") from error


def _row(result: Result) -> dict[str, object]:
    interval = bootstrap(result.days, result.missing_cost)
    low, high = interval or (None, None)
    worst = result.worst_day
    return {
        **result.as_dict(),
        "missing_cost": result.missing_cost,
        "j_5_percent": low,
        "j_95_percent": high,
        "refused": result.refused,
        "probes": result.probes,
        "worst_day_begins": worst.begins.isoformat() if worst else None,
        "worst_day_j": worst.j if worst else None,
        "notes": "\n".join(result.notes),
    }


def _schema(arrow: Any) -> Any:
    texts, whole = ("market", "policy", "worst_day_begins", "notes"), ("replicas",)
    names = (
        "market", "policy", "replicas", "cold_start_s", "cost", "availability", "missing", "j",
        "launches", "preemptions", "on_demand_share", "bound", "missing_cost", "j_5_percent",
        "j_95_percent", "refused", "probes", "saving_usd_day", "migrations",
        "worst_day_begins", "worst_day_j", "notes",
    )  # fmt: skip
    kinds = {name: arrow.string() for name in texts} | {name: arrow.int64() for name in whole}
    return arrow.schema([(name, kinds.get(name, arrow.float64())) for name in names])
