"""Reads footers from the last bytes of files: of one open file, or of many files concurrently."""

import os
from collections.abc import Iterator, Sequence

from tasks.core.errors import PartitionError, PipelineError
from tasks.core.parquet.footer import CORRUPT, MAGIC, TRAILER_BYTES, Footer, parse
from tasks.core.parquet.thrift_values import ThriftError
from tasks.core.storage import stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.reading import SeekableFile
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile

_MAGIC_ENCRYPTED = b"PARE"
_TAIL_BYTES = 64 * 1024
"""Bytes read of each file first: more cover larger footers with one request, fewer save traffic. The footer
of 10 columns and 10 row groups takes less than 64 KB. Not measured."""
_FOOTERS_AT_ONCE = 128
"""Files of a batch: more read sooner from a distant store, fewer hold less memory (8 MB). Not measured."""


def footer_bytes(tail: bytes) -> int:
    """Size of a footer with its trailer, from the last eight bytes of the file.

    Raises:
        PartitionError: These are not the last bytes of a readable Parquet file.
    """
    if not tail:
        message = "the file is empty"
        raise PartitionError(message)
    magic = tail[-len(MAGIC) :]
    if magic == _MAGIC_ENCRYPTED:
        message = "the file is encrypted"
        raise PartitionError(message)
    if magic != MAGIC or len(tail) < TRAILER_BYTES:
        message = "the file is truncated or is not Parquet (its last bytes are not PAR1)"
        raise PartitionError(message)
    return int.from_bytes(tail[-TRAILER_BYTES : -len(MAGIC)], "little") + TRAILER_BYTES


def parse_footer(tail: bytes) -> Footer:
    """Parse the footer from the last bytes of a file.

    Raises:
        PartitionError: The footer is corrupt, or the file is encrypted.
    """
    size_bytes = footer_bytes(tail)
    try:
        return parse(tail[max(0, len(tail) - size_bytes) : -TRAILER_BYTES])
    except (ThriftError, LookupError):
        raise PartitionError(CORRUPT) from None


def read_footer(file: SeekableFile) -> Footer:
    """Read the footer of an open file.

    Raises:
        PartitionError: The footer is corrupt, or the file is encrypted.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - TRAILER_BYTES))
    file.seek(max(0, size_bytes - footer_bytes(file.read())))
    return parse_footer(file.read())


def read_footers(location: Location, files: Sequence[StoredFile]) -> Iterator[Footer | PipelineError]:
    """Read the footer of each file, in order; yields the error of a file without a readable footer."""
    for start in range(0, len(files), _FOOTERS_AT_ONCE):
        some = files[start : start + _FOOTERS_AT_ONCE]
        tails = stored_files.read_tails(
            location, [(file.path, file.size_bytes) for file in some], _TAIL_BYTES
        )
        for file, tail in zip(some, tails, strict=True):
            yield _footer(location, file, tail)


def _footer(location: Location, file: StoredFile, tail: bytes | Exception) -> Footer | PipelineError:
    try:
        return parse_footer(_whole_footer(location, file, tail))
    except PipelineError as error:
        return error


def _whole_footer(location: Location, file: StoredFile, tail: bytes | Exception) -> bytes:
    """The bytes of the footer; sends another request if it is longer than the tail read first."""
    with translate_errors(location.url, file.path.removeprefix(location.path(""))):
        if isinstance(tail, Exception):
            raise tail
        needed = footer_bytes(tail)
        if needed <= len(tail):
            return tail
        if needed > file.size_bytes:
            message = "the file is truncated: it is shorter than its footer"
            raise PartitionError(message)
        (longer,) = stored_files.read_tails(location, [(file.path, file.size_bytes)], needed)
        if isinstance(longer, Exception):
            raise longer
        return longer
