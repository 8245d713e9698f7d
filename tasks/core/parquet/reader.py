"""Reads some columns of a Parquet file in slices of bounded memory; the other columns are never looked at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.escaping import printable
from tasks.core.parquet.footer import BAD_BYTES, read_footer
from tasks.core.storage.reading import SeekableFile

_BUFFER_BYTES = 8 * 2**20
"""One request to an object store; a chunk is never held whole."""
_SLICE_ROWS = 32_768
_SLICE_BYTES = 32 * 2**20
"""A larger slice looks up the ledger less often, and holds more rows in memory twice over."""
_BATCH_ROWS = 1024
"""Rows that are decoded at once: few, since a dictionary may hold values far above the mean."""


class Reader:
    """The row groups of one partition.

    Args:
        file: The open partition; it stays the caller's to close.
        name: What to call it in messages.

    Raises:
        PartitionError: Its footer is corrupt, or it is encrypted.
    """

    def __init__(self, file: SeekableFile, name: str) -> None:
        self._file = file
        self._name = printable(name)
        try:
            self.footer = read_footer(file)
        except PartitionError as error:
            message = f"{self._name}: {error}"
            raise PartitionError(message) from None

    def slices(self, columns: Sequence[str], row_groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """The rows in order, some of each row group at a time; an empty row group has none.

        Args:
            columns: Names of columns, each in the file once.
            row_groups: Of these row groups only; by default of all.

        Raises:
            PartitionError: Its data is corrupt.
        """
        wanted = range(len(self.footer.row_groups)) if row_groups is None else row_groups
        metadata = self.footer.select(columns)
        # Without pre_buffer a column streams; with it a whole file may be held in memory.
        file = pq.ParquetFile(
            self._file,
            metadata=metadata,
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES,
            page_checksum_verification=True,
        )
        for index in wanted:
            yield from self._row_group(file, index, columns)

    def _row_group(self, file: pq.ParquetFile, index: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        rows = self.footer.row_groups[index]
        batch_rows = _rows_a_batch(file.metadata.row_group(index), rows)
        waiting: list[pa.RecordBatch] = []
        rows_waiting = bytes_waiting = 0
        with _corruption(f"{self._name}: row group {index}"):
            for batch in file.iter_batches(batch_rows, [index], use_threads=False):
                waiting.append(batch)
                rows_waiting, bytes_waiting = rows_waiting + len(batch), bytes_waiting + batch.nbytes
                if rows_waiting >= _SLICE_ROWS or bytes_waiting >= _SLICE_BYTES:
                    yield pa.Table.from_batches(waiting).select(columns)
                    waiting, rows, rows_waiting, bytes_waiting = [], rows - rows_waiting, 0, 0
            if rows_waiting != rows:
                message = "a number of rows that is not the footer's"
                raise pa.ArrowInvalid(message)
        if waiting:
            yield pa.Table.from_batches(waiting).select(columns)


def _rows_a_batch(group: pq.RowGroupMetaData, rows: int) -> int:
    size_bytes: int = sum(group.column(i).total_uncompressed_size for i in range(group.num_columns))
    return max(1, min(_BATCH_ROWS, _SLICE_BYTES * rows // max(1, size_bytes)))


@contextmanager
def _corruption(where: str) -> Iterator[None]:
    """Turn what pyarrow raises on bad bytes into a PartitionError that says where.

    pyarrow reports corruption as a plain OSError without an error number; a failing store's OSError has a
    subclass or a number, and passes through to be reported as what it is.
    """
    try:
        yield
    except pa.ArrowNotImplementedError:
        message = f"{where} is written in a way that pyarrow cannot read: write the file again and run again"
        raise PartitionError(message) from None
    except BAD_BYTES as error:
        if not isinstance(error, OSError) or (type(error) is OSError and error.errno is None):
            message = f"{where} cannot be read, its bytes are corrupt: restore the file and run again"
            raise PartitionError(message) from None
        raise
