"""Row source: the rows of a partition, in slices of bounded memory.

A slice computes the keys of all its rows at once, to look them up in the ledger. It renders a row only when
the row is pulled to be requested.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from tasks.core.model import Text
from tasks.core.parquet.text_column import TextColumn
from tasks.core.prompt import Request
from tasks.core.rows.batch import Row


class Texts(Protocol):
    """Texts that can be iterated over more than once."""

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


class RowSlice:
    """Some rows of a partition, in order.

    Args:
        texts: Their texts.
        request: What all requests have in common.
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
        """Number of rows."""
        return len(self.keys)

    def select(self, is_wanted: Sequence[bool]) -> "SelectedRows":
        """Select rows, to be rendered one by one.

        The rows are selected here, and not while they are pulled: to skip thousands of rows would delay the
        event loop that all partitions share.

        Args:
            is_wanted: For each row of the slice, whether it is selected.
        """
        if all(is_wanted):
            return SelectedRows(self.texts, self.keys, self._request)
        wanted = [
            (text, key) for text, key, wanted in zip(self.texts, self.keys, is_wanted, strict=True) if wanted
        ]
        return SelectedRows([text for text, _ in wanted], [key for _, key in wanted], self._request)


class SelectedRows:
    """Rows that are rendered while they are pulled.

    Args:
        texts: The rows' texts.
        keys: The rows' keys.
        request: What all requests have in common.

    Attributes:
        keys: The rows' keys.
    """

    def __init__(self, texts: Texts, keys: Sequence[bytes | None], request: Request) -> None:
        self.keys = keys
        self._texts = texts
        self._request = request

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.keys)

    def __iter__(self) -> Iterator[Row]:
        """Render each row."""
        for text, key in zip(self._texts, self.keys, strict=True):
            yield self._request.render(text, key)


class RowSource:
    """The rows of one partition, slice by slice.

    Args:
        slices: Tables of the text column alone, of bounded size; read as they are needed.
        request: What all requests have in common.
    """

    def __init__(self, slices: Iterable[pa.Table], request: Request) -> None:
        self._slices = slices
        self._request = request

    def __iter__(self) -> Iterator[RowSlice]:
        """The slices, in the order of the rows."""
        for table in self._slices:
            rows = RowSlice(TextColumn(table.column(0)), self._request, table.nbytes)
            del table  # frees its memory before the next one is read
            yield rows
            del rows
