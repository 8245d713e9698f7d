"""What all files by other writers have: a column ``n`` that numbers the rows, and a column ``text``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.enriched_files import COLUMNS, outcome_of

ROWS, ROWS_A_GROUP = 600, 200

Write = Callable[[Path], None]
"""Writes a file."""


def text_of(row: int) -> str | None:
    """The text of a row; some have none, some an empty one."""
    if row % 7 == 3:
        return None
    return "" if row % 11 == 5 else f"text {row} é"


TEXTS = [text_of(row) for row in range(ROWS)]


def new_columns(rows: int) -> dict[str, list[Any]]:
    """The values of the new columns of a file."""
    table = COLUMNS.table([outcome_of(text_of(row)) for row in range(rows)])
    return {name: table[name].to_pylist() for name in COLUMNS.names}


def nulled(values: list[Any]) -> list[Any]:
    """The values, some replaced by null."""
    return [None if row % 5 == 1 else value for row, value in enumerate(values)]
