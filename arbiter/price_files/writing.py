"""Writing exported prices: beside the file at first, and under its name when all of it is there."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from arbiter.money import decimal_string
from arbiter.price_files.contract import BadFile
from arbiter.price_files.exported import HEADER, Export, ExportedRow
from arbiter.price_files.parquet import pyarrow, schema

FORMATS = ("csv", "parquet", "xlsx")

XLSX_ROWS = 1_048_576
"""Rows of a sheet, its heading among them: a limit of the format."""

Told = Callable[[int], None]
"""Called with the number of rows written since the last call."""

_BATCH = 20_000
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"


def format_of(path: Path, named: str | None) -> str:
    """The format of a file: as named, else as its name ends.

    Raises:
        BadFile: the name says none that is written.
    """
    kind = named or path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise BadFile(f"{path} names no format", f"use --format {', '.join(FORMATS)}")
    return kind


def check_target(path: Path, *, force: bool) -> None:
    """See that a file may be written there, before anything is computed.

    Raises:
        BadFile: it exists, or its folder does not.
    """
    if path.is_dir():
        raise BadFile(f"{path} is a folder", "name a file in it")
    if path.exists() and not force:
        raise BadFile(f"{path} exists", "name another file, or overwrite it: --force")
    if not path.parent.is_dir():
        raise BadFile(f"there is no folder {path.parent}", "make it first")


def write_file(path: Path, kind: str, export: Export, told: Told | None = None) -> None:
    """Write an export. The file is there whole, or not at all.

    Raises:
        BadFile: it cannot be written, what writes the format is not installed, or it has more rows
            than the format can hold.
    """
    write = {"csv": _write_csv, "parquet": _write_parquet, "xlsx": _write_xlsx}[kind]
    if kind == "xlsx" and export.rows >= XLSX_ROWS:
        raise BadFile(
            f"{export.rows:,} rows are more than the {XLSX_ROWS - 1:,} that a sheet can hold",
            "use --format parquet or csv, or a narrower question (--since, --gpu, --provider)",
        )
    try:
        with _becoming(path) as unfinished:
            write(unfinished, export, told or (lambda _rows: None))
    except OSError as error:
        raise BadFile(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _becoming(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, which takes the name at the end."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)  # as any new file, which mkstemp's is not
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _batches(export: Iterable[ExportedRow]) -> Iterator[list[ExportedRow]]:
    rows = iter(export)
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _write_csv(path: Path, export: Export, told: Told) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for key, text in export.about.items():
            file.write(f"# {key}: {text}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for batch in _batches(export):
            writer.writerows(map(_texts, batch))
            told(len(batch))


def _texts(row: ExportedRow) -> tuple[str, ...]:
    return tuple(map(_text, row))


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return decimal_string(value)
        case datetime():
            return value.strftime(_INSTANT)
    return str(value)


def _write_parquet(path: Path, export: Export, told: Told) -> None:
    arrow = pyarrow()
    shape = schema(export.about)
    with arrow.parquet.ParquetWriter(path, shape, compression="zstd") as writer:
        for batch in _batches(export):
            columns = [
                arrow.array(values, field.type)
                for values, field in zip(zip(*batch, strict=True), shape, strict=True)
            ]
            writer.write_table(arrow.table(columns, schema=shape))
            told(len(batch))


def _write_xlsx(path: Path, export: Export, told: Told) -> None:
    try:
        import xlsxwriter
    except ModuleNotFoundError as error:
        raise BadFile(
            "XLSX needs xlsxwriter, which is not installed", "pip install 'arbiter[files]'"
        ) from error
    # Row by row from the memory onto the disk, and no text of ours is taken for a formula or link.
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(path, options) as book:
        book.set_properties({"created": datetime.fromisoformat(export.about["as_of"])})
        kinds = {
            "price_hour": book.add_format({"num_format": "0.000000"}),
            "price_gpu_hour": book.add_format({"num_format": "0.000000"}),
            "valid_from": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            "valid_to": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        _write_sheet(book.add_worksheet("prices"), [kinds.get(one) for one in HEADER], export, told)
        about = book.add_worksheet("about")
        about.set_column(0, 0, 12)
        for number, (key, text) in enumerate(export.about.items()):
            about.write_row(number, 0, (key, text))


def _write_sheet(sheet: Any, kinds: list[Any], export: Export, told: Told) -> None:
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, len(HEADER) - 1, 16)
    sheet.write_row(0, 0, HEADER)
    number = 0
    for batch in _batches(export):
        for row in batch:
            number += 1
            for place, (value, kind) in enumerate(zip(row, kinds, strict=True)):
                if isinstance(value, datetime):
                    sheet.write_datetime(number, place, value.replace(tzinfo=None), kind)
                elif value is not None:
                    sheet.write(number, place, value, kind)
        told(len(batch))
