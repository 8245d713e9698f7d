"""In-memory index of replies by row key; the replies themselves may be in a mapped file.

Of several replies to one row the newest counts, and a truncated one never takes the place of a complete one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.ledger import segment_format
from tasks.core.model import Outcome, Status

_ENTRIES = pa.schema(
    [
        pa.field("key", segment_format.KEY),
        # What decides which of several replies counts.
        pa.field("is_cut", pa.bool_()),
        pa.field("limit", pa.int32()),
        pa.field("received", segment_format.SCHEMA.field("received").type),
        # The reply's place among all that were added.
        pa.field("place", pa.int64()),
    ]
)
_NO_ROWS = segment_format.NOTHING.select(segment_format.OUTCOME_COLUMNS)


def is_final(outcome: Outcome, max_output_tokens: int) -> bool:
    """Whether a reply needs no further request: it is complete, or was cut at no smaller limit.

    Args:
        outcome: The row's outcome.
        max_output_tokens: The limit of the requests that are sent now.
    """
    is_cut = outcome.status is Status.TRUNCATED
    return not is_cut or (outcome.max_output_tokens or max_output_tokens) >= max_output_tokens


class ReplyIndex:
    """Replies by row key.

    Args:
        release: Called after replies were read; gives back the memory of a mapped file.
    """

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        self._release = release
        self._batches: list[pa.RecordBatch] = []
        # The place of each batch's first reply, and at the end the number of all.
        self._starts = [0]
        self._entries = _ENTRIES.empty_table()
        self.fingerprints: set[str] = set()
        """Of the requests whose replies are in it."""

    def add(self, *tables: pa.Table) -> None:
        """Add replies, tables of ``segment_format.SCHEMA``; they are not copied."""
        self.extend(tables)

    def extend(self, tables: Iterable[pa.Table]) -> None:
        """The same for tables that are made one by one; of those with a key, the first columns suffice."""
        entries = [self._entries]
        for table in tables:
            entries.append(_entries_of(table, self._starts[-1]))
            self.fingerprints.update(pc.unique(table["fingerprint"]).drop_null().to_pylist())
            for batch in table.select(segment_format.OUTCOME_COLUMNS).to_batches():
                self._batches.append(batch)
                self._starts.append(self._starts[-1] + len(batch))
        self._entries = _best_first(pa.concat_tables(entries))

    def add_names(self, known: pa.Array, others: pa.Array) -> None:
        """Let replies be found under other keys, too.

        Args:
            known: Keys under which replies may be found.
            others: The other key of each.
        """
        entries = self._entries.take(self._look_up(known))
        named = entries.set_column(0, _ENTRIES.field("key"), others)
        named = named.filter(pc.and_(named["key"].is_valid(), named["place"].is_valid()))
        if len(named):
            self._entries = _best_first(pa.concat_tables([self._entries, named]))

    def places(self, keys: pa.Array) -> pa.Array:
        """The places of the replies that count, null for a row that has none; for ``outcomes_at``.

        Costs a fraction of a second per call for a million replies, so it is for whole row groups.

        Args:
            keys: The rows' keys; null for a row that has none.
        """
        return self._entries["place"].take(self._look_up(keys)).combine_chunks()

    def outcomes_at(self, places: pa.Array) -> list[Outcome | None]:
        """The outcomes of some rows, None where there is no reply."""
        found = iter(segment_format.outcomes(self._rows(places.drop_null())))
        self._release()
        return [next(found) if is_found else None for is_found in places.is_valid().to_pylist()]

    def look_up(self, keys: Sequence[bytes | None]) -> list[Outcome | None]:
        """The replies to rows, None for a row that has none; see ``places``."""
        if not len(self._entries):
            return [None] * len(keys)
        return self.outcomes_at(self.places(pa.array(keys, segment_format.KEY)))

    def final_keys(self, max_output_tokens: int) -> pa.Array:
        """The keys of rows that need no request under a limit; see ``is_final``."""
        limits = pc.fill_null(self._entries["limit"], max_output_tokens)
        is_open = pc.and_(self._entries["is_cut"], pc.less(limits, max_output_tokens))
        return pc.unique(self._entries["key"].filter(pc.invert(is_open)))

    def _look_up(self, keys: pa.Array) -> pa.Array:
        return pc.index_in(keys, value_set=self._entries["key"], skip_nulls=True)

    def _rows(self, places: pa.Array) -> pa.Table:
        """The replies at some places, in this order; taking from a table of all would join its batches."""
        order = pc.sort_indices(places)
        ascending = places.take(order)
        values, parts, begin = ascending.to_pylist(), [_NO_ROWS], 0
        while begin < len(values):
            number = bisect_right(self._starts, values[begin]) - 1
            end = bisect_left(values, self._starts[number + 1], begin)
            within = pc.subtract(ascending.slice(begin, end - begin), self._starts[number])
            parts.append(pa.Table.from_batches([self._batches[number].take(within)]))
            begin = end
        return pa.concat_tables(parts).take(pc.sort_indices(order))


def _entries_of(table: pa.Table, first: int) -> pa.Table:
    columns = [
        table["key"],
        pc.equal(table["status"], Status.TRUNCATED.value),
        table["max_output_tokens"],
        table["received"],
        pa.arange(first, first + len(table)),
    ]
    # In one chunk, which is a copy: the pages of a mapped file are not read again.
    return pa.Table.from_arrays(columns, schema=_ENTRIES).combine_chunks()


def _best_first(entries: pa.Table) -> pa.Table:
    """The same entries in one chunk; the one that counts comes first of its key, and look-ups find it."""
    entries = entries.combine_chunks()
    if pc.count_distinct(entries["key"]).as_py() == len(entries):
        return entries
    ranks = entries.set_column(2, "limit", pc.if_else(entries["is_cut"], entries["limit"], 0))
    order = [("is_cut", "ascending"), ("limit", "descending"), ("received", "descending")]
    # Stable, and nulls last: of replies without a time, the one that was added first stays first.
    return entries.take(pc.sort_indices(ranks, sort_keys=order))
