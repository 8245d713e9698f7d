"""Embedded schemas of other programs in a footer: the new columns are added, and nothing is lost."""

import base64
import datetime as dt
import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.parquet.embedded_schemas import with_columns
from tests.enriched_files import COLUMNS, enrich

ARROW = b"ARROW:schema"
PANDAS = b"pandas"
DAY = pd.Timestamp("2020-01-01")

# Names of two columns, and as pandas reads them from an output: numbers stay numbers, others become strings.
NAMES: list[tuple[Any, list[Any]]] = [
    (["a", "b"], ["a", "b"]),
    ([0, 1], [0, 1]),
    (pd.RangeIndex(2), [0, 1]),
    (pd.Index([5, 7], dtype="uint8"), [5, 7]),
    ([1.5, 2.5], [1.5, 2.5]),
    ([True, False], [True, False]),
    (["a", 1], ["a", "1"]),
    ([DAY, DAY + pd.Timedelta("1D")], ["2020-01-01 00:00:00", "2020-01-02 00:00:00"]),
    ([dt.date(2020, 1, 1), dt.date(2020, 1, 2)], ["2020-01-01", "2020-01-02"]),
    (pd.date_range("2020", "2021", 2, tz="UTC"), ["2020-01-01 00:00:00+00:00", "2021-01-01 00:00:00+00:00"]),
    ([Decimal("1.1"), Decimal("2.2")], ["1.1", "2.2"]),
    (pd.CategoricalIndex(["a", "b"]), ["a", "b"]),
    (pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")], names=["one", "two"]), [("a", "x"), ("b", "y")]),
    (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), [("a", 1), ("b", 2)]),
    (pd.MultiIndex.from_tuples([("a", 1, DAY), ("b", 2, DAY)]), [("a", 1, f"{DAY}"), ("b", 2, f"{DAY}")]),
    (pd.Index(["a", "b"], name="named"), ["a", "b"]),
]


@pytest.mark.parametrize(("names", "shown"), NAMES, ids=lambda names: str(list(names))[:40])
@pytest.mark.parametrize("rows", [0, 3])
def test_pandas_reads_an_output_with_column_names_of_any_type(
    tmp_path: Path, names: Any, shown: list[Any], rows: int
) -> None:
    frame = pd.DataFrame({"text": pd.Series(["x"] * rows, dtype="str"), "n": range(rows)})
    frame.columns = names
    with warnings.catch_warnings(action="ignore"):  # of names that are mixed
        frame.to_parquet(tmp_path / "in.parquet", engine="pyarrow")
    enrich(
        tmp_path / "in.parquet", tmp_path / "out.parquet", pq.read_schema(tmp_path / "in.parquet").names[0]
    )
    read = pd.read_parquet(tmp_path / "out.parquet", engine="pyarrow")
    levels = read.columns.nlevels
    assert list(read.columns) == [
        *shown,
        *(name if levels == 1 else (name, *[""] * (levels - 1)) for name in COLUMNS.names),
    ]
    assert [repr(name) for name in read.columns[:2]] == [repr(name) for name in shown]
    assert list(read.columns.names) == list(frame.columns.names)
    assert read.iloc[:, :2].to_numpy().tolist() == frame.to_numpy().tolist()
    assert list(read.dtypes)[:2] == list(frame.dtypes)


@pytest.mark.parametrize("engine", ["pyarrow", "fastparquet"])
@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(2),
        pd.Index([5, 6], name="i"),
        pd.Index(["k", "l"]),
        pd.date_range("2020", "2021", 2, name="day"),
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["one", "two"]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_index_and_types_of_old_columns_are_kept(tmp_path: Path, index: pd.Index, engine: str) -> None:
    columns = {"text": ["x", None], "n": pd.array([1, None], dtype="Int64"), "c": pd.Categorical(["u", "v"])}
    frame = pd.DataFrame(columns, index=index)
    with warnings.catch_warnings(action="ignore"):  # fastparquet as an engine is deprecated
        frame.to_parquet(tmp_path / "in.parquet", engine=engine)
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    was, now = (pd.read_parquet(tmp_path / name, engine="pyarrow") for name in ("in.parquet", "out.parquet"))
    pd.testing.assert_frame_equal(now[["text", "n", "c"]], was)


