"""What a reader finds in an enriched file, beside what it finds in the source and what was written."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import parquet_decoder
from tests.common_columns import ROWS, TEXTS, new_columns
from tests.enriched_files import COLUMNS
from tests.readers import FILTERS, READERS, UnreadableError, attempt, plain

NEW = new_columns(ROWS)
VALUES: dict[str, list[Any]] = {"n": list(range(ROWS)), "text": TEXTS, **NEW}
"""The values of all columns that every file has."""


def assert_reads_the_same(reader: str, source: Path, target: Path, *, own: bool) -> None:
    """A reader reads the old columns as in the source, and the new ones right.

    Args:
        reader: Name of the reader.
        source: The source; the test is skipped when the reader does not read it ...
        target: The enriched file.
        own: ... unless it is by the reader's own writer.
    """
    skip_what_fastparquet_cannot(reader, source)
    try:
        before = attempt(READERS[reader], source)
    except UnreadableError as error:
        if own:
            raise
        pytest.skip(f"{reader} does not read the source: {error}")
    after = READERS[reader](target)
    assert list(after) == [*before, *COLUMNS.names]
    assert {name: repr(after[name]) for name in before} == {name: repr(seen) for name, seen in before.items()}
    assert {name: plain(after[name][1]) for name in COLUMNS.names} == NEW


def assert_filters_right(engine: str, source: Path, target: Path, *, own: bool) -> None:
    """Filters on old columns find the same rows as in the source, and filters on new columns the right ones.

    Args:
        engine: Name of what filters.
        source: The source; the test is skipped when it cannot be filtered by its own columns ...
        target: The enriched file.
        own: ... unless it is by the engine's own writer.
    """
    skip_what_fastparquet_cannot(engine, source)
    find = FILTERS[engine]
    for column, of_row in (("n", 450), ("text", 452)):
        try:
            before = attempt(find, source, column, VALUES[column][of_row])
        except UnreadableError as error:
            if own and column == "n":
                raise
            pytest.skip(f"{engine} does not filter the source by {column}: {error}")
        assert find(target, column, VALUES[column][of_row]) == before == [of_row]
    for column, of_row in (("summary", 452), ("summary_status", 3), ("summary_prompt_tokens", 5)):
        assert find(target, column, VALUES[column][of_row]) == rows_like(column, of_row)


def rows_like(column: str, of_row: int) -> list[int]:
    """The rows that have the same value as one row."""
    return [row for row in range(ROWS) if VALUES[column][row] == VALUES[column][of_row]]


def skip_what_fastparquet_cannot(reader: str, source: Path) -> None:
    """Skip fastparquet where a file has columns of several leaves."""
    footer = parquet_decoder.footer(source.read_bytes())
    if reader == "fastparquet" and footer[2][0][5] != len(footer[4][0][1]):
        pytest.skip("fastparquet looks up null counts by column, not by leaf, so nested columns confuse it")


def assert_bloom_filters_work(source: Path, target: Path) -> None:
    """Each value of the column ``k`` is in one of three row groups; bloom filters exclude the others."""
    with duckdb.connect() as connection:
        for group in range(3):
            query = "select row_group_id, bloom_filter_excludes from parquet_bloom_probe($1, 'k', $2)"
            before, after = (
                connection.execute(query, [str(path), group * 1000 + 3]).fetchall()
                for path in (source, target)
            )
            assert before == after == [(number, number != group) for number in range(3)]
