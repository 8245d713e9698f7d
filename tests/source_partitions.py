"""Source partitions for tests of whole runs; the text of each row contains a unique marker."""

import io
from collections.abc import Sequence
from decimal import Decimal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq


def marker(partition: int, row: int) -> str:
    return f"marker-{partition}-{row}"


def partition_table(partition: int, rows: int, words: int = 20) -> pa.Table:
    """A partition whose column ``body`` has a marker in its first sentence; every tenth row is null."""
    texts = [
        None
        if row % 10 == 9
        else f"This is {marker(partition, row)}. " + "Some more words follow. " * (words // 4)
        for row in range(rows)
    ]
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "body": pa.array(texts, pa.string()),
            "price": pa.array([Decimal(row) / 100 for row in range(rows)], pa.decimal128(12, 2)),
            "tags": pa.array([["a", None, str(row)] for row in range(rows)], pa.list_(pa.string())),
        }
    ).replace_schema_metadata({"owner": "tests"})


def write_partition(
    fs: fsspec.AbstractFileSystem,
    path: str,
    table: pa.Table,
    row_groups: Sequence[int] = (),
    codec: str = "zstd",
) -> None:
    """Write a table with row groups of the given sizes; by default one row group."""
    buffer, start = io.BytesIO(), 0
    with pq.ParquetWriter(buffer, table.schema, compression=codec) as writer:
        for size in row_groups or (len(table),):
            writer.write_table(table.slice(start, size), row_group_size=max(size, 1))
            start += size
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, buffer.getvalue())


def read(fs: fsspec.AbstractFileSystem, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(fs.cat_file(path)), page_checksum_verification=True)
