"""Assertions that a reader returns the right values and filtered rows of an enriched file."""

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
"""Expected values of the columns that all test files have."""


def assert_reads_the_same(reader: str, source: Path, target: Path, *, own: bool) -> None:
    """Assert that a reader reads the old columns as in the source, and the new columns correctly.

    Args:
        reader: Name of the reader.
        source: The source file.
        target: The enriched file.
        own: Whether the reader's own writer made the source. Otherwise the test is skipped if the reader
            cannot read the source.
    """
    skip_nested_columns_in_fastparquet(reader, source)
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
    """Assert that filters on old columns find the same rows as in the source, and on new ones the right rows.

    Args:
        engine: Name of the query engine.
        source: The source file.
        target: The enriched file.
        own: Whether the engine's own writer made the source. Otherwise the test is skipped if the engine
            cannot filter the source.
    """
    skip_nested_columns_in_fastparquet(engine, source)
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
    """The rows with the same value as a given row."""
    return [row for row in range(ROWS) if VALUES[column][row] == VALUES[column][of_row]]


def skip_nested_columns_in_fastparquet(reader: str, source: Path) -> None:
    """Skip fastparquet if a column of the file has several leaves."""
    footer = parquet_decoder.footer(source.read_bytes())
    if reader == "fastparquet" and footer[2][0][5] != len(footer[4][0][1]):
        pytest.skip("fastparquet looks up null counts by column instead of leaf, and fails on nested columns")


def assert_bloom_filters_work(source: Path, target: Path) -> None:
    """Assert that the bloom filters of column ``k`` still exclude the row groups without a value."""
    with duckdb.connect() as connection:
        for group in range(3):
            query = "select row_group_id, bloom_filter_excludes from parquet_bloom_probe($1, 'k', $2)"
            before, after = (
                connection.execute(query, [str(path), group * 1000 + 3]).fetchall()
                for path in (source, target)
            )
            assert before == after == [(number, number != group) for number in range(3)]
