"""Row groups on their way through a partition: the next are read and begun while one is summarized.

So the window stays full at the end of a row group, while the one before is written, and when row groups are
small. How far ahead is bounded by rows and by bytes: of large row groups there are two in memory, of very
large ones there is one.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from tasks.core.files.footer import Footer
from tasks.core.files.parquet import TextColumn
from tasks.core.model import Outcome
from tasks.core.paid.reuse import Asked, AskOnce

_ROWS_AHEAD = 4096
"""Rows that wait behind the first row group; some times the widest window in use."""

_BYTES_AHEAD = 256 * 2**20


Summarized = Generator[tuple[pa.Table, list[Outcome]]]
"""Row groups with their outcomes, in order."""


@dataclass(frozen=True, slots=True)
class _Group:
    table: pa.Table
    size_bytes: int
    asked: Asked


def summarized(
    footer: Footer,
    read: Callable[[int], pa.Table],
    text_column: str,
    rows: AskOnce,
    *,
    bytes_ahead: int = _BYTES_AHEAD,
) -> closing[Summarized]:
    """Row groups with their outcomes, in order; to be entered, and left when the last is written.

    Leaving it early begins no further row, and waits for those in flight: they are paid for.

    Args:
        footer: The partition's footer.
        read: Reads a row group.
        text_column: The column to summarize.
        rows: Where rows are handed in.
        bytes_ahead: The row groups in memory together, as the footer tells their size; one always is.

    Raises:
        StopRunError: No row would be served.
        StorageError: Replies cannot be kept.
    """
    return closing(_summarized(footer, read, text_column, rows, bytes_ahead))


def _summarized(
    footer: Footer, read: Callable[[int], pa.Table], text_column: str, rows: AskOnce, bytes_ahead: int
) -> Summarized:
    begun: deque[_Group] = deque()
    try:
        for index in range(len(footer.row_groups)):
            size_bytes = footer.metadata.row_group(index).total_byte_size
            while begun and not _has_room(begun, bytes_ahead - size_bytes):
                yield _end(begun)
            table = read(index)
            begun.append(_Group(table, size_bytes, rows.ask(TextColumn(table[text_column]))))
            del table  # or it would stay in memory while the next one is read
        while begun:
            yield _end(begun)
    finally:
        _give_up(begun)


def _has_room(begun: deque[_Group], bytes_free: int) -> bool:
    if sum(group.size_bytes for group in begun) > bytes_free:
        return False
    return len(begun) == 1 or sum(len(group.table) for group in begun) - len(begun[0].table) < _ROWS_AHEAD


def _end(begun: deque[_Group]) -> tuple[pa.Table, list[Outcome]]:
    first = begun.popleft()
    return first.table, first.asked.outcomes()


def _give_up(begun: Iterable[_Group]) -> None:
    for group in begun:
        group.asked.give_up()
    for group in begun:
        group.asked.wait()
