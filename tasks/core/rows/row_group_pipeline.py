"""Pipeline of slices: the next ones are read and requested while one is summarized.

So the window stays full at the end of a slice, while the one before is written, and when row groups are
small. How far ahead is bounded by rows and by bytes.
"""

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from tasks.core.model import Outcome
from tasks.core.rows.requester import RequestedRows, Requester
from tasks.core.rows.row_source import RowSlice

_ROWS_AHEAD = 4096
"""Rows that wait behind the first slice; some times the widest window in use."""

_BYTES_AHEAD = 64 * 2**20


Summarized = Generator[list[Outcome]]
"""The outcomes of slices, in order."""


@dataclass(frozen=True, slots=True)
class _Begun:
    rows: int
    size_bytes: int
    requested: RequestedRows


def summarize_slices(
    source: Iterable[RowSlice], requester: Requester, *, bytes_ahead: int = _BYTES_AHEAD
) -> closing[Summarized]:
    """The outcomes of slices, in order; to be entered, and left when the last is written.

    Leaving it early begins no further row, and waits for those in flight: they are paid for.

    Args:
        source: The rows.
        requester: Requests them.
        bytes_ahead: The texts in memory together; of one slice they always are.

    Raises:
        StopRunError: No row would be served.
        StorageError: Replies cannot be kept.
    """
    return closing(_summarize_slices(source, requester, bytes_ahead))


def _summarize_slices(source: Iterable[RowSlice], requester: Requester, bytes_ahead: int) -> Summarized:
    begun: deque[_Begun] = deque()
    try:
        for rows in source:
            begun.append(_Begun(len(rows), rows.size_bytes, requester.request(rows)))
            del rows  # or it would stay in memory while the next one is read
            while not _has_room(begun, bytes_ahead):
                yield begun.popleft().requested.outcomes()
        while begun:
            yield begun.popleft().requested.outcomes()
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
        one.requested.give_up()
    for one in begun:
        one.requested.wait()
