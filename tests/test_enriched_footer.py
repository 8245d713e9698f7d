"""The footer of an output: which fields change, which are kept byte for byte, and no text in metadata."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import PartitionError
from tasks.core.parquet import thrift
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.footer_reading import parse_footer, read_footer
from tasks.core.parquet.thrift import Field, Lists, Struct, binary_field, edited, integer_field, list_field
from tasks.core.parquet.thrift_values import I32, STRUCT, zigzag
from tasks.core.planning.preflight import footer_problems
from tests.enriched_files import COLUMNS, enrich

SCHEMA, ROWS, GROUPS, ENTRIES, CREATED_BY, ORDERS, UNKNOWN = 2, 3, 4, 5, 6, 7, 1234
LONG_HEADER = bytes([8]) + zigzag(UNKNOWN) + b"\x07unknown"
TABLE = pa.table(
    {"id": range(6), "text": ["a", None, "c", "d", "e", "f"], "l": [[1], [], None, [2], [3], [4]]}
)


def footer_of(path: Path) -> Struct:
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    return thrift.parse(
        data[-8 - length : -8],
        Lists({SCHEMA: Lists(), GROUPS: Lists({1: Lists({3: None})}), ENTRIES: Lists(), ORDERS: None}),
    )


def write(path: Path, *changed: Field, without: tuple[int, ...] = (), **how: object) -> Path:
    """Write a file of two row groups, with fields of its footer changed or removed."""
    pq.write_table(TABLE, path, row_group_size=3, **how)
    fields = {number: field for number, field in footer_of(path).items() if number not in without}
    data = path.read_bytes()
    body = data[: -8 - int.from_bytes(data[-8:-4], "little")]
    footer = edited(fields, *changed)
    path.write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def enriched(source: Path) -> Path:
    target = source.with_name("out.parquet")
    enrich(source, target)
    assert target.read_bytes().startswith(source.read_bytes())
    return target


def metadata_of(chunk: Struct) -> Struct:
    return thrift.parse(chunk[3].value)


def chunks_of(path: Path, column: int) -> list[Struct]:
    return [metadata_of(group[1].structs[column]) for group in footer_of(path)[GROUPS].structs]


def test_unknown_fields_of_the_footer_are_kept_at_every_level(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "in.parquet")
    fields = footer_of(source)
    elements = [item[:-1] + LONG_HEADER + b"\0" for item in fields[SCHEMA].items]
    groups = [
        edited(
            group,
            list_field(1, [edited(chunk, binary_field(77, b"of a chunk")) for chunk in group[1].structs]),
            list_field(78, [b"\1", b"\2", b"\0"], kind=2),
        )
        for group in fields[GROUPS].structs
    ]
    source = write(
        source, list_field(SCHEMA, elements), list_field(GROUPS, groups), binary_field(99, b"of the file")
    )
    was, now = footer_of(source), footer_of(enriched(source))
    assert now[99] == was[99]
    assert now[SCHEMA].items[1 : len(elements)] == was[SCHEMA].items[1:]
    assert now[SCHEMA].structs[0][UNKNOWN] == was[SCHEMA].structs[0][UNKNOWN]
    for old, new in zip(was[GROUPS].structs, now[GROUPS].structs, strict=True):
        assert new[78] == old[78]
        assert new[1].items[: len(old[1].items)] == old[1].items


def test_other_entries_are_kept_byte_for_byte_including_duplicates_and_missing_values(tmp_path: Path) -> None:
    keys = [("k", b"1"), ("k", b"2"), ("none", None), ("empty", b""), ("bytes", b"\xff\0"), ("k", b"1")]
    entries = [
        edited({}, binary_field(1, key.encode()), *([binary_field(2, value)] if value is not None else []))
        for key, value in keys
    ]
    source = write(tmp_path / "in.parquet", list_field(ENTRIES, entries))
    assert footer_of(enriched(source))[ENTRIES].items[: len(entries)] == entries


def test_a_footer_without_entries_gets_only_ours(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", without=(ENTRIES, CREATED_BY))
    now = footer_of(enriched(source))
    assert [entry[1].bytes for entry in now[ENTRIES].structs] == [b"summarize_parquet.summary.fingerprint"]
    assert CREATED_BY not in now


def test_the_name_of_the_source_s_writer_is_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", binary_field(CREATED_BY, b"parquet-mr version 1.8.0"))
    assert pq.read_metadata(enriched(source)).created_by == "parquet-mr version 1.8.0"


@pytest.mark.parametrize("ids", [(), (7, 3, 5), (2**31 - 10, -1, 0)])
def test_new_columns_get_unused_field_ids_if_the_source_s_columns_have_ids(
    tmp_path: Path, ids: tuple[int, ...]
) -> None:
    source = write(tmp_path / "in.parquet", store_schema=False)
    elements = footer_of(source)[SCHEMA].structs
    marked = [thrift.struct(elements[0])] + [
        edited(element, *([integer_field(9, ids[place % 3], I32)] if ids else []))
        for place, element in enumerate(elements[1:])
    ]
    now = footer_of(enriched(write(source, list_field(SCHEMA, marked), store_schema=False)))[SCHEMA].structs
    new = [element[9].int for element in now[len(elements) :] if 9 in element]
    assert new == [max(ids) + 1 + place for place in range(6)] if ids else not new


def test_metadata_has_bounds_only_of_new_columns_without_text(tmp_path: Path) -> None:
    target = enriched(write(tmp_path / "in.parquet", compression="gzip"))
    group = pq.read_metadata(target).row_group(0)
    statistics = {
        group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)
    }
    assert [name for name in COLUMNS.names if not statistics[name].has_min_max] == [
        "summary",
        "summary_error",
    ]
    assert [statistics[name].null_count for name in COLUMNS.names] == [1, 0, 3, 1, 1, 1]
    assert (statistics["summary_status"].min, statistics["summary_status"].max) == ("empty", "ok")
    # Not in the footer, and not in page headers; the pages themselves are compressed.
    assert b"of c" not in target.read_bytes()


def test_without_column_orders_no_bounds_are_written(tmp_path: Path) -> None:
    target = enriched(write(tmp_path / "in.parquet", without=(ORDERS,)))
    assert ORDERS not in footer_of(target)
    for column in range(3, 9):
        for chunk in chunks_of(target, column):
            assert set(thrift.parse(chunk[12].value)) == {3}


def test_pages_have_version_1_and_encodings_that_every_reader_supports(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.parquet",
        data_page_version="2.0",
        column_encoding={"text": "DELTA_BYTE_ARRAY"},
        use_dictionary=False,
    )
    group = pq.read_metadata(enriched(source)).row_group(0)
    used = {encoding for column in range(3, 9) for encoding in group.column(column).encodings}
    assert used <= {"PLAIN", "PLAIN_DICTIONARY", "RLE"}


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_new_columns_use_the_codec_of_the_text_column(tmp_path: Path, codec: str) -> None:
    source = write(
        tmp_path / "in.parquet", compression={"text": codec, "id": "zstd" if codec != "zstd" else "none"}
    )
    group = pq.read_metadata(enriched(source)).row_group(0)
    assert {group.column(i).compression for i in range(3, 9)} == {group.column(1).compression}


def problems(path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(footer_problems(read_footer(file), "part.parquet", "text", COLUMNS))


def with_chunk(path: Path, change: Field, *, in_metadata: bool = True) -> Path:
    """Write a file whose chunks of the text column have a changed field."""

    def changed(chunk: Struct) -> bytes:
        if not in_metadata:
            return edited(chunk, change)
        return edited(chunk, Field(3, STRUCT, edited(metadata_of(chunk), change)))

    groups = []
    for group in footer_of(write(path))[GROUPS].structs:
        items = [
            changed(chunk) if place == 1 else thrift.struct(chunk)
            for place, chunk in enumerate(group[1].structs)
        ]
        groups.append(edited(group, list_field(1, items)))
    return write(path, list_field(GROUPS, groups))


def test_unreadable_text_columns_are_detected_in_the_footer(tmp_path: Path) -> None:
    lzo = with_chunk(tmp_path / "lzo.parquet", integer_field(4, 3, I32))
    later = with_chunk(tmp_path / "later.parquet", list_field(2, [zigzag(42)], I32))
    listed = with_chunk(tmp_path / "_metadata", binary_field(1, b"part-0.parquet"), in_metadata=False)
    assert "codec that pyarrow cannot read" in problems(lzo)[0]
    assert "encoding that pyarrow cannot read" in problems(later)[0]
    assert "in another file" in problems(listed)[0]
    assert problems(write(tmp_path / "good.parquet")) == []


def test_a_footer_of_75_000_chunks_is_edited_without_decoding_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = pa.table({"text": ["x"] * 2} | {f"column_with_a_long_name_{n:05d}": [n, n] for n in range(1_500)})
    with pq.ParquetWriter(tmp_path / "in.parquet", wide.schema) as writer:
        for _ in range(50):
            writer.write_table(wide)
    with caplog.at_level(logging.WARNING):
        target = enriched(tmp_path / "in.parquet")
    assert pq.read_metadata(target).num_columns == 1_507
    assert pq.read_table(target, columns=["summary", "column_with_a_long_name_01499"]).to_pylist()[99] == {
        "summary": "of x",
        "column_with_a_long_name_01499": 1499,
    }
    assert not caplog.messages


def test_a_footer_above_16_megabytes_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = edited({}, binary_field(1, b"large"), binary_field(2, b"x" * (17 * 2**20)))
    with caplog.at_level(logging.WARNING):
        target = enriched(write(tmp_path / "in.parquet", list_field(ENTRIES, [entry])))
    assert "footer has 17 MB" in caplog.text
    assert parse_footer(target.read_bytes()).rows == 6


def test_a_duplicate_column_other_than_the_text_column_is_allowed(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["text", "n", "n"])
    pq.write_table(table, tmp_path / "in.parquet")
    assert problems(tmp_path / "in.parquet") == []
    with pq.ParquetFile(enriched(tmp_path / "in.parquet")) as file:
        assert file.schema_arrow.names == ["text", "n", "n", *COLUMNS.names]


def test_other_columns_may_have_names_that_are_not_utf8(tmp_path: Path) -> None:
    elements = footer_of(write(tmp_path / "in.parquet", store_schema=False))[SCHEMA].structs
    items = [
        edited(one, binary_field(4, b"\xff\xfe")) if place == 1 else thrift.struct(one)
        for place, one in enumerate(elements)
    ]
    source = write(tmp_path / "in.parquet", list_field(SCHEMA, items), store_schema=False)
    assert problems(source) == []
    assert footer_of(enriched(source))[SCHEMA].structs[1][4].bytes == b"\xff\xfe"


@pytest.mark.parametrize(
    "change", [list_field(SCHEMA, []), list_field(GROUPS, [b"\0"]), integer_field(SCHEMA, 1)]
)
def test_a_footer_that_contradicts_itself_is_corrupt(tmp_path: Path, change: Field) -> None:
    with pytest.raises(PartitionError, match="corrupt"):
        parse_footer(write(tmp_path / "in.parquet", change).read_bytes())


def test_an_output_can_be_a_source_again_and_each_tail_can_be_cut_off(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", write_page_index=True)
    first = source.read_bytes()
    target = enriched(source)
    size = len(first)
    assert target.read_bytes()[:size] == first
    assert isinstance(parse_footer(target.read_bytes()[:size]), Footer)
