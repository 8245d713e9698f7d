"""The columns that all test files by other writers have: ``n``, the row number, and ``text``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.enriched_files import COLUMNS, outcome_of

ROWS, ROWS_A_GROUP = 600, 200

Write = Callable[[Path], None]
"""Writes a file."""


def text_of(row: int) -> str | None:
    """The text of a row; null for some rows, empty for others."""
    if row % 7 == 3:
        return None
    return "" if row % 11 == 5 else f"text {row} é"


TEXTS = [text_of(row) for row in range(ROWS)]


def new_columns(rows: int) -> dict[str, list[Any]]:
    """Expected values of the new columns."""
    table = COLUMNS.table([outcome_of(text_of(row)) for row in range(rows)])
    return {name: table[name].to_pylist() for name in COLUMNS.names}


def nulled(values: list[Any]) -> list[Any]:
    """The values, with every fifth replaced by null."""
    return [None if row % 5 == 1 else value for row, value in enumerate(values)]
