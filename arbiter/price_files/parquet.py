"""Parquet, by pyarrow, which is imported here alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.price_files.contract import BadFile

if TYPE_CHECKING:
    from arbiter.price_files.reading import Opened

BATCH = 50_000


def pyarrow() -> Any:
    """The module pyarrow, with its Parquet part.

    Raises:
        BadFile: it is not installed.
    """
    try:
        import pyarrow as found
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise BadFile(
            "Parquet needs pyarrow, which is not installed", "pip install 'arbiter[files]'"
        ) from error
    return found


def rows_in(path: Path) -> int:
    """The number of rows of a file.

    Raises:
        BadFile: it cannot be read.
    """
    with _file(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def open_parquet(path: Path) -> Iterator[Opened]:
    """A Parquet file to be read in batches.

    Raises:
        BadFile: it cannot be read.
    """
    from arbiter.price_files.reading import Opened

    with _file(path) as file:
        about = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (file.schema_arrow.metadata or {}).items()
        }
        yield Opened(list(file.schema_arrow.names), _rows(path, file), about, "row")


def _rows(path: Path, file: Any) -> Iterator[tuple[int, Sequence[Any], int]]:
    done = 0
    batches = file.iter_batches(batch_size=BATCH)
    while True:
        try:
            batch = next(batches, None)
            columns = [] if batch is None else [_plain(column) for column in batch.columns]
        except (OSError, pyarrow().ArrowException) as error:
            raise _broken(path, error) from error
        if batch is None:
            return
        for line, row in enumerate(zip(*columns, strict=True), done + 1):
            yield line, row, done
        done += batch.num_rows


def _plain(column: Any) -> list[Any]:
    """The values of a column; instants as whole microseconds, which Python can hold."""
    arrow = pyarrow()
    if arrow.types.is_timestamp(column.type):
        column = column.cast(arrow.timestamp("us", tz=column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    arrow = pyarrow()
    try:
        file = arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise _broken(path, error) from error
    with file:
        yield file


def _broken(path: Path, error: Exception) -> BadFile:
    if isinstance(error, OSError) and error.strerror:
        return BadFile(f"{path} cannot be read: {error.strerror}", "check the path")
    return BadFile(f"{path} is no readable Parquet file: {str(error).splitlines()[0][:120]}")


def schema(about: Mapping[str, str]) -> Any:
    """The schema in which prices are exported."""
    arrow = pyarrow()
    word = arrow.dictionary(arrow.int32(), arrow.string())
    instant = arrow.timestamp("s", tz="UTC")
    money = arrow.decimal128(20, 6)
    kinds = {
        "gpu_count": arrow.int32(),
        "price_hour": money,
        "price_gpu_hour": money,
        "valid_from": instant,
        "valid_to": instant,
        "is_backfill": arrow.bool_(),
    }
    from arbiter.price_files.exported import HEADER

    fields = [arrow.field(name, kinds.get(name, word)) for name in HEADER]
    return arrow.schema(fields, metadata=dict(about))
