"""Converts a string column to Python strings, in small steps."""

from collections.abc import Iterator

import pyarrow as pa

from tasks.core.model import Text

_ROWS_A_SLICE = 256
"""Rows converted at once: more are converted faster per row, fewer use less memory and delay the first
request of a slice less. Not measured."""


class TextColumn:
    """The rows of the text column in order, converted a few hundred at a time during iteration.

    A row that is not valid UTF-8 is returned as raw bytes, so that the other rows are not affected.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._column)

    def __iter__(self) -> Iterator[Text]:
        """Yield the text of each row."""
        for chunk in self._column.chunks:
            for start in range(0, len(chunk), _ROWS_A_SLICE):
                yield from _strings(chunk.slice(start, _ROWS_A_SLICE))


def _strings(part: pa.Array) -> Iterator[Text]:
    try:
        yield from part.to_pylist()
    except UnicodeDecodeError:
        for raw in part.cast(pa.large_binary()).to_pylist():
            yield _string(raw)


def _string(raw: bytes | None) -> Text:
    try:
        return raw if raw is None else raw.decode()
    except UnicodeDecodeError:
        return raw
