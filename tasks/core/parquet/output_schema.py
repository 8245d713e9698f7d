"""Output schema: which columns a reply becomes in an enriched file, and how they are read back.

A new output column is one more ``OutputColumn`` here. Row *i* of every array belongs to outcome *i*; nothing
here reorders, drops or adds a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import pyarrow as pa

from tasks.core.model import Outcome


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """One column that is added to every partition.

    Attributes:
        suffix: Its name behind the prefix; empty for the column that has the prefix as its name.
        type: Its Arrow type.
        value: Returns the column's value for an outcome.
        restores: The attribute of an outcome that the column gives back when an output is read; None for a
            column that is derived from others.
        nullable: Whether a value may be null.
        has_bounds: Whether its least and greatest values may be in the file's metadata; never for text that a
            model wrote or that may quote a row.
    """

    suffix: str
    type: pa.DataType
    value: Callable[[Outcome], object] = field(compare=False)
    restores: str | None = None
    nullable: bool = True
    has_bounds: bool = True


SUMMARY_COLUMNS = (
    OutputColumn("", pa.string(), attrgetter("text"), "text", has_bounds=False),
    OutputColumn("status", pa.string(), attrgetter("status.value"), "status", nullable=False),
    OutputColumn("error", pa.string(), attrgetter("error"), "error", has_bounds=False),
    OutputColumn("model", pa.string(), attrgetter("model"), "model"),
    OutputColumn("prompt_tokens", pa.int32(), attrgetter("prompt_tokens"), "prompt_tokens"),
    OutputColumn("completion_tokens", pa.int32(), attrgetter("completion_tokens"), "completion_tokens"),
)
"""The summary (null unless the model wrote one), the status (never null), the reason why there is no complete
summary, the model that replied, and the tokens that were billed (null when not known)."""


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The columns added to every partition, in order, named by their prefix.

    Attributes:
        prefix: The name of the first column, and the beginning of the others' names.
        columns: The columns.
    """

    prefix: str = "summary"
    columns: tuple[OutputColumn, ...] = SUMMARY_COLUMNS

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """The columns' Arrow fields."""
        return tuple(pa.field(self._name(one), one.type, nullable=one.nullable) for one in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self._name(one) for one in self.columns)

    @property
    def bounded(self) -> tuple[str, ...]:
        """The columns whose least and greatest values may be in the file's metadata."""
        return tuple(self._name(one) for one in self.columns if one.has_bounds)

    @property
    def restored(self) -> Mapping[str, str]:
        """The columns that give outcomes back when an output is read: attribute by column name."""
        return {self._name(one): one.restores for one in self.columns if one.restores}

    def table(self, outcomes: Sequence[Outcome]) -> pa.Table:
        """The columns, row *i* from outcome *i*."""
        arrays = [pa.array(list(map(one.value, outcomes)), one.type) for one in self.columns]
        return pa.Table.from_arrays(arrays, schema=pa.schema(self.fields))

    def _name(self, column: OutputColumn) -> str:
        return f"{self.prefix}_{column.suffix}" if column.suffix else self.prefix
