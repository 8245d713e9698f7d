"""Reads and filters a Parquet file with each of the libraries that the tests compare."""

import functools
import io
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import datafusion
import duckdb
import fastparquet
import pandas as pd
import polars as pl
import pyarrow.parquet as pq

Result = TypeVar("Result")
Seen = dict[str, tuple[str, list[Any]]]
"""Type and values of each column, as the reader returns them."""


class UnreadableError(Exception):
    """A reader cannot read a file."""


_duckdb_connection = functools.cache(duckdb.connect)


def attempt(read: Callable[..., Result], *args: Any) -> Result:
    """Call a reader.

    Raises:
        UnreadableError: The reader raised any exception, panics of Rust included.
    """
    try:
        return read(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise UnreadableError(type(error).__name__) from error


def _pyarrow(path: Path) -> Seen:
    table = pq.read_table(path, partitioning=None)
    return {
        field.name: (f"{field} {field.metadata}", column.to_pylist())
        for field, column in zip(table.schema, table.columns, strict=True)
    }


def _duckdb(path: Path) -> Seen:
    result = _duckdb_connection().execute("from read_parquet($1)", [str(path)])
    types = [(column[0], str(column[1])) for column in result.description]
    rows = result.fetchall()
    return {name: (kind, [row[place] for row in rows]) for place, (name, kind) in enumerate(types)}


def _polars(path: Path) -> Seen:
    frame = pl.read_parquet(path)
    return {column.name: (str(column.dtype), column.to_list()) for column in frame.get_columns()}


def _datafusion(path: Path) -> Seen:
    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))
    table = context.read_parquet(str(path)).to_arrow_table()
    return {
        field.name: (str(field.type), column.to_pylist())
        for field, column in zip(table.schema, table.columns, strict=True)
    }


def _pandas(path: Path) -> Seen:
    return _of_frame(pd.read_parquet(path, engine="pyarrow"))


def _fastparquet(path: Path) -> Seen:
    with warnings.catch_warnings():
        # fastparquet triggers deprecation warnings of pandas.
        warnings.simplefilter("ignore")
        return _of_frame(_opened_by_fastparquet(path).to_pandas())


def _opened_by_fastparquet(path: Path) -> Any:
    # fastparquet does not close files, which would be a warning.
    return fastparquet.ParquetFile(io.BytesIO(path.read_bytes()))


def _of_frame(frame: pd.DataFrame) -> Seen:
    columns = {str(name): (str(frame[name].dtype), frame[name].tolist()) for name in frame.columns}
    return {"(index)": (str(frame.index.dtype), frame.index.tolist())} | columns


READERS: dict[str, Callable[[Path], Seen]] = {
    "pyarrow": _pyarrow,
    "duckdb": _duckdb,
    "polars": _polars,
    "datafusion": _datafusion,
    "pandas": _pandas,
    "fastparquet": _fastparquet,
}


def plain(values: Sequence[Any]) -> list[Any]:
    """Convert to Python values: pandas uses NaN for null, and floats for integers with nulls."""
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return int(value) if isinstance(value, float) else value


def _filtered_by_pyarrow(path: Path, column: str, value: Any, wanted: str = "n") -> list[Any]:
    table = pq.read_table(path, columns=[wanted], filters=[(column, "=", value)], partitioning=None)
    return plain(table[wanted].to_pylist())


def _filtered_by_duckdb(path: Path, column: str, value: Any, wanted: str = "n") -> list[Any]:
    query = f'select "{wanted}" from read_parquet($1) where "{column}" = $2'  # noqa: S608 - a column's name of these tests
    return plain([found for (found,) in _duckdb_connection().execute(query, [str(path), value]).fetchall()])


def _filtered_by_polars(path: Path, column: str, value: Any, wanted: str = "n") -> list[Any]:
    frame = pl.scan_parquet(path).filter(pl.col(column) == value).select(wanted).collect()
    return plain(frame[wanted].to_list())


def _filtered_by_datafusion(path: Path, column: str, value: Any, wanted: str = "n") -> list[Any]:
    config = datafusion.SessionConfig().with_parquet_pruning(enabled=True)
    context = datafusion.SessionContext(config.set("datafusion.execution.parquet.pushdown_filters", "true"))
    context.register_parquet("file", str(path))
    shown = f"'{value}'" if isinstance(value, str) else str(value)
    table = context.sql(f'select "{wanted}" from file where "{column}" = {shown}').to_arrow_table()  # noqa: S608 - as above
    return plain(table[wanted].to_pylist())


def _filtered_by_fastparquet(path: Path, column: str, value: Any, wanted: str = "n") -> list[Any]:
    file = _opened_by_fastparquet(path)
    # fastparquet only skips row groups here: its row filter fails on chunks with several pages.
    frame = file.to_pandas(columns=list({wanted, column}), filters=[(column, "==", value)])
    return plain(frame[frame[column] == value][wanted].tolist())


FILTERS: dict[str, Callable[..., list[Any]]] = {
    "pyarrow": _filtered_by_pyarrow,
    "duckdb": _filtered_by_duckdb,
    "polars": _filtered_by_polars,
    "datafusion": _filtered_by_datafusion,
    "fastparquet": _filtered_by_fastparquet,
}
"""Each takes path, column, value and another column (by default ``n``), and returns the other column's values
in the rows where the first column has this value."""
