"""Reading a file of prices: a row at a time, in bounded memory, with the line of every fault."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from arbiter.price_files.contract import BadFile, Reading, lay_out
from arbiter.price_files.machines import Machines
from arbiter.price_files.rows import NOT_LINUX, BadRow, LeftOut, Row, Rows
from arbiter.regions import Atlas
from arbiter.store.spool import PastPrices

STOP, SKIP = "stop", "skip"

AS_OF = "as_of"
"""The key under which a file says when it was written, in a `#` line or in Parquet's metadata."""

READABLE = (".csv", ".parquet")

Told = Callable[[int], None]
"""Called with how much more has been read: bytes of a CSV, rows of a Parquet file."""

_EVERY = 20_000  # rows between two such calls


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header has been read.

    Attributes:
        header: the names of its columns.
        rows: (line, row, how far it has been read); a row of a CSV whose number of fields is not
            that of the header is a BadRow instead.
        about: what the file says of itself.
        unit: what the number of a row is: "line" of a CSV, "row" of a Parquet file.
    """

    header: list[str]
    rows: Iterable[tuple[int, Row | BadRow, int]]
    about: dict[str, str]
    unit: str


@dataclass(frozen=True, slots=True)
class Read:
    """What a file had.

    Attributes:
        rows: those that were taken.
        gaps: those among them that have no price: from then on nothing was on sale.
        as_of: when the file says it was written, or None.
    """

    rows: int
    gaps: int
    left_out: LeftOut
    as_of: datetime | None


def extent(path: Path) -> int:
    """How much there is to read, in what `Told` counts.

    Raises:
        BadFile: the file is not there, cannot be read, or is of no kind that is read.
    """
    kind = _kind(path)
    try:
        if kind == ".csv":
            return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    from arbiter.price_files.parquet import rows_in

    return rows_in(path)


def read_file(
    path: Path,
    reading: Reading,
    past: PastPrices,
    now: datetime,
    atlas: Atlas,
    machines: Machines,
    *,
    on_error: str = STOP,
    told: Told | None = None,
) -> Read:
    """Collect the prices of a file.

    Args:
        on_error: STOP at the first row that cannot be right, or SKIP such rows and count them.

    Raises:
        BadFile: it cannot be read, a column is missing, or a row is wrong, with its line.
    """
    left_out = LeftOut()
    told_of = 0
    with _opened(path) as opened:
        layout = lay_out(opened.header, reading, source=path.name)
        rows = Rows(layout, reading, past, now, atlas, machines)
        for line, row, at in opened.rows:
            try:
                if isinstance(row, BadRow):
                    raise row
                rows.add(row)
            except BadRow as wrong:
                if on_error == STOP:
                    raise _stopped(path, opened.unit, line, wrong) from None
                left_out.add(line, wrong)
            if told is not None and at > told_of:
                told(at - told_of)
                told_of = at
        rows.flush()
        if rows.other_systems:
            left_out.reasons[NOT_LINUX] += rows.other_systems
    return Read(past.rows, rows.gaps, left_out, _as_of(opened.about, now))


def _stopped(path: Path, unit: str, line: int, wrong: BadRow) -> BadFile:
    where = f"{path}:{line}" if unit == "line" else f"{path}, row {line}"
    hint = f"{wrong.hint}; " if wrong.hint else ""
    return BadFile(
        f"{where}: {wrong.sentence}; nothing was imported",
        f"{hint}mend it, or leave such rows out: --on-error skip",
    )


def _as_of(about: dict[str, str], now: datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(about[AS_OF])
    except (KeyError, ValueError):
        return None
    return found if found.tzinfo is not None and found <= now else None


@contextmanager
def _opened(path: Path) -> Iterator[Opened]:
    if _kind(path) == ".parquet":
        from arbiter.price_files.parquet import open_parquet

        with open_parquet(path) as opened:
            yield opened
        return
    try:
        # Bytes that are no UTF-8 are a fault of their row, found where they would count.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield _csv(path, file)
    except OSError as error:
        raise _unreadable(path, error) from error


def _csv(path: Path, file: Any) -> Opened:
    about: dict[str, str] = {}
    comments = 0
    first = ""
    for first in file:
        if not first.startswith("#"):
            break
        key, _, value = first.lstrip("#").partition(":")
        about[key.strip()] = value.strip()
        comments += 1
    if not first.strip() or first.startswith("#"):
        raise BadFile(f"{path} is empty", "its first line must name the columns")
    delimiter = max(",;\t", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter))
    if len(header) < 2:
        raise BadFile(f"{path}:{comments + 1}: is not CSV", "its first line must name the columns")
    return Opened(
        header, _csv_rows(path, file, delimiter, len(header), comments + 1), about, "line"
    )


def _csv_rows(
    path: Path, file: Any, delimiter: str, width: int, before: int
) -> Iterator[tuple[int, Row | BadRow, int]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    line = before + 1
    try:
        for row in reader:
            if len(row) == width:
                yield line, row, 0 if line % _EVERY else file.buffer.tell()
            elif row:
                reason = f"has {len(row)} fields, the header has {width}"
                yield line, BadRow("", reason), 0
            line = before + 1 + reader.line_num
    except csv.Error as error:
        raise BadFile(
            f"{path}:{line}: cannot be read as CSV: {error}", 'look for a " that is not closed'
        ) from None


def _kind(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in READABLE:
        raise BadFile(f"{path} is neither .csv nor .parquet", "export it as one of them")
    return kind


def _unreadable(path: Path, error: OSError) -> BadFile:
    return BadFile(f"{path} cannot be read: {error.strerror or error}", "check the path")
