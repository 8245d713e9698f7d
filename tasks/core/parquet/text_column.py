"""The texts of a column of strings, as Python's, a few at a time."""

from collections.abc import Iterator

import pyarrow as pa

from tasks.core.model import Text

_ROWS_A_SLICE = 256


class TextColumn:
    """The text column's rows in order, converted a few hundred at a time while they are pulled.

    One row that is not valid UTF-8 is one bad row: it comes as its raw bytes.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        """How many rows."""
        return len(self._column)

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
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
