"""What a Parquet footer tells, and how to read one from the last bytes of a file.

Nothing here reads rows, and nothing here writes.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError

BAD_BYTES = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises on bytes that are not Parquet; a column's name may be among them."""

ARROW_SCHEMA = b"ARROW:schema"
"""The footer's entry for Arrow's own schema; only Arrow's writers make one."""

_MAGIC = b"PAR1"
_MAGIC_ENCRYPTED = b"PARE"
_TRAILER_BYTES = 8
_SIGNATURE_BYTES = 28
"""A nonce of 12 and a tag of 16, as the Parquet format's encryption specifies."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a partition's footer tells.

    Attributes:
        schema: The Arrow schema, with field and footer metadata.
        row_groups: Rows of each row group, in order.
        metadata: Parquet's own record of the file.
        int96_unit: What INT96 timestamps are read as.
    """

    schema: pa.Schema
    row_groups: tuple[int, ...]
    metadata: pq.FileMetaData
    int96_unit: str = "ns"

    @property
    def rows(self) -> int:
        """Rows of the partition."""
        return sum(self.row_groups)

    def told(self, name: str) -> str:
        """An entry of its metadata; empty when it has none of that name."""
        value: bytes = (self.schema.metadata or {}).get(name.encode(), b"")
        return value.decode(errors="replace")

    @classmethod
    def of(cls, file: pq.ParquetFile, int96_unit: str = "ns") -> "Footer":
        """The footer of an open file."""
        metadata = file.metadata
        sizes = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        return cls(_with_footer_metadata(file), sizes, metadata, int96_unit)


def _with_footer_metadata(file: pq.ParquetFile) -> pa.Schema:
    """The Arrow schema with all of the footer's metadata; Arrow's own copy may lack what came in later."""
    told = {key: value for key, value in (file.metadata.metadata or {}).items() if key != ARROW_SCHEMA}
    return file.schema_arrow.with_metadata({**(file.schema_arrow.metadata or {}), **told} or None)


def footer_bytes(tail: bytes) -> int:
    """How many last bytes of the file its footer takes, from the file's last eight bytes.

    Raises:
        PartitionError: These are not the last bytes of a readable Parquet file; says why.
    """
    if not tail:
        message = "the file is empty"
        raise PartitionError(message)
    magic = tail[-len(_MAGIC) :]
    if magic == _MAGIC_ENCRYPTED:
        message = "the file is encrypted"
        raise PartitionError(message)
    if magic != _MAGIC or len(tail) < _TRAILER_BYTES:
        message = "the file is truncated or is not Parquet (its last bytes are not PAR1)"
        raise PartitionError(message)
    return int.from_bytes(tail[-_TRAILER_BYTES : -len(_MAGIC)], "little") + _TRAILER_BYTES


def parse_footer(tail: bytes) -> Footer:
    """Parse the footer from the last bytes of a file.

    Raises:
        PartitionError: The footer is corrupt.
    """
    try:
        footer = Footer.of(pq.ParquetFile(pa.BufferReader(tail)))
        # Names are decoded when they are asked for.
        str(footer.schema.names)
    except BAD_BYTES:
        message = "the footer is corrupt, or of a kind this program cannot read"
        raise PartitionError(message) from None
    refuse_encrypted(footer.metadata, footer_bytes(tail))
    return footer


def refuse_encrypted(metadata: pq.FileMetaData, footer_length: int) -> None:
    """Refuse encrypted columns behind a footer in clear; asking pyarrow about one ends the whole process.

    Such a footer is signed, and its signature is no part of the record.

    Args:
        metadata: The file's record.
        footer_length: Bytes of its footer, as ``footer_bytes`` told.

    Raises:
        PartitionError: The file is encrypted.
    """
    if footer_length - _TRAILER_BYTES == metadata.serialized_size + _SIGNATURE_BYTES:
        message = "the file is encrypted"
        raise PartitionError(message)
