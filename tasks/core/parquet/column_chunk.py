"""A column chunk, as far as a footer describes it."""

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
"""What pyarrow reads, and what it writes beside it: it cannot write Hadoop's LZ4, number 5."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column chunk: where it is and how it was written.

    Attributes:
        start: Where its first page is.
        end: The place behind its last page.
        codec: The codec for new chunks beside it, by pyarrow's name; empty when pyarrow cannot read its own.
        encodings: The numbers of its encodings.
        is_elsewhere: It is in another file.
    """

    start: int
    end: int
    codec: str
    encodings: frozenset[int]
    is_elsewhere: bool

    @classmethod
    def of(cls, chunk: Struct) -> "Chunk":
        """A chunk of a footer."""
        metadata = thrift.parse(chunk[CHUNK_METADATA].value, Lists({ENCODINGS: None}))
        offsets = [metadata[number].int for number in PAGE_OFFSETS if number in metadata]
        # A chunk without a page may say 0.
        start = min(filter(None, offsets), default=0)
        return cls(
            start=start,
            end=start + metadata[COMPRESSED_BYTES].int,
            codec=_CODECS.get(metadata[CODEC].int, ""),
            encodings=frozenset(map(thrift.number, metadata[ENCODINGS].items)),
            is_elsewhere=FILE_PATH in chunk and bool(chunk[FILE_PATH].bytes),
        )
