"""How a Parquet file was written, as far as its footer tells, and how to write one like it.

Codec per column, sorting, names inside lists, INT96 timestamps, Arrow's own schema. That a schema survives
writing and reading is tried here with an empty file, so that it is known before a row is paid for.
"""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.files.footer import ARROW_SCHEMA, Footer

_LONGEST_ROW_GROUP = 64 * 2**20
"""Rows; pyarrow's ParquetWriter splits what is longer."""


def writer_options(footer: Footer, schema: pa.Schema) -> dict[str, Any]:
    """The options of pyarrow to write a schema the way a file was written.

    Args:
        footer: The footer of that file.
        schema: The file's schema and, behind it, columns without nesting.

    Raises:
        PartitionError: Writing would change the schema or the row groups.
    """
    source = footer.metadata
    if max(footer.row_groups, default=0) > _LONGEST_ROW_GROUP:
        message = f"a row group has more than {_LONGEST_ROW_GROUP} rows, which would be split"
        raise PartitionError(message)
    options: dict[str, Any] = {
        # The only version that keeps every Arrow type; older ones widen uint32 and round nanoseconds.
        "version": "2.6",
        "sorting_columns": source.row_group(0).sorting_columns or None if footer.row_groups else None,
        # True would rename every list's child to "element"; False keeps what the file calls them.
        "use_compliant_nested_type": False,
        "use_deprecated_int96_timestamps": _writes_int96(source),
        # A file without Arrow's own schema was not written by Arrow; adding one would change its footer.
        "store_schema": ARROW_SCHEMA in (source.metadata or {}),
        "write_page_checksum": True,
        "write_time_adjusted_to_utc": any("isAdjustedToUTC=true" in time for time in _times(source)),
        "store_decimal_as_integer": _has_whole_decimals(source),
    }
    written = _written(schema, options, footer.int96_unit)
    leaves = _leaves(written)
    for before, after in zip(_leaves(source), leaves, strict=False):
        _check_kind(before, after)
    return options | {"compression": _codecs(source, [leaf.path for leaf in leaves])}


def int96_paths(source: pq.FileMetaData) -> list[str]:
    """The columns that are INT96 timestamps."""
    return [column.path for column in _leaves(source) if column.physical_type == "INT96"]


def int96_unit(nanos: pq.ParquetFile, micros: pq.ParquetFile) -> str | None:
    """The unit that holds every INT96 timestamp of a file exactly.

    Nanoseconds reach from 1677 to 2262 only, and pyarrow wraps what lies outside, such as Spark's year 1 and
    year 9999, into wrong dates without a word.

    Args:
        nanos: The file, its INT96 columns read as nanoseconds, pyarrow's default.
        micros: The same file, read as microseconds.

    Returns:
        ``ns`` or ``us``; None when the file needs both.
    """
    paths = int96_paths(nanos.metadata)
    fits = exact = True
    for index in range(nanos.num_row_groups if paths else 0):
        fine = nanos.read_row_group(index, columns=paths, use_threads=False)
        coarse = micros.read_row_group(index, columns=paths, use_threads=False)
        # An unsafe cast wraps the same way as the reader does.
        exact = exact and coarse.cast(fine.schema, safe=False).equals(fine)
        try:
            coarse.cast(fine.schema)
        except pa.ArrowInvalid:
            fits = False
    if fits:
        return "ns"
    return "us" if exact else None


def _writes_int96(source: pq.FileMetaData) -> bool:
    """Only when it is every timestamp of the file: the writer has one switch for all of them."""
    columns = _leaves(source)
    return any(column.physical_type == "INT96" for column in columns) and not any(
        column.logical_type.type == "TIMESTAMP" for column in columns
    )


def _leaves(file: pq.FileMetaData) -> list[Any]:
    """Parquet's own columns of a file."""
    return [file.schema.column(i) for i in range(file.num_columns)]


def _times(file: pq.FileMetaData) -> list[str]:
    return [str(leaf.logical_type) for leaf in _leaves(file) if leaf.logical_type.type == "TIME"]


def _has_whole_decimals(file: pq.FileMetaData) -> bool:
    """Short decimals are integers: the writer has one switch for all of them."""
    decimals = [leaf for leaf in _leaves(file) if leaf.logical_type.type == "DECIMAL"]
    return any(leaf.physical_type in {"INT32", "INT64"} for leaf in decimals)


def _check_kind(before: Any, after: Any) -> None:
    """Refuse what Arrow has no type for, such as Parquet's ENUM, and would be written without its name."""
    kinds = [leaf.logical_type.type for leaf in (before, after)]
    lost = kinds[0] not in {"NONE", kinds[1]}
    # Of times, some may be local and some not; the writer has one switch for all of them.
    lost = lost or (kinds[0] == "TIME" and str(before.logical_type) != str(after.logical_type))
    if lost:
        change = f"{before.logical_type} would be {after.logical_type}"
        message = f"column '{before.path}' cannot be kept: {change}"
        raise PartitionError(message)


def _written(schema: pa.Schema, options: dict[str, Any], int96_unit: str) -> pq.FileMetaData:
    """The footer as it will be written; tried with an empty file."""
    sink = pa.BufferOutputStream()
    try:
        with pq.ParquetWriter(sink, schema, **options):
            pass
        written = pq.ParquetFile(pa.BufferReader(sink.getvalue()), coerce_int96_timestamp_unit=int96_unit)
    except pa.ArrowException as error:
        message = f"its schema cannot be written as Parquet again ({type(error).__name__})"
        raise PartitionError(message) from None
    for before, after in zip(schema, written.schema_arrow, strict=True):
        if not before.equals(after):
            message = f"column '{before.name}' cannot be kept: {before.type} would be written as {after.type}"
            raise PartitionError(message)
    return written.metadata


def _codecs(source: pq.FileMetaData, paths: list[str]) -> dict[str, str] | str:
    """Codec per column, those of the first row group; added columns take the one most columns have."""
    if not source.num_row_groups or not source.num_columns:
        return "zstd"
    group = source.row_group(0)
    codecs = [_codec(group.column(i).compression) for i in range(source.num_columns)]
    [(most_common, _)] = Counter(codecs).most_common(1)
    return dict.fromkeys(paths, most_common) | dict(zip(paths, codecs, strict=False))


def _codec(name: str) -> str:
    return "none" if name == "UNCOMPRESSED" else name.lower().partition("_")[0]
