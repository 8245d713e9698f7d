"""The answers that are known, in memory as one Arrow table, and how rows find theirs."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.model import Outcome
from tasks.core.paid import segment


class Known:
    """Answers by row key; of equal keys the first one added is found."""

    def __init__(self) -> None:
        self._table = segment.NOTHING

    def add(self, *tables: pa.Table) -> None:
        """Add answers, tables of ``segment.SCHEMA``."""
        # One chunk: a look-up would join them again each time.
        self._table = pa.concat_tables([self._table, *tables]).combine_chunks()

    def look_up(self, keys: Sequence[bytes | None]) -> list[Outcome | None]:
        """The answers of rows, None for a row that has none.

        Costs a fraction of a second per call for a million answers, so it is for whole row groups.

        Args:
            keys: The rows' keys; None for a row that has none.
        """
        if not len(self._table):
            return [None] * len(keys)
        places = pc.index_in(pa.array(keys, segment.KEY), value_set=self._table["key"], skip_nulls=True)
        found = iter(segment.outcomes(self._table.take(places.drop_null())))
        return [next(found) if is_known else None for is_known in places.is_valid().to_pylist()]
