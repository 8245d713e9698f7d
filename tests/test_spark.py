"""Enriched files of Spark, and other enriched files read by Spark with and without its vectorized reader."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests import (
    files_by_duckdb,
    files_by_pandas,
    files_by_polars,
    files_by_pyarrow,
    files_by_spark,
    parquet_decoder,
)
from tests.common_columns import TEXTS, text_of
from tests.enriched_files import COLUMNS, enrich
from tests.reader_assertions import NEW, VALUES, assert_bloom_filters_work, assert_reads_the_same, rows_like
from tests.readers import READERS

pytestmark = pytest.mark.skipif(
    shutil.which("java") is None, reason="needs Java: apt-get install default-jre-headless"
)

OTHERS = files_by_duckdb.CASES | files_by_polars.CASES | files_by_pandas.CASES | files_by_pyarrow.CASES
SOME_OTHERS = [
    "duckdb-numbers",
    "duckdb-page-index",
    "polars-bytes",
    "polars-nested",
    "fastparquet-categories",
    "fastparquet-none",
    "pandas-index-of-levels",
    "pyarrow-nested",
    "pyarrow-rows-a-page",
    "pyarrow-v2-pages",
    "pyarrow-field-ids",
]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    settings: dict[str, bool | float | int | str | None] = {
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.adaptive.enabled": "false",
        # Queries here take less time than their optimized compilation would.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module", params=files_by_spark.CASES)
def file(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("file")
    source, target = folder / "in.parquet", folder / "out.parquet"
    files_by_spark.CASES[request.param].write(spark, source)
    assert enrich(source, target) == TEXTS
    return source, target


def test_an_output_truncated_to_the_size_of_its_source_equals_the_source(file: tuple[Path, Path]) -> None:
    source, target = (path.read_bytes() for path in file)
    assert target[: len(source)] == source


def test_every_page_location_points_to_a_page(file: tuple[Path, Path]) -> None:
    source, target = (path.read_bytes() for path in file)
    checked = parquet_decoder.assert_page_index_is_right(target)
    assert checked > parquet_decoder.assert_page_index_is_right(source) > 0
    assert all(chunk.has_index for chunk in list(parquet_decoder.chunks(target))[-len(COLUMNS.names) :])


@pytest.mark.parametrize("vectorized", ["true", "false"])
def test_spark_returns_the_old_columns_unchanged_and_the_new_ones(
    spark: SparkSession, file: tuple[Path, Path], vectorized: str
) -> None:
    with reading(spark, vectorized):
        assert_spark_reads(spark, *file)


@pytest.mark.parametrize("vectorized", ["true", "false"])
def test_spark_filters_rows_by_old_and_new_columns(
    spark: SparkSession, file: tuple[Path, Path], vectorized: str
) -> None:
    with reading(spark, vectorized):
        assert_spark_filters(spark, file[1])


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_returns_the_old_columns_unchanged_and_the_new_ones(
    file: tuple[Path, Path], reader: str
) -> None:
    assert_reads_the_same(reader, *file, own=False)


@pytest.mark.parametrize("vectorized", ["true", "false"])
@pytest.mark.parametrize("case", SOME_OTHERS)
def test_spark_reads_and_filters_enriched_files_of_other_writers(
    spark: SparkSession, tmp_path: Path, case: str, vectorized: str
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    OTHERS[case](source)
    enrich(source, target)
    with reading(spark, vectorized):
        assert_spark_reads(spark, source, target)
        assert_spark_filters(spark, target)


def test_bloom_filters_still_exclude_row_groups(spark: SparkSession, tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    files_by_spark.CASES["bloom"].write(spark, source)
    enrich(source, target)
    assert_bloom_filters_work(source, target)


@pytest.mark.parametrize("vectorized", ["true", "false"])
def test_rows_that_spark_finds_by_the_page_index_have_the_right_new_values(
    spark: SparkSession, tmp_path: Path, vectorized: str
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    files_by_pyarrow.write_long(source)
    enrich(source, target)
    with reading(spark, vectorized):
        frame = spark.read.parquet(str(target))
        for row in (0, 20_000, files_by_pyarrow.LONG_ROWS - 1):
            found = frame.where(frame["n"] == row).select("text", "summary").collect()
            assert [tuple(one) for one in found] == [(text_of(row), f"of {text_of(row)}")]


@contextmanager
def reading(spark: SparkSession, vectorized: str) -> Iterator[None]:
    """Configure Spark's reader, with splits smaller than a row group."""
    settings = {
        "spark.sql.parquet.enableVectorizedReader": vectorized,
        "spark.sql.files.maxPartitionBytes": "20000",
        "spark.sql.files.openCostInBytes": "0",
    }
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in settings:
            spark.conf.unset(name)


def assert_spark_reads(spark: SparkSession, source: Path, target: Path) -> None:
    before, after = (spark.read.parquet(str(path)) for path in (source, target))
    assert after.columns == [*before.columns, *COLUMNS.names]
    assert after.schema.fields[: len(before.columns)] == before.schema.fields
    assert shown(after.select(before.columns)) == shown(before)
    new = sorted(after.select("n", *COLUMNS.names).collect(), key=lambda row: int(row.n))
    assert {name: [row[name] for row in new] for name in COLUMNS.names} == NEW


def assert_spark_filters(spark: SparkSession, target: Path) -> None:
    frame = spark.read.parquet(str(target))
    for column, of_row in (("n", 450), ("summary", 452), ("summary_prompt_tokens", 5)):
        found = frame.where(frame[column] == VALUES[column][of_row]).select("n").collect()
        assert sorted(row.n for row in found) == rows_like(column, of_row)


def shown(frame: DataFrame) -> list[Any]:
    """All rows as strings, since some of Spark's types have no Python value."""
    place = frame.columns.index("n")
    rows = frame.selectExpr(*map(as_text, frame.schema.fields)).collect()
    return sorted((tuple(row) for row in rows), key=lambda row: int(row[place]))


def as_text(field: Any) -> str:
    kind = field.dataType.simpleString()
    if kind.startswith("geo"):
        return f"hex(st_asbinary(`{field.name}`)) as `{field.name}`"
    if kind == "binary":
        return f"hex(`{field.name}`) as `{field.name}`"
    return f"cast(`{field.name}` as string) as `{field.name}`"
