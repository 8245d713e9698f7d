"""Pipeline of slices: the next slices are read and requested before the first has ended.

So the window stays full at the end of a slice, while a slice is written, and with small row groups. Rows and
bytes ahead of the first slice are bounded.
"""

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from tasks.core.model import Outcome
from tasks.core.rows.requester import RequestedRows, Requester
from tasks.core.rows.row_source import RowSlice

_ROWS_AHEAD = 4096
"""Rows that are requested after the first slice, at most. Fewer may leave the window empty at the end of a
slice; more uses memory. Chosen as several times a usual window, not measured; ``tests.bench.shapes`` reports
how full the window is."""

_BYTES_AHEAD = 64 * 2**20
"""Memory of the texts of all slices, at most. Fewer limits the rows ahead when texts are long; more uses
memory in every partition thread. Chosen, not measured: 4,096 texts of 16 KiB."""


Summarized = Generator[list[Outcome]]
"""Yields the outcomes of each slice, in order."""


@dataclass(frozen=True, slots=True)
class _Begun:
    rows: int
    size_bytes: int
    requested: RequestedRows


def summarize_slices(
    source: Iterable[RowSlice], requester: Requester, *, bytes_ahead: int = _BYTES_AHEAD
) -> closing[Summarized]:
    """Yield the outcomes of each slice, in order; a context manager.

    If it is left early, no further row is requested, and it waits for those in flight, since they are billed.

    Args:
        source: The rows.
        requester: Requests them.
        bytes_ahead: Memory of the texts of all slices, at most; a single slice may exceed it.

    Raises:
        StopRunError: An error concerns every row.
        StorageError: Replies cannot be stored.
    """
    return closing(_summarize_slices(source, requester, bytes_ahead))


def _summarize_slices(source: Iterable[RowSlice], requester: Requester, bytes_ahead: int) -> Summarized:
    begun: deque[_Begun] = deque()
    try:
        for rows in source:
            begun.append(_Begun(len(rows), rows.size_bytes, requester.request(rows)))
            del rows  # frees its memory before the next one is read
            while not _has_room(begun, bytes_ahead):
                yield begun.popleft().requested.outcomes()
        while begun:
            yield begun.popleft().requested.outcomes()
    finally:
        _give_up(begun)


def _has_room(begun: deque[_Begun], bytes_ahead: int) -> bool:
    """Whether another slice is begun before the first has ended."""
    if len(begun) < 2:  # noqa: PLR2004 - the one that is written, and one ahead
        return not begun or begun[0].size_bytes < bytes_ahead
    few = sum(one.rows for one in begun) - begun[0].rows < _ROWS_AHEAD
    return few and sum(one.size_bytes for one in begun) < bytes_ahead


def _give_up(begun: Iterable[_Begun]) -> None:
    for one in begun:
        one.requested.give_up()
    for one in begun:
        one.requested.wait()
