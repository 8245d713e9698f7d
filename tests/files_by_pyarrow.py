"""Test files written by pyarrow: its types, and all its options that change the file."""

import datetime as dt
import decimal
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.common_columns import ROWS, ROWS_A_GROUP, TEXTS, Write, nulled, text_of


def _table(columns: dict[str, pa.Array], text: pa.DataType | None = None) -> pa.Table:
    return pa.table(
        {"n": pa.array(range(ROWS), pa.int64()), "text": pa.array(TEXTS, text or pa.string()), **columns}
    )


def _few() -> dict[str, pa.Array]:
    return {
        "k": pa.array([row // 200 * 1000 + row % 10 for row in range(ROWS)]),
        "word": pa.array(nulled([f"w{row % 5}" for row in range(ROWS)])),
        "x": pa.array([row / 7 for row in range(ROWS)]),
        "list": pa.array(nulled([[row, None] for row in range(ROWS)]), pa.list_(pa.int64())),
    }


def _flat() -> dict[str, pa.Array]:
    numbers = nulled(list(range(ROWS)))
    moments = nulled([dt.datetime(2020, 1, 1) + dt.timedelta(hours=row) for row in range(ROWS)])  # noqa: DTZ001 - without a zone
    return {
        **{
            str(kind): pa.array(numbers, kind)
            for kind in (pa.int16(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16())
        },
        **{str(kind): pa.array(moments, kind) for kind in map(pa.timestamp, ("s", "ms", "us", "ns"))},
        **{str(kind): pa.array(numbers, kind) for kind in map(pa.duration, ("ms", "us", "ns"))},
        **{
            str(kind): pa.array(numbers, kind)
            for kind in (pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.date32())
        },
        **{
            f"zone{zone}": pa.array(moments, pa.timestamp("us", zone))
            for zone in ("UTC", "Asia/Tokyo", "+02:30")
        },
        **{
            f"decimal{digits}": pa.array([decimal.Decimal(row) / 4 for row in range(ROWS)], kind(digits, 2))
            for digits, kind in ((7, pa.decimal128), (38, pa.decimal128), (60, pa.decimal256))
        },
        "binary": pa.array(nulled([bytes([0, 255, row % 256]) for row in range(ROWS)])),
        "fixed": pa.array([row.to_bytes(5, "big") for row in range(ROWS)], pa.binary(5)),
        "dictionary": pa.array([f"w{row % 5}" for row in range(ROWS)]).dictionary_encode(),
        "view": pa.array([f"long enough for a view {row}" for row in range(ROWS)], pa.string_view()),
        "null": pa.nulls(ROWS),
    }


def _nested() -> dict[str, pa.Array]:
    deep = pa.struct([("a", pa.list_(pa.struct([("b", pa.map_(pa.string(), pa.list_(pa.int32())))])))])
    return {
        "list": _few()["list"],
        "large": pa.array([[f"x{row}"] for row in range(ROWS)], pa.large_list(pa.string())),
        "fixed": pa.array([[row, 1] for row in range(ROWS)], pa.list_(pa.int64(), 2)),
        "map": pa.array(
            nulled([[(f"k{row}", row)] for row in range(ROWS)]), pa.map_(pa.string(), pa.int64())
        ),
        "deep": pa.array(nulled([{"a": [{"b": [("k", [row, None])]}, None]} for row in range(ROWS)]), deep),
    }


def _extensions() -> dict[str, pa.Array]:
    ids = [uuid.UUID(int=row).bytes for row in range(ROWS)]
    return {
        "uuid": pa.array(ids, pa.uuid()),
        "json": pa.ExtensionArray.from_storage(
            pa.json_(), pa.array([f'{{"a": {row}}}' for row in range(ROWS)])
        ),
        "bool8": pa.ExtensionArray.from_storage(
            pa.bool8(), pa.array([row % 2 for row in range(ROWS)], pa.int8())
        ),
    }


def _write(path: Path, columns: dict[str, pa.Array], text: pa.DataType | None = None, **options: Any) -> None:
    pq.write_table(_table(columns, text), path, **{"row_group_size": ROWS_A_GROUP} | options)


def _with_empty_row_groups(path: Path, compression: str) -> None:
    table = _table(_few())
    with pq.ParquetWriter(path, table.schema, compression=compression) as writer:
        for start in range(0, ROWS, ROWS_A_GROUP):
            writer.write_table(table.slice(start, ROWS_A_GROUP))
            writer.write_table(table.slice(0, 0))


LONG_ROWS = 50_000
"""Number of rows for which pyarrow writes the new columns in three pages."""


def write_long(path: Path) -> None:
    """Write a file of one row group with a page index."""
    table = pa.table({"n": range(LONG_ROWS), "text": list(map(text_of, range(LONG_ROWS)))})
    pq.write_table(table, path, write_page_index=True)


def _with_field_ids(path: Path) -> None:
    table = _table(_few())
    fields = [
        field.with_metadata({b"PARQUET:field_id": str(3 * place).encode(), b"unit": b"m"})
        for place, field in enumerate(table.schema, 1)
    ]
    schema = pa.schema(fields, metadata={b"owner": b"me", b"": b"no name"})
    pq.write_table(table.cast(schema), path, row_group_size=ROWS_A_GROUP)


_ENCODINGS = {
    "n": "DELTA_BINARY_PACKED",
    "text": "DELTA_BYTE_ARRAY",
    "word": "DELTA_LENGTH_BYTE_ARRAY",
    "x": "BYTE_STREAM_SPLIT",
    "k": "PLAIN",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    **{codec: {"compression": codec} for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")},
    "codec-a-column": {"compression": {"text": "gzip", "n": "zstd"}},
    **{f"version-{version}": {"version": version} for version in ("1.0", "2.4")},
    "v2-pages": {"data_page_version": "2.0", "data_page_size": 300, "write_page_index": True},
    "encodings": {"use_dictionary": False, "column_encoding": _ENCODINGS},
    "byte-stream-split": {"use_dictionary": ["text"], "use_byte_stream_split": ["x", "k"]},
    "no-dictionary": {"use_dictionary": False},
    "small-dictionaries": {"dictionary_pagesize_limit": 100, "data_page_size": 100, "write_batch_size": 10},
    "page-index": {"write_page_index": True, "data_page_size": 300, "write_batch_size": 20},
    "page-index-of-one-page": {"write_page_index": True},
    "rows-a-page": {"write_page_index": True, "max_rows_per_page": 13},
    "index-without-statistics": {"write_page_index": True, "write_statistics": False},
    "no-statistics": {"write_statistics": False},
    "statistics-of-some": {"write_statistics": ["n"]},
    "checksums": {"write_page_checksum": True},
    "no-arrow-schema": {"store_schema": False},
    "sorted": {"sorting_columns": [pq.SortingColumn(0)]},
    "content-defined": {"use_content_defined_chunking": {"min_chunk_size": 256, "max_chunk_size": 1024}},
    "bloom": {"bloom_filter_options": {"k": {"ndv": 100, "fpp": 0.01}, "text": True}},
    "one-row-group": {"row_group_size": ROWS},
    "spark-names": {"flavor": "spark"},
}
_TEXT_TYPES = {
    "large": pa.large_string(),
    "view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}

CASES: dict[str, Write] = {
    "pyarrow-types": partial(_write, columns=_flat()),
    "pyarrow-types-without-arrow-schema": partial(_write, columns=_flat(), store_schema=False),
    "pyarrow-int96": partial(_write, columns=_flat(), use_deprecated_int96_timestamps=True),
    "pyarrow-integer-decimals": partial(_write, columns=_flat(), store_decimal_as_integer=True),
    "pyarrow-nested": partial(_write, columns=_nested(), write_page_index=True, data_page_size=300),
    "pyarrow-old-nested-names": partial(_write, columns=_nested(), use_compliant_nested_type=False),
    "pyarrow-extensions": partial(_write, columns=_extensions()),
    "pyarrow-field-ids": _with_field_ids,
    **{
        f"pyarrow-empty-row-groups-{codec}": partial(_with_empty_row_groups, compression=codec)
        for codec in ("none", "zstd")
    },
    **{f"pyarrow-{name}": partial(_write, columns=_few(), **options) for name, options in _OPTIONS.items()},
    **{
        f"pyarrow-{name}-text": partial(_write, columns=_few(), text=kind)
        for name, kind in _TEXT_TYPES.items()
    },
}
