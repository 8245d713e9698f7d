"""Files by DuckDB, Polars, fastparquet, pandas and pyarrow, enriched: every reader reads and filters them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import files_by_duckdb, files_by_pandas, files_by_polars, files_by_pyarrow, pages
from tests.enriching import COLUMNS, enrich
from tests.foreign import ROWS, TEXTS, new_columns
from tests.readers import FILTERS, READERS, UnreadableError, attempt, plain

CASES = files_by_duckdb.CASES | files_by_polars.CASES | files_by_pandas.CASES | files_by_pyarrow.CASES
NEW = new_columns(ROWS)
VALUES: dict[str, list[Any]] = {"n": list(range(ROWS)), "text": TEXTS, **NEW}


@dataclass(frozen=True, slots=True)
class Enriched:
    """A file before and after, and the program that wrote it."""

    source: Path
    target: Path
    writer: str


@pytest.fixture(scope="module", params=CASES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Enriched:
    folder = tmp_path_factory.mktemp("file")
    found = Enriched(folder / "in.parquet", folder / "out.parquet", request.param.partition("-")[0])
    CASES[request.param](found.source)
    assert enrich(found.source, found.target) == TEXTS
    return found


def test_an_output_cut_at_the_size_of_its_source_is_its_source(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    assert target[: len(source)] == source
    assert target[len(source) :]


def test_old_chunks_stay_where_they_are_and_new_ones_are_behind_the_source(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    before, after = pages.footer(source), pages.footer(target)
    added = len(COLUMNS.names)
    assert after[2][1:-added] == before[2][1:]
    assert after.get(7, [])[: len(before.get(7, []))] == before.get(7, [])
    assert {key: after[key] for key in after.keys() - {2, 4, 5, 7}} == {
        key: before[key] for key in before.keys() - {2, 4, 5, 7}
    }
    for old, new in zip(before[4], after[4], strict=True):
        assert len(new[1]) == len(old[1]) + added
        assert list(map(pages.without_index, new[1][:-added])) == list(map(pages.without_index, old[1]))
        assert all(pages.Chunk(target, chunk, new[3]).start >= len(source) for chunk in new[1][-added:])


def test_metadata_of_new_columns_holds_no_row_text_and_no_bounds_without_an_order(file: Enriched) -> None:
    footer = pages.footer(file.target.read_bytes())
    bounds = {1, 2, 5, 6}
    for group in footer[4]:
        for chunk in group[1][-len(COLUMNS.names) :]:
            statistics = chunk[3].get(12, {})
            assert 3 in statistics
            if chunk[3][3] in ([b"summary"], [b"summary_error"]) or 7 not in footer:
                assert bounds.isdisjoint(statistics)


def test_every_page_location_is_that_of_a_page(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    checked = pages.assert_page_index_is_right(target)
    assert (checked > 0) == any(chunk.has_index for chunk in pages.chunks(source))
    assert {chunk.has_index for chunk in list(pages.chunks(target))[-len(COLUMNS.names) :]} == {checked > 0}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_reads_the_old_columns_as_before_and_the_new_ones(file: Enriched, reader: str) -> None:
    skip_what_fastparquet_cannot(file, reader)
    try:
        before = attempt(READERS[reader], file.source)
    except UnreadableError as error:
        if reader == file.writer:
            raise
        pytest.skip(f"{reader} does not read the source: {error}")
    after = READERS[reader](file.target)
    assert list(after) == [*before, *COLUMNS.names]
    assert {name: repr(after[name]) for name in before} == {name: repr(seen) for name, seen in before.items()}
    assert {name: plain(after[name][1]) for name in COLUMNS.names} == NEW


@pytest.mark.parametrize("engine", FILTERS)
def test_a_filter_finds_the_rows_by_an_old_and_by_a_new_column(file: Enriched, engine: str) -> None:
    skip_what_fastparquet_cannot(file, engine)
    find = FILTERS[engine]
    for column, of_row in (("n", 450), ("text", 452)):
        try:
            before = attempt(find, file.source, column, VALUES[column][of_row])
        except UnreadableError as error:
            if engine == file.writer and column == "n":
                raise
            pytest.skip(f"{engine} does not filter the source by {column}: {error}")
        assert find(file.target, column, VALUES[column][of_row]) == before == [of_row]
    for column, of_row in (("summary", 452), ("summary_status", 3), ("summary_prompt_tokens", 5)):
        value = VALUES[column][of_row]
        rows = [row for row in range(ROWS) if VALUES[column][row] == value]
        assert find(file.target, column, value) == rows


def skip_what_fastparquet_cannot(file: Enriched, reader: str) -> None:
    footer = pages.footer(file.source.read_bytes())
    if reader == "fastparquet" and footer[2][0][5] != len(footer[4][0][1]):
        pytest.skip("fastparquet looks up null counts by column, not by leaf, so nested columns confuse it")


@pytest.mark.parametrize("case", ["duckdb-bloom", "duckdb-v2", "pyarrow-bloom"])
def test_bloom_filters_still_leave_out_row_groups(tmp_path: Path, case: str) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    CASES[case](source)
    enrich(source, target)
    with duckdb.connect() as connection:
        for group in range(3):
            query = "select row_group_id, bloom_filter_excludes from parquet_bloom_probe($1, 'k', $2)"
            before, after = (
                connection.execute(query, [str(path), group * 1000 + 3]).fetchall()
                for path in (source, target)
            )
            assert before == after == [(number, number != group) for number in range(3)]
