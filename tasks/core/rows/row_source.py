"""The rows of a partition as they are to be sent, in slices of bounded memory.

A slice computes the keys of all its rows at once, since the ledger is looked up by them, and renders a row
only when it is about to be requested.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from tasks.core.model import Text
from tasks.core.parquet.text_column import TextColumn
from tasks.core.prompt import Request
from tasks.core.rows.batch import Row


class Texts(Protocol):
    """Texts that can be gone through more than once."""

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...


class RowSlice:
    """Some rows of a partition, in order.

    Args:
        texts: Their texts.
        request: What is requested for each.
        size_bytes: Memory of the texts.

    Attributes:
        texts: The rows' texts.
        keys: The rows' keys; None for a row that is never sent.
        size_bytes: Memory of the texts.
    """

    def __init__(self, texts: Texts, request: Request, size_bytes: int = 0) -> None:
        self.texts = texts
        self.keys = request.row_keys(texts)
        self.size_bytes = size_bytes
        self._request = request

    def __len__(self) -> int:
        """How many rows."""
        return len(self.keys)

    def pick(self, is_wanted: Sequence[bool]) -> "Picked":
        """Some of the rows, to be rendered one by one.

        Picked at once and not while they are pulled: passing over thousands of rows would delay the event
        loop that all partitions share.

        Args:
            is_wanted: For each row of the slice, whether it is among them.
        """
        if all(is_wanted):
            return Picked(self.texts, self.keys, self._request)
        wanted = [
            (text, key) for text, key, wanted in zip(self.texts, self.keys, is_wanted, strict=True) if wanted
        ]
        return Picked([text for text, _ in wanted], [key for _, key in wanted], self._request)


class Picked:
    """Rows that are rendered while they are pulled.

    Args:
        texts: The rows' texts.
        keys: The rows' keys.
        request: What is requested for each.

    Attributes:
        keys: The rows' keys.
    """

    def __init__(self, texts: Texts, keys: Sequence[bytes | None], request: Request) -> None:
        self.keys = keys
        self._texts = texts
        self._request = request

    def __len__(self) -> int:
        """How many rows."""
        return len(self.keys)

    def __iter__(self) -> Iterator[Row]:
        """Each row, ready to be sent."""
        for text, key in zip(self._texts, self.keys, strict=True):
            yield self._request.render(text, key)


class RowSource:
    """The rows of one partition, slice by slice.

    Args:
        slices: Tables of the text column alone, of bounded size; read as they are needed.
        request: What is requested for each row.
    """

    def __init__(self, slices: Iterable[pa.Table], request: Request) -> None:
        self._slices = slices
        self._request = request

    def __iter__(self) -> Iterator[RowSlice]:
        """The slices, in the order of the rows."""
        for table in self._slices:
            rows = RowSlice(TextColumn(table.column(0)), self._request, table.nbytes)
            del table  # or it would stay in memory while the next one is read
            yield rows
            del rows
