"""What ``fill`` hands over to ``write``: where the reply to each row is, and the rows that have none."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.ledger.segment_format import KEY
from tasks.core.model import Outcome, Partition
from tasks.core.reporting.tally import Tally
from tasks.core.row_key import KEY_BYTES

_NO_KEY = bytes(KEY_BYTES)
_IN_LEDGER = 0


@dataclass(frozen=True, slots=True)
class RowRecord:
    """The rows of a partition in order, 20 bytes each.

    Attributes:
        keys: The rows' keys, 16 bytes each; zeros for a row whose reply is not in the ledger.
        marks: For each row an int32: 0 when its reply is in the ledger under its key, otherwise the number of
            its outcome among the others, counted from 1.
        others: The different outcomes of rows whose reply is not in the ledger: empty and failed ones.
    """

    keys: bytes
    marks: bytes
    others: tuple[Outcome, ...]

    def arrow_keys(self) -> pa.Array:
        """The rows' keys, null for a row whose reply is not in the ledger."""
        marks = self._marks()
        keys = pa.Array.from_buffers(KEY, len(marks), [None, pa.py_buffer(self.keys)])
        return pc.if_else(pc.equal(marks, _IN_LEDGER), keys, None)

    def others_of(self, start: int, rows: int) -> list[Outcome | None]:
        """The outcomes of some rows, None for a row whose reply is in the ledger."""
        marks = self._marks().slice(start, rows).to_pylist()
        return [self.others[mark - 1] if mark else None for mark in marks]

    def _marks(self) -> pa.Array:
        buffer = pa.py_buffer(self.marks)
        return pa.Array.from_buffers(pa.int32(), len(self.keys) // KEY_BYTES, [None, buffer])


@dataclass(frozen=True, slots=True)
class Filled:
    """A partition whose rows all have an outcome; it pickles.

    Attributes:
        source: The partition with the size and version that was read.
        rows: Its rows.
        tally: How they ended, and what was sent for them.
        bytes_read: Of the source.
    """

    source: Partition
    rows: RowRecord
    tally: Tally
    bytes_read: int


class RowRecorder:
    """Records the rows of a partition, in order."""

    def __init__(self) -> None:
        self._keys = bytearray()
        self._marks = array("i")
        self._others: dict[Outcome, int] = {}

    def add(self, keys: Sequence[bytes | None], others: Iterable[Outcome | None]) -> None:
        """Record the next rows.

        Args:
            keys: Their keys.
            others: Their outcomes; None for a row whose reply is in the ledger under its key.
        """
        for key, other in zip(keys, others, strict=True):
            self._keys += key if key is not None and other is None else _NO_KEY
            self._marks.append(_IN_LEDGER if other is None else self._number(other))

    @property
    def record(self) -> RowRecord:
        """The rows recorded so far."""
        return RowRecord(bytes(self._keys), self._marks.tobytes(), tuple(self._others))

    def _number(self, outcome: Outcome) -> int:
        """The number of an outcome among the different ones; few, since errors quote no text."""
        kept = replace(outcome, requests=0, lost_replies=0, reply=None)
        return self._others.setdefault(kept, len(self._others) + 1)
