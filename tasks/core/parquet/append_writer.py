"""Writes what stands behind the source in an enriched file: the chunks of the new columns and a new footer.

pyarrow writes the new columns as a file of their own, with the row groups of the source; its pages are moved
behind the source, and its footer becomes part of the source's. A row group that comes in several slices is
collected in a temporary file, so memory is one slice.
"""

import mmap
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core import periodic
from tasks.core.escaping import printable
from tasks.core.parquet import page_index
from tasks.core.parquet.footer import MAGIC, Footer
from tasks.core.parquet.footer_fields import COLUMN_ORDERS
from tasks.core.parquet.new_columns import complete
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.storage import temporary_files
from tasks.core.storage.output_bytes import Tail
from tasks.core.storage.reading import SeekableFile
from tasks.core.storage.storage_errors import failures_building

LONGEST_ROW_GROUP = 64 * 2**20
"""Rows; pyarrow's writer splits what is longer."""
_RELEASE_EVERY_S = 0.02
"""In which pyarrow reads some ten MB; less often holds more memory, more often costs page faults."""


class Writer:
    """The tail of one enriched file; leaving it removes its temporary files.

    Args:
        source: The footer of the source.
        columns: What is added.
        like: The column of the source whose codec the new ones take.
        folder: Where temporary files go; they have no names.
        name: What to call the partition in messages.

    Raises:
        StorageError: The disk does not take the files; so for every method.
    """

    def __init__(self, source: Footer, columns: OutputSchema, like: str, folder: Path, name: str) -> None:
        self._source = source
        self._schema = pa.schema(columns.fields)
        self._bounded = columns.bounded if COLUMN_ORDERS in source.fields else ()
        self._like = source.chunks(like)
        self._folder = folder
        self._name = printable(name)
        self._building = partial(failures_building, folder, name)
        self._rows = source.row_groups
        self._nulls: list[list[int]] = []
        self._spill: _Spill | None = None

    def __enter__(self) -> Self:
        """Start writing."""
        with self._building():
            self._file = temporary_files.nameless_file(self._folder)
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                # Old and new readers know these pages; a flipped bit is noticed by their checksums. Without
                # dictionaries, since some readers fail at the empty one of a column without a value, and
                # fastparquet takes any in a file of its own for categories, and shows wrong values.
                version="1.0",
                data_page_version="1.0",
                write_page_checksum=True,
                store_schema=False,
                compression=self._like[0].codec if self._like else "none",
                use_dictionary=False,
                write_statistics=list(self._bounded) or False,
                write_page_index=page_index.has_any(self._source),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files."""
        # Otherwise pyarrow's finalizer would write to a closed file.
        self._writer.is_open = False
        for file in (self._file, self._spill):
            # What a full disk did not take is written once more, for nothing.
            with suppress(OSError):
                if file is not None:
                    file.close()

    def write(self, table: pa.Table) -> None:
        """Take the next rows; they are of one row group.

        Args:
            table: The new columns of these rows, in the order of their fields.
        """
        with self._building():
            self._write_empty_groups()
            rows = self._rows[len(self._nulls)]
            if self._spill is None and len(table) == rows:
                self._write_group(table)
                return
            self._spill = self._spill or _Spill(self._folder, self._schema)
            self._spill.add(table)
            if self._spill.rows == rows:
                self._spill.hand_over(self._write_group)
                self._spill.close()
                self._spill = None

    def finish(self, source: SeekableFile, facts: Mapping[str, str]) -> Tail:
        """Complete the tail: page index and footer.

        Args:
            source: The open source.
            facts: Entries to add to the footer's metadata.

        Returns:
            What is to be appended to the source; it is readable until the writer is left.

        Raises:
            PartitionError: The footer is not right.
        """
        with self._building():
            self._write_empty_groups()
            if len(self._nulls) != len(self._rows):
                message = f"{self._name}: a row group lacks rows, or has too many"
                raise ValueError(message)
            self._writer.close()
            complete(self._file, self._nulls, source, self._source, list(self._schema), facts)
            return Tail(self._file, len(MAGIC), self._file.tell() - len(MAGIC))

    def _write_empty_groups(self) -> None:
        while self._rows[len(self._nulls) :][:1] == (0,):
            self._write_group(self._schema.empty_table())

    def _write_group(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._nulls.append([column.null_count for column in table.columns])


class _Spill:
    """The slices of one row group, in a temporary file."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._file = temporary_files.nameless_file(folder)
        self._stream = pa.ipc.new_stream(self._file, schema)

    def add(self, table: pa.Table) -> None:
        """Take some rows more."""
        self._stream.write_table(table)
        self.rows += len(table)

    def hand_over(self, take: Callable[[pa.Table], object]) -> None:
        """Give all rows to a function, as one table that is mapped into memory."""
        self._stream.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        # Pages that were read count as memory of this process until they are released.
        with periodic.every(_RELEASE_EVERY_S, lambda: mapped.madvise(mmap.MADV_DONTNEED)):
            take(pa.ipc.open_stream(mapped).read_all())

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
