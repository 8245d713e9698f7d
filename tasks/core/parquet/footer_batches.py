"""Reads the footers of many files concurrently, in batches."""

from collections.abc import Iterator, Sequence

from tasks.core.errors import PartitionError, PipelineError
from tasks.core.parquet.footer import Footer, footer_bytes, parse_footer
from tasks.core.storage import stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile

_TAIL_BYTES = 64 * 1024
"""Bytes read of each file first: more cover larger footers with one request, fewer save traffic. The footer
of 10 columns and 10 row groups takes less than 64 KB. Not measured."""
_FOOTERS_AT_ONCE = 128
"""Files of a batch: more read sooner from a distant store, fewer hold less memory (8 MB). Not measured."""


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
