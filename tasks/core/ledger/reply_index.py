"""In-memory index of paid replies by row key, as one Arrow table.

Of several replies to one row the newest counts, and a truncated one never takes the place of a complete one.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.ledger import segment_format
from tasks.core.model import Outcome, Status

_INDEXED = ["key", *segment_format.OUTCOME_COLUMNS, "received"]


def is_final(outcome: Outcome, max_output_tokens: int) -> bool:
    """Whether a paid reply needs no other request: it is complete, or was cut at no smaller limit.

    Args:
        outcome: What is known of the row.
        max_output_tokens: The limit of the requests that are sent now.
    """
    is_cut = outcome.status is Status.TRUNCATED
    return not is_cut or (outcome.max_output_tokens or max_output_tokens) >= max_output_tokens


def better_of(one: Outcome | None, other: Outcome | None) -> Outcome | None:
    """Of two paid replies to a row the first, unless it was cut and the other one was not."""
    if one is None or (other is not None and one.status is Status.TRUNCATED is not other.status):
        return other
    return one


class ReplyIndex:
    """Paid replies by row key."""

    def __init__(self) -> None:
        self._table = segment_format.NOTHING.select(_INDEXED)
        self.fingerprints: set[str] = set()
        """Of the requests whose replies are in it."""

    def add(self, *tables: pa.Table) -> None:
        """Add replies, tables of ``segment.SCHEMA``."""
        for table in tables:
            self.fingerprints.update(pc.unique(table["fingerprint"]).drop_null().to_pylist())
        # One chunk: a look-up would join them again each time.
        table = pa.concat_tables([self._table, *(table.select(_INDEXED) for table in tables)])
        self._table = _best_first(table).combine_chunks()

    def look_up(self, keys: Sequence[bytes | None]) -> list[Outcome | None]:
        """The replies to rows, None for a row that has none.

        Costs a fraction of a second per call for a million replies, so it is for whole row groups.

        Args:
            keys: The rows' keys; None for a row that has none.
        """
        if not len(self._table):
            return [None] * len(keys)
        places = pc.index_in(
            pa.array(keys, segment_format.KEY), value_set=self._table["key"], skip_nulls=True
        )
        found = iter(segment_format.outcomes(self._table.take(places.drop_null())))
        return [next(found) if is_known else None for is_known in places.is_valid().to_pylist()]

    def final_keys(self, max_output_tokens: int) -> pa.Array:
        """The keys of rows that need no request under a limit; see ``is_final``."""
        limits = pc.fill_null(self._table["max_output_tokens"], max_output_tokens)
        asked_again = pc.and_(_is_cut(self._table), pc.less(limits, max_output_tokens))
        return pc.unique(self._table["key"].filter(pc.invert(asked_again)))


def _is_cut(table: pa.Table) -> pa.ChunkedArray:
    return pc.equal(table["status"], Status.TRUNCATED.value)


def _best_first(table: pa.Table) -> pa.Table:
    """The same rows with the one that counts before others of its key; look-ups find the first."""
    if pc.count_distinct(table["key"]).as_py() == len(table):
        return table
    is_cut = _is_cut(table)
    ranks = pa.table(
        {
            "is_cut": is_cut,
            "limit": pc.if_else(is_cut, table["max_output_tokens"], 0),
            "received": table["received"],
        }
    )
    order = [("is_cut", "ascending"), ("limit", "descending"), ("received", "descending")]
    # Stable, and nulls last: of replies without a time, the one that was added first stays first.
    return table.take(pc.sort_indices(ranks, sort_keys=order))
