"""An enriched file equals its source plus six columns: a property test, and cases that it may miss."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.enriched_files import COLUMNS, assert_faithful, enrich, outcome_of
from tests.readers import READERS, UnreadableError, attempt, plain

CODECS = ["zstd", "gzip", "snappy", "brotli", "lz4", "none"]
LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint32(), st.integers(0, 2**32 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(9, 2), st.integers(-(10**9) + 1, 10**9 - 1).map(lambda n: Decimal(n).scaleb(-2))),
    (pa.decimal256(60, 5), st.integers(-(10**20), 10**20).map(lambda n: Decimal(n).scaleb(-5))),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("us", "Europe/Berlin"), st.integers(-(10**15), 10**15)),
    (pa.timestamp("ms"), st.integers(-(10**12), 10**12)),
    (pa.date32(), st.integers(-(10**5), 10**5)),
    (pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    (pa.duration("us"), st.integers(-(10**15), 10**15)),
    (pa.string(), st.text(max_size=8)),
    (pa.large_string(), st.text(max_size=8)),
    (pa.string_view(), st.text(max_size=20)),
    (pa.binary(), st.binary(max_size=8)),
    (pa.binary(4), st.binary(min_size=4, max_size=4)),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "b", "ü"])),
    (pa.uuid(), st.binary(min_size=16, max_size=16)),
]


def nested(
    pairs: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    def lists(pair: tuple[pa.DataType, st.SearchStrategy[Any]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        return pa.list_(pair[0]), st.lists(st.none() | pair[1], max_size=3)

    def structs(
        pair: tuple[pa.DataType, st.SearchStrategy[Any]],
    ) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        return pa.struct([("item", pair[0]), ("n", pa.int32())]), st.fixed_dictionaries(
            {"item": pair[1], "n": st.none()}
        )

    def maps(pair: tuple[pa.DataType, st.SearchStrategy[Any]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
        return pa.map_(pa.string(), pair[0]), st.lists(st.tuples(st.text(max_size=3), pair[1]), max_size=3)

    return pairs.map(lists) | pairs.map(structs) | pairs.map(maps)


# Types that pyarrow cannot build from Python values in a list, or cannot write there in several row groups.
ALONE = {pa.uuid(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()}
PLAIN = [pair for pair in LEAVES if pair[0] not in ALONE]
KINDS = st.sampled_from(LEAVES) | nested(st.sampled_from(PLAIN)) | nested(nested(st.sampled_from(PLAIN)))
METADATA: st.SearchStrategy[dict[str, str] | None] = st.none() | st.dictionaries(
    st.sampled_from(["unit", "note"]), st.text(max_size=5), min_size=1
)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 12))
    fields, arrays = [], []
    for index in range(draw(st.integers(0, 4))):
        kind, values = draw(KINDS)
        nullable = draw(st.booleans())
        some = draw(st.lists(st.none() | values if nullable else values, min_size=rows, max_size=rows))
        field_id = {"PARQUET:field_id": str(index + 1)} if draw(st.booleans()) else {}
        drawn = draw(METADATA)
        metadata = {**(drawn or {}), **field_id} or None
        name = draw(st.sampled_from(["c", "c.d", "c d", "list.item", "ü"])) + str(index)
        fields.append(pa.field(name, kind, nullable=nullable, metadata=metadata))
        arrays.append(_array(some, kind))
    texts = draw(st.lists(st.none() | st.text(max_size=10), min_size=rows, max_size=rows))
    place = draw(st.integers(0, len(fields)))
    fields.insert(place, pa.field("text", pa.string()))
    arrays.insert(place, pa.array(texts, pa.string()))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=draw(METADATA)))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    codec = draw(st.sampled_from(CODECS) | st.fixed_dictionaries({"text": st.sampled_from(CODECS)}))
    return {
        "compression": codec,
        "row_group_size": draw(st.integers(1, 12)),
        "store_schema": draw(st.booleans()),
        "use_compliant_nested_type": draw(st.booleans()),
        "use_deprecated_int96_timestamps": draw(st.booleans()),
        "use_dictionary": draw(st.booleans()),
        "store_decimal_as_integer": draw(st.booleans()),
        "write_time_adjusted_to_utc": draw(st.booleans()),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "version": draw(st.sampled_from(["1.0", "2.4", "2.6"])),
        "write_page_index": draw(st.booleans()),
        "write_page_checksum": draw(st.booleans()),
        "write_statistics": draw(st.sampled_from([True, False, ["text"]])),
        "data_page_size": draw(st.sampled_from([None, 16])),
        "max_rows_per_page": draw(st.sampled_from([None, 2])),
    }


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(table=tables(), layout=layouts())
def test_any_table_written_with_any_options_only_gains_six_columns(
    tmp_path: Path, table: pa.Table, layout: dict[str, Any]
) -> None:
    rows_a_group = layout.pop("row_group_size")
    try:
        with pq.ParquetWriter(tmp_path / "in.parquet", table.schema, **layout) as writer:
            writer.write_table(table, rows_a_group)
            writer.add_key_value_metadata({"org.apache.spark.version": "3.5"})
        # pyarrow 26 cannot read every file that it writes, for example a list of booleans that is empty.
        pq.read_table(tmp_path / "in.parquet", partitioning=None)
    except pa.ArrowInvalid:
        reject()  # older versions of the format lack some types
    texts = enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert texts == table["text"].to_pylist()
    assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet")
    for reader in READERS:
        assert_sees(
            reader,
            tmp_path / "in.parquet",
            tmp_path / "out.parquet",
            COLUMNS.table([outcome_of(text) for text in texts]),
        )


def assert_sees(reader: str, source: Path, target: Path, new: pa.Table) -> None:
    """Assert that a reader of the source reads the same from the target, plus the new columns."""
    if reader == "fastparquet" and has_nesting(source):
        return
    try:
        before = attempt(READERS[reader], source)
    except UnreadableError:
        return
    after = READERS[reader](target)
    assert list(after) == [*before, *new.column_names]
    assert {name: repr(after[name]) for name in before} == {name: repr(seen) for name, seen in before.items()}
    assert {name: plain(after[name][1]) for name in new.column_names} == new.to_pydict()


def has_nesting(path: Path) -> bool:
    """Whether a file has nested columns; fastparquet counts nulls by column instead of leaf and fails."""
    metadata = pq.read_metadata(path)
    return bool(metadata.num_columns != len(metadata.schema.to_arrow_schema()))


def test_every_column_keeps_its_codec_nested_ones_too(tmp_path: Path) -> None:
    columns = {"text": ["a"], "c.d": [1], "l": [[1]], "s": [{"item": [1]}], "m": [1.5], "n": [b"x"]}
    codecs = dict(zip(["text", "c.d", "l.list.item", "s.item.list.item", "m", "n"], CODECS, strict=True))
    for compliant in (True, False):
        named = {
            path.replace("item", "element") if compliant and "list" in path else path: c
            for path, c in codecs.items()
        }
        named = {path.replace("s.element", "s.item"): codec for path, codec in named.items()}
        pq.write_table(
            pa.table(columns), tmp_path / "in.parquet", compression=named, use_compliant_nested_type=compliant
        )
        enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
        with pq.ParquetFile(tmp_path / "in.parquet") as file:
            group = file.metadata.row_group(0)
            assert len({group.column(i).compression for i in range(6)}) == 6
        assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_metadata_of_the_footer_and_of_fields_is_kept(tmp_path: Path) -> None:
    pandas = json.dumps({"index_columns": [], "columns": [{"name": "text"}]})
    field = pa.field("text", pa.string(), metadata={"PARQUET:field_id": "7", "owner": "x"})
    schema = pa.schema([field], metadata={"pandas": pandas, "ü": "é"})
    pq.write_table(pa.table([pa.array(["a"])], schema=schema), tmp_path / "in.parquet")
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet")
    columns = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[b"pandas"])["columns"]
    assert [column["name"] for column in columns] == ["text", *COLUMNS.names]


@pytest.mark.parametrize("groups", [[], [0], [3, 0, 2], [0, 0, 1], [1, 1, 5]])
def test_row_groups_are_kept_including_empty_ones(tmp_path: Path, groups: list[int]) -> None:
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    sorting = [pq.SortingColumn(1, descending=True)]
    with pq.ParquetWriter(
        tmp_path / "in.parquet", schema, compression="gzip", sorting_columns=sorting
    ) as writer:
        for rows in groups:
            writer.write_table(
                pa.table({"text": ["x"] * rows, "n": range(rows)}, schema=schema), max(rows, 1)
            )
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.read_metadata(tmp_path / "in.parquet").num_row_groups == len(groups)


def test_a_row_group_longer_than_pyarrow_s_default_is_not_split(tmp_path: Path) -> None:
    rows = 2**20 + 5
    table = pa.table({"text": pa.nulls(rows, pa.string()), "n": pa.array(range(rows), pa.int32())})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=rows)
    assert pq.read_metadata(tmp_path / "in.parquet").num_row_groups == 1
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet")


@pytest.mark.parametrize("years", [(1, 2020, 9999), (1700, 2020, 2200)])
def test_int96_timestamps_are_unchanged(tmp_path: Path, years: tuple[int, ...]) -> None:
    values = pa.array([dt.datetime(year, 12, 31) for year in years], pa.timestamp("us"))  # noqa: DTZ001 - INT96 has no zone
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], values)
    table = pa.table({"text": ["a", "b", "c"], "t": values, "l": lists})
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True, row_group_size=2)
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert_faithful(tmp_path / "in.parquet", tmp_path / "out.parquet", coerce_int96_timestamp_unit="us")


def test_a_column_of_a_type_unknown_to_arrow_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"kind": ["a"], "text": ["b"]}), path, store_schema=False)
    # The logical types STRING and ENUM with their converted types, in Thrift's compact protocol.
    string, enum = bytes.fromhex("2500 4c 1c 00 00 00"), bytes.fromhex("2508 4c 4c 00 00 00")
    path.write_bytes(path.read_bytes().replace(string, enum, 1))
    assert str(pq.read_metadata(path).schema.column(0).logical_type) == "Enum"
    enrich(path, tmp_path / "out.parquet")
    assert str(pq.read_metadata(tmp_path / "out.parquet").schema.column(0).logical_type) == "Enum"
    assert_faithful(path, tmp_path / "out.parquet")


SPARK = {"type": "struct", "fields": [{"name": "text", "type": "string", "nullable": True, "metadata": {}}]}
AVRO = {"type": "record", "name": "row", "fields": [{"name": "text", "type": ["null", "string"]}]}


def test_embedded_schemas_of_spark_and_avro_list_the_new_columns(tmp_path: Path) -> None:
    keys = {"org.apache.spark.sql.parquet.row.metadata": SPARK, "parquet.avro.schema": AVRO}
    metadata = {key: json.dumps(schema) for key, schema in keys.items()} | {"avro.schema": "not JSON"}
    schema = pa.schema([("text", pa.string())], metadata=metadata)
    pq.write_table(pa.table([pa.array(["a"])], schema=schema), tmp_path / "in.parquet", store_schema=False)
    with pq.ParquetWriter(tmp_path / "in.parquet", schema, store_schema=False) as writer:
        writer.write_table(pa.table([pa.array(["a"])], schema=schema))
        writer.add_key_value_metadata(metadata)
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    entries = pq.read_metadata(tmp_path / "out.parquet").metadata
    spark, avro = (json.loads(entries[key.encode()])["fields"] for key in keys)
    assert [field["name"] for field in spark] == [field["name"] for field in avro] == ["text", *COLUMNS.names]
    assert spark[0] == SPARK["fields"][0]
    assert spark[1] == {"name": "summary", "type": "string", "nullable": True, "metadata": {}}
    assert avro[-1] == {"name": "summary_completion_tokens", "type": ["null", "int"], "default": None}
    assert entries[b"avro.schema"] == b"not JSON"
