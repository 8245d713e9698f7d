"""Writes the tail of an enriched file: the column chunks of the new columns, and a new footer.

pyarrow writes the new columns to a separate temporary file, with the row groups of the source. Its pages
become the tail, and its footer is merged into the source's. A row group that arrives in several slices is
collected in another temporary file, so that only one slice is in memory.
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
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.parquet.tail_completion import complete_tail
from tasks.core.storage import temporary_files
from tasks.core.storage.output_bytes import Tail
from tasks.core.storage.reading import SeekableFile
from tasks.core.storage.storage_errors import translate_build_errors

LONGEST_ROW_GROUP = 64 * 2**20
"""Rows; pyarrow's writer splits longer row groups."""
_RELEASE_EVERY_S = 0.02
"""Seconds in which pyarrow reads about 10 MB: a longer period holds more memory, a shorter one causes more
page faults."""


class Writer:
    """Writes the tail of one enriched file; leaving the context removes its temporary files.

    Args:
        source: The footer of the source.
        columns: The new columns.
        like: The column of the source whose codec is used for the new columns.
        folder: Folder for temporary files, which have no names.
        name: The partition's name for messages.

    Raises:
        StorageError: The disk is full or failed; every method may raise this.
    """

    def __init__(self, source: Footer, columns: OutputSchema, like: str, folder: Path, name: str) -> None:
        self._source = source
        self._schema = pa.schema(columns.fields)
        self._bounded = columns.bounded if COLUMN_ORDERS in source.fields else ()
        self._like = source.chunks(like)
        self._folder = folder
        self._name = printable(name)
        self._building = partial(translate_build_errors, folder, name)
        self._rows = source.row_groups
        self._nulls: list[list[int]] = []
        self._collected: _CollectedSlices | None = None

    def __enter__(self) -> Self:
        """Open the temporary file."""
        with self._building():
            self._file = temporary_files.unnamed_file(self._folder)
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                # All readers support pages of version 1.0; checksums detect flipped bits. No dictionaries:
                # some readers fail at the empty dictionary of a column without values, and fastparquet reads
                # dictionaries in files that it wrote as categories, and shows wrong values.
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
        for file in (self._file, self._collected):
            # After an error of a full disk, closing flushes again, and fails again.
            with suppress(OSError):
                if file is not None:
                    file.close()

    def write(self, table: pa.Table) -> None:
        """Write the next rows, which must belong to one row group.

        Args:
            table: The new columns of these rows, in the order of their fields.
        """
        with self._building():
            self._write_empty_groups()
            rows = self._rows[len(self._nulls)]
            if self._collected is None and len(table) == rows:
                self._write_group(table)
                return
            self._collected = self._collected or _CollectedSlices(self._folder, self._schema)
            self._collected.add(table)
            if self._collected.rows == rows:
                self._collected.pass_to(self._write_group)
                self._collected.close()
                self._collected = None

    def finish(self, source: SeekableFile, facts: Mapping[str, str]) -> Tail:
        """Complete the tail with page index and footer.

        Args:
            source: The open source.
            facts: Entries to add to the footer's metadata.

        Returns:
            The bytes to append to the source; readable until the context is left.

        Raises:
            PartitionError: The new footer is wrong.
        """
        with self._building():
            self._write_empty_groups()
            if len(self._nulls) != len(self._rows):
                message = f"{self._name}: a row group has too few or too many rows"
                raise ValueError(message)
            self._writer.close()
            complete_tail(self._file, self._nulls, source, self._source, list(self._schema), facts)
            return Tail(self._file, len(MAGIC), self._file.tell() - len(MAGIC))

    def _write_empty_groups(self) -> None:
        while self._rows[len(self._nulls) :][:1] == (0,):
            self._write_group(self._schema.empty_table())

    def _write_group(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._nulls.append([column.null_count for column in table.columns])


class _CollectedSlices:
    """The slices of one row group, collected in a temporary file."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._file = temporary_files.unnamed_file(folder)
        self._stream = pa.ipc.new_stream(self._file, schema)

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        self._stream.write_table(table)
        self.rows += len(table)

    def pass_to(self, write: Callable[[pa.Table], object]) -> None:
        """Call a function with all rows, as one memory-mapped table."""
        self._stream.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        # Mapped pages that were read count as memory of this process until they are released.
        with periodic.call_every(_RELEASE_EVERY_S, lambda: mapped.madvise(mmap.MADV_DONTNEED)):
            write(pa.ipc.open_stream(mapped).read_all())

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
