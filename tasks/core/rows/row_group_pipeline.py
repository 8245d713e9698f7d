"""Slices of a partition on their way: the next are read and requested while one is summarized.

So the window stays full at the end of a slice, while the one before is written, and when row groups are
small. How far ahead is bounded by rows and by bytes.
"""

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from tasks.core.ledger.reuse import Asked, AskOnce
from tasks.core.model import Outcome
from tasks.core.parquet.text_column import TextColumn

_ROWS_AHEAD = 4096
"""Rows that wait behind the first slice; some times the widest window in use."""

_BYTES_AHEAD = 64 * 2**20


Summarized = Generator[list[Outcome]]
"""The outcomes of slices, in order."""


@dataclass(frozen=True, slots=True)
class _Begun:
    rows: int
    size_bytes: int
    asked: Asked


def summarized(
    slices: Iterable[pa.Table], rows: AskOnce, *, bytes_ahead: int = _BYTES_AHEAD
) -> closing[Summarized]:
    """The outcomes of slices, in order; to be entered, and left when the last is written.

    Leaving it early begins no further row, and waits for those in flight: they are paid for.

    Args:
        slices: Tables of the text column alone.
        rows: Where rows are handed in.
        bytes_ahead: The texts in memory together; of one slice they always are.

    Raises:
        StopRunError: No row would be served.
        StorageError: Replies cannot be kept.
    """
    return closing(_summarized(slices, rows, bytes_ahead))


def _summarized(slices: Iterable[pa.Table], rows: AskOnce, bytes_ahead: int) -> Summarized:
    begun: deque[_Begun] = deque()
    try:
        for table in slices:
            begun.append(_Begun(len(table), table.nbytes, rows.ask(TextColumn(table.column(0)))))
            del table  # or it would stay in memory while the next one is read
            while not _has_room(begun, bytes_ahead):
                yield begun.popleft().asked.outcomes()
        while begun:
            yield begun.popleft().asked.outcomes()
    finally:
        _give_up(begun)


def _has_room(begun: deque[_Begun], bytes_ahead: int) -> bool:
    """Whether another slice is begun before the first has ended."""
    if len(begun) < 2:  # noqa: PLR2004 - one that is summarized, one that waits
        return not begun or begun[0].size_bytes < bytes_ahead
    few = sum(one.rows for one in begun) - begun[0].rows < _ROWS_AHEAD
    return few and sum(one.size_bytes for one in begun) < bytes_ahead


def _give_up(begun: Iterable[_Begun]) -> None:
    for one in begun:
        one.asked.give_up()
    for one in begun:
        one.asked.wait()
