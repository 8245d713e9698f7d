"""Enriched files of DuckDB, Polars, fastparquet, pandas and pyarrow are read and filtered by every reader."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import files_by_duckdb, files_by_pandas, files_by_polars, files_by_pyarrow, parquet_decoder
from tests.common_columns import TEXTS, text_of
from tests.enriched_files import COLUMNS, enrich
from tests.reader_assertions import assert_bloom_filters_work, assert_filters_right, assert_reads_the_same
from tests.readers import FILTERS, READERS

CASES = files_by_duckdb.CASES | files_by_polars.CASES | files_by_pandas.CASES | files_by_pyarrow.CASES


@dataclass(frozen=True, slots=True)
class Enriched:
    """A source and its enriched file, with the program that wrote the source."""

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


def test_an_output_truncated_to_the_size_of_its_source_equals_the_source(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    assert target[: len(source)] == source
    assert target[len(source) :]


def test_old_chunks_keep_their_offsets_and_new_ones_follow_the_source(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    before, after = parquet_decoder.footer(source), parquet_decoder.footer(target)
    added = len(COLUMNS.names)
    assert after[2][1:-added] == before[2][1:]
    assert after.get(7, [])[: len(before.get(7, []))] == before.get(7, [])
    assert {key: after[key] for key in after.keys() - {2, 4, 5, 7}} == {
        key: before[key] for key in before.keys() - {2, 4, 5, 7}
    }
    for old, new in zip(before[4], after[4], strict=True):
        assert len(new[1]) == len(old[1]) + added
        assert list(map(parquet_decoder.without_index, new[1][:-added])) == list(
            map(parquet_decoder.without_index, old[1])
        )
        for chunk in new[1][-added:]:
            assert not new[3] or parquet_decoder.Chunk(target, chunk, new[3]).start >= len(source)


def test_metadata_of_new_columns_has_no_row_text_and_no_bounds_without_column_orders(file: Enriched) -> None:
    footer = parquet_decoder.footer(file.target.read_bytes())
    bounds = {1, 2, 5, 6}
    for group in footer[4]:
        for chunk in group[1][-len(COLUMNS.names) :]:
            statistics = chunk[3].get(12, {})
            assert 3 in statistics
            if chunk[3][3] in ([b"summary"], [b"summary_error"]) or 7 not in footer:
                assert bounds.isdisjoint(statistics)


def test_every_page_location_points_to_a_page(file: Enriched) -> None:
    source, target = file.source.read_bytes(), file.target.read_bytes()
    checked = parquet_decoder.assert_page_index_is_right(target)
    assert (checked > 0) == any(chunk.has_index for chunk in parquet_decoder.chunks(source))
    assert {chunk.has_index for chunk in list(parquet_decoder.chunks(target))[-len(COLUMNS.names) :]} == {
        checked > 0
    }


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_returns_the_old_columns_unchanged_and_the_new_ones(file: Enriched, reader: str) -> None:
    assert_reads_the_same(reader, file.source, file.target, own=reader == file.writer)


@pytest.mark.parametrize("engine", FILTERS)
def test_a_filter_finds_the_rows_by_an_old_and_by_a_new_column(file: Enriched, engine: str) -> None:
    assert_filters_right(engine, file.source, file.target, own=engine == file.writer)


@pytest.mark.parametrize("case", ["duckdb-bloom", "duckdb-v2", "pyarrow-bloom"])
def test_bloom_filters_still_exclude_row_groups(tmp_path: Path, case: str) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    CASES[case](source)
    enrich(source, target)
    assert_bloom_filters_work(source, target)


def test_an_entry_whose_value_is_not_a_string_is_unchanged(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    table = pa.table({"text": ["a"]})
    with pq.ParquetWriter(source, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"k_int": "x"})
    # As written by fastparquet 0.8.2: the value is true, not a string; two more fields keep the length equal.
    source.write_bytes(source.read_bytes().replace(b"k_int\x18\x01x\x00", b"k_int\x11\x11\x11\x00"))
    assert parquet_decoder.footer(source.read_bytes())[5] == [{1: b"k_int", 2: True, 3: True, 4: True}]
    enrich(source, target)
    assert parquet_decoder.footer(target.read_bytes())[5][0] == {1: b"k_int", 2: True, 3: True, 4: True}


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_file_of_empty_row_groups_gets_empty_columns(tmp_path: Path, codec: str) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    table = pa.table({"text": pa.array([], pa.string())})
    with pq.ParquetWriter(source, table.schema, compression=codec) as writer:
        for _ in range(2):
            writer.write_table(table)
    assert enrich(source, target) == []
    assert target.read_bytes().startswith(source.read_bytes())
    for reader in READERS.values():
        assert [values for _, values in reader(target).values()] == [[]] * len(reader(target))


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    files_by_pyarrow.write_long(folder / "in.parquet")
    enrich(folder / "in.parquet", folder / "out.parquet")
    return folder / "out.parquet"


def test_the_page_index_of_new_columns_has_all_pages(long_file: Path) -> None:
    data = long_file.read_bytes()
    assert parquet_decoder.assert_page_index_is_right(data) > 0
    for chunk in list(parquet_decoder.chunks(data))[-len(COLUMNS.names) :]:
        assert len(chunk.locations()) == 3
        assert (6 in chunk.fields) == (chunk.name not in {"summary", "summary_error"})


@pytest.mark.parametrize("engine", FILTERS)
@pytest.mark.parametrize("row", [0, 20_000, files_by_pyarrow.LONG_ROWS - 1])
def test_rows_found_by_the_page_index_have_the_right_new_values(
    long_file: Path, engine: str, row: int
) -> None:
    assert FILTERS[engine](long_file, "n", row, "summary") == [f"of {text_of(row)}"]
