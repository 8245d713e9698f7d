"""Reads selected columns of a Parquet file in slices of bounded memory; other columns are not read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.escaping import printable
from tasks.core.parquet.footer import BAD_BYTES
from tasks.core.parquet.footer_reading import read_footer
from tasks.core.storage.reading import SeekableFile

_BUFFER_BYTES = 8 * 2**20
"""Size of a request to an object store: larger needs fewer requests, smaller less memory. Not measured."""
_SLICE_ROWS = 32_768
_SLICE_BYTES = 32 * 2**20
"""A larger slice needs fewer lookups in the ledger; a smaller one less memory, which holds each row twice."""
_BATCH_ROWS = 1024
"""Rows decoded at once. More are decoded faster; fewer keep memory low when some values of a dictionary are
far longer than the mean. Not measured."""


class Reader:
    """The row groups of one partition.

    Args:
        file: The open partition; the caller closes it.
        name: Its name for messages.

    Raises:
        PartitionError: The footer is corrupt, or the file is encrypted.
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
        """Read the rows in order; a slice never spans two row groups, and an empty row group has no slice.

        Args:
            columns: Names of columns, each unique in the file.
            row_groups: The row groups to read; all by default.

        Raises:
            PartitionError: The data is corrupt.
        """
        wanted = range(len(self.footer.row_groups)) if row_groups is None else row_groups
        metadata = self.footer.select(columns)
        # Without pre_buffer pyarrow streams a column; with it, a whole file may be in memory.
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
                message = "the number of rows differs from the footer"
                raise pa.ArrowInvalid(message)
        if waiting:
            yield pa.Table.from_batches(waiting).select(columns)


def _rows_a_batch(group: pq.RowGroupMetaData, rows: int) -> int:
    size_bytes: int = sum(group.column(i).total_uncompressed_size for i in range(group.num_columns))
    return max(1, min(_BATCH_ROWS, _SLICE_BYTES * rows // max(1, size_bytes)))


@contextmanager
def _corruption(where: str) -> Iterator[None]:
    """Translate pyarrow's exceptions for corrupt data into a PartitionError that names the row group.

    For corrupt data pyarrow raises a plain OSError without an error number. The OSError of a failing store
    has a subclass or a number, and is not translated here.
    """
    try:
        yield
    except pa.ArrowNotImplementedError:
        message = f"{where} uses a feature that pyarrow cannot read: write the file again and run again"
        raise PartitionError(message) from None
    except BAD_BYTES as error:
        if not isinstance(error, OSError) or (type(error) is OSError and error.errno is None):
            message = f"{where} is corrupt: restore the file and run again"
            raise PartitionError(message) from None
        raise
