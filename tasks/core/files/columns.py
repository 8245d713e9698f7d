"""The summary columns: their names, types and values.

The one place that knows what is added to a partition. Row *i* of every array belongs to outcome *i*; nothing
here reorders, drops or invents a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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

    @classmethod
    def last_of(cls, schema: pa.Schema) -> Self | None:
        """The columns that were added last to a partition; None when it ends with other columns."""
        added = len(cls().fields)
        if len(schema.names) < added:
            return None
        columns = cls(schema.names[-added])
        return columns if columns.names == tuple(schema.names[-added:]) else None

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
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(field.name for field in self.fields)

    def arrays(self, outcomes: Sequence[Outcome]) -> list[pa.Array]:
        """One array per column, row *i* from outcome *i*."""
        values = (
            [outcome.text for outcome in outcomes],
            [outcome.status.value for outcome in outcomes],
            [outcome.error for outcome in outcomes],
            [outcome.model for outcome in outcomes],
            [outcome.prompt_tokens for outcome in outcomes],
            [outcome.completion_tokens for outcome in outcomes],
        )
        return [pa.array(column, field.type) for column, field in zip(values, self.fields, strict=True)]
