"""The description of a column chunk in a footer: position, codec and encodings."""

from dataclasses import dataclass

from tasks.core.parquet import thrift
from tasks.core.parquet.footer_fields import (
    CHUNK_METADATA,
    CODEC,
    COMPRESSED_BYTES,
    ENCODINGS,
    FILE_PATH,
    PAGE_OFFSETS,
)
from tasks.core.parquet.thrift import Lists, Struct

_CODECS = {0: "none", 1: "snappy", 2: "gzip", 4: "brotli", 5: "snappy", 6: "zstd", 7: "lz4"}
"""Codecs that pyarrow can read, with the codec for new columns; it cannot write Hadoop's LZ4, number 5."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Position and format of a column chunk.

    Attributes:
        start: Offset of its first page.
        end: Offset after its last page.
        codec: pyarrow's name of the codec for new columns; empty if pyarrow cannot read this chunk's codec.
        encodings: The numbers of its encodings.
        is_elsewhere: Whether it is in another file.
    """

    start: int
    end: int
    codec: str
    encodings: frozenset[int]
    is_elsewhere: bool

    @classmethod
    def of(cls, chunk: Struct) -> "Chunk":
        """Parse a ColumnChunk of a footer."""
        metadata = thrift.parse(chunk[CHUNK_METADATA].value, Lists({ENCODINGS: None}))
        offsets = [metadata[number].int for number in PAGE_OFFSETS if number in metadata]
        # A chunk without pages may have offset 0.
        start = min(filter(None, offsets), default=0)
        return cls(
            start=start,
            end=start + metadata[COMPRESSED_BYTES].int,
            codec=_CODECS.get(metadata[CODEC].int, ""),
            encodings=frozenset(map(thrift.number, metadata[ENCODINGS].items)),
            is_elsewhere=FILE_PATH in chunk and bool(chunk[FILE_PATH].bytes),
        )