def test_pandas_schema_inside_arrow_s_is_changed_too(tmp_path: Path) -> None:
    pd.DataFrame({0: ["x"]}).to_parquet(tmp_path / "in.parquet")
    enrich(tmp_path / "in.parquet", tmp_path / "out.parquet", "0")
    metadata = pq.read_metadata(tmp_path / "out.parquet").metadata
    copy = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata[ARROW]))).metadata
    assert json.loads(copy[PANDAS]) == json.loads(metadata[PANDAS])
    assert [column["name"] for column in json.loads(copy[PANDAS])["columns"]] == [0, *COLUMNS.names]


TYPES = [
    pa.int8(), pa.uint64(), pa.float16(), pa.decimal32(5, 2), pa.decimal256(50, 3), pa.string_view(),
    pa.large_binary(), pa.binary(7), pa.date64(), pa.time32("s"), pa.timestamp("ns", "Asia/Tokyo"),
    pa.duration("us"), pa.month_day_nano_interval(), pa.null(),
    pa.dictionary(pa.uint8(), pa.string(), ordered=True),
    pa.list_view(pa.int32()), pa.list_(pa.field("element", pa.int32(), nullable=False), 3),
    pa.uuid(),
    pa.map_(pa.string(), pa.int32(), keys_sorted=True), pa.run_end_encoded(pa.int16(), pa.string()),
    pa.dense_union([pa.field("a", pa.int32()), pa.field("b", pa.string())]), pa.json_(), pa.bool8(),
    pa.fixed_shape_tensor(pa.float32(), [2, 3]), pa.opaque(pa.binary(), "kind", "vendor"),
]  # fmt: skip


@given(
    kinds=st.lists(st.sampled_from(TYPES), max_size=6),
    nullable=st.booleans(),
    metadata=st.none() | st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), min_size=1),
)
def test_arrow_s_schema_keeps_every_type_and_all_metadata(
    kinds: list[pa.DataType], metadata: dict[bytes, bytes] | None, *, nullable: bool
) -> None:
    unknown = {"ARROW:extension:name": "their.own", "ARROW:extension:metadata": "x", "PARQUET:field_id": "3"}
    fields = [
        pa.field(
            f"c{n}",
            kind,
            nullable or pa.types.is_null(kind),
            None if isinstance(kind, pa.BaseExtensionType) else unknown,
        )
        for n, kind in enumerate(kinds)
    ]
    schema = pa.schema(fields, metadata=metadata)
    ((_, value),) = with_columns([(ARROW, base64.b64encode(schema.serialize()))], COLUMNS.fields)
    assert value is not None
    longer = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value)))
    assert longer.equals(pa.schema([*schema, *COLUMNS.fields], metadata=metadata), check_metadata=True)


@given(
    key=st.sampled_from(
        [ARROW, PANDAS, b"org.apache.spark.sql.parquet.row.metadata", b"avro.schema", b"other"]
    ),
    value=st.none()
    | st.binary()
    | st.sampled_from(
        [b"[" * 5000, b"null", b"{}", b'{"fields":1}', b'{"columns":{},"column_indexes":7}', b"\xff"]
    ),
)
def test_an_entry_that_is_not_a_schema_is_the_same_object(key: bytes, value: bytes | None) -> None:
    entry = (key, value)
    assert with_columns([entry], COLUMNS.fields)[0] is entry


def test_entries_keep_their_order_and_duplicates_are_all_changed() -> None:
    spark = json.dumps({"type": "struct", "fields": [{"name": "a", "type": "long"}]}).encode()
    row = b"org.apache.spark.sql.parquet.row.metadata"
    entries = [(b"x", b"1"), (row, spark), (row, None), (b"x", None), (row, spark)]
    changed = with_columns(entries, COLUMNS.fields)
    assert [key for key, _ in changed] == [key for key, _ in entries]
    assert [new is old for new, old in zip(changed, entries, strict=True)] == [True, False, True, True, False]


def test_avro_s_schema_is_kept_if_avro_does_not_allow_a_new_name() -> None:
    entry = (b"avro.schema", json.dumps({"type": "record", "name": "r", "fields": []}).encode())
    assert with_columns([entry], [pa.field("not-avro", pa.string())])[0] is entry
