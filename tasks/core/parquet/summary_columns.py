"""The summary columns: their names, types and values.

What is added to a partition is defined here alone. Row *i* of every array belongs to outcome *i*; nothing
here reorders, drops or invents a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tasks.core.model import Outcome


@dataclass(frozen=True, slots=True)
class SummaryColumns:
    """The columns added to every partition, named by their prefix.

    Columns, in order: ``PREFIX`` (string, null unless the model wrote one), ``PREFIX_status`` (string, never
    null), ``PREFIX_error`` (string, null when there is nothing to say), ``PREFIX_model`` (string, null when
    no model answered), ``PREFIX_prompt_tokens`` and ``PREFIX_completion_tokens`` (int32, null when unknown).
    """

    prefix: str = "summary"

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """The columns' Arrow fields."""
        return (
            pa.field(self.prefix, pa.string()),
            pa.field(f"{self.prefix}_status", pa.string(), nullable=False),
            pa.field(f"{self.prefix}_error", pa.string()),
            pa.field(f"{self.prefix}_model", pa.string()),
            pa.field(f"{self.prefix}_prompt_tokens", pa.int32()),
            pa.field(f"{self.prefix}_completion_tokens", pa.int32()),
        )

    @property
    def bounded(self) -> tuple[str, ...]:
        """The columns whose least and greatest values may be in metadata: they are no row's text."""
        return tuple(name for name in self.names if name not in {self.prefix, f"{self.prefix}_error"})

    def name_of(self, fact: str) -> str:
        """The column of a fact, such as ``status``; the summary itself is ``text``."""
        return self.prefix if fact == "text" else f"{self.prefix}_{fact}"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(field.name for field in self.fields)

    def table(self, outcomes: Sequence[Outcome]) -> pa.Table:
        """The columns, row *i* from outcome *i*."""
        values = (
            [outcome.text for outcome in outcomes],
            [outcome.status.value for outcome in outcomes],
            [outcome.error for outcome in outcomes],
            [outcome.model for outcome in outcomes],
            [outcome.prompt_tokens for outcome in outcomes],
            [outcome.completion_tokens for outcome in outcomes],
        )
        arrays = [pa.array(column, field.type) for column, field in zip(values, self.fields, strict=True)]
        return pa.Table.from_arrays(arrays, schema=pa.schema(self.fields))
