"""Reading and writing Parquet: conversion of texts, corrupt files, and temporary files."""

import base64
import gc
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from tasks.core.errors import PartitionError
from tasks.core.parquet.append_writer import Writer
from tasks.core.parquet.footer_reading import footer_bytes, parse_footer
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.text_column import TextColumn
from tests.enriched_files import COLUMNS, FACTS, enrich, outcome_of

TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]
RAW = [b"first", b"\xff\xfe bad", None, b"last, longer than twelve bytes"]


def typed(raw: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """A string array from any bytes, UTF-8 or not."""
    if pa.types.is_dictionary(kind):
        values = typed([one for one in raw if one is not None], kind.value_type)
        places = iter(range(len(values)))
        indices = pa.array([None if one is None else next(places) for one in raw], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, values)
    storage = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(kind, pa.binary_view())
    array = pa.array(raw, storage)
    return pa.Array.from_buffers(kind, len(array), array.buffers())


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_a_row_of_invalid_utf8_is_returned_as_bytes_and_other_rows_as_text(kind: pa.DataType) -> None:
    column = pa.chunked_array([typed(RAW, kind), typed([b"next chunk"], kind)])
    texts = ["first", b"\xff\xfe bad", None, "last, longer than twelve bytes", "next chunk"]
    assert list(TextColumn(column)) == texts
    assert len(TextColumn(column)) == 5


# pyarrow's own reader rejects dictionaries with narrow indices and invalid UTF-8.
@pytest.mark.parametrize("kind", [kind for kind in TEXT_TYPES if "int8" not in str(kind)], ids=str)
def test_every_string_type_is_kept_and_returns_the_same_texts(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"text": typed(RAW, kind), "id": range(4)})
    pq.write_table(table, tmp_path / "in.parquet")
    texts = enrich(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert texts == ["first", b"\xff\xfe bad", None, "last, longer than twelve bytes"]
    # Values that are not UTF-8 cannot be compared as text, only as bytes.
    assert pq.read_schema(tmp_path / "out.parquet").field("text") == pq.read_schema(
        tmp_path / "in.parquet"
    ).field("text")
    raw = pq.ParquetFile(tmp_path / "out.parquet").read()["text"].combine_chunks()
    plain = raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw
    assert plain.cast(pa.large_binary()).to_pylist() == RAW


def test_texts_keep_their_order_over_slices_and_chunks() -> None:
    column = pa.chunked_array(
        [[f"{chunk}-{row}" for row in range(rows)] for chunk, rows in enumerate((700, 1, 256))]
    )
    assert list(TextColumn(column)) == column.to_pylist()
    assert list(TextColumn(pa.chunked_array([], pa.string()))) == []


def small(path: Path, **how: object) -> Path:
    table = pa.table({"text": [f"text {n}" for n in range(500)], "n": range(500)})
    pq.write_table(table, path, row_group_size=250, compression="none", use_dictionary=False, **how)
    return path


def test_a_reader_that_verifies_checksums_detects_a_flipped_byte_in_the_output(tmp_path: Path) -> None:
    enrich(small(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    data = bytearray((tmp_path / "out.parquet").read_bytes())
    data[data.index(b"of text 100")] ^= 1
    file = pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True)
    with pytest.raises(OSError, match="CRC"):
        file.read()


def test_the_error_for_a_flipped_byte_in_the_source_names_partition_and_row_group(tmp_path: Path) -> None:
    path = small(tmp_path / "in.parquet", write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"text 300")] ^= 1
    path.write_bytes(data)
    with pytest.raises(PartitionError, match=r"part\.parquet: row group 1 .* corrupt: restore the file"):
        enrich(path, tmp_path / "out.parquet")


def test_damage_to_a_source_raises_a_partition_error_or_nothing(tmp_path: Path) -> None:
    path = small(tmp_path / "in.parquet", write_page_checksum=True)
    good, chance = path.read_bytes(), random.Random(7)
    for _ in range(150):
        data = bytearray(good)
        place = chance.randrange(len(data))
        data[place : place + chance.randrange(1, 40)] = chance.randbytes(8)
        path.write_bytes(data)
        try:
            enrich(path, tmp_path / "out.parquet")
        except (PartitionError, KeyError):
            continue  # KeyError: the damage renamed the column, which the preflight reports


def test_a_torn_source_is_a_partition_error(tmp_path: Path) -> None:
    path = small(tmp_path / "in.parquet")
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(PartitionError, match=r"part\.parquet: the file is truncated"):
        enrich(path, tmp_path / "out.parquet")
    # The footer is intact, the pages before it are missing.
    path.write_bytes(good[len(good) // 2 :])
    with pytest.raises(PartitionError, match=r"part\.parquet: row group \d"):
        enrich(path, tmp_path / "out.parquet")


def test_any_damage_to_a_footer_raises_a_partition_error(tmp_path: Path) -> None:
    data, chance = small(tmp_path / "in.parquet").read_bytes(), random.Random(3)
    tail = data[-int.from_bytes(data[-8:-4], "little") - 8 :]
    for _ in range(2000):
        damaged = bytearray(tail)
        damaged[chance.randrange(len(tail))] = chance.randrange(256)
        try:
            parse_footer(bytes(damaged))
        except PartitionError as error:
            assert re.search("is corrupt|is encrypted|is truncated", str(error))  # noqa: PT017 - most damage goes unnoticed


class Keys(encryption.KmsClient):  # type: ignore[misc]  # pyarrow ships no types
    """A key service without encryption of keys; the files of this test are not secret."""

    def wrap_key(self, key_bytes: bytes, _master_key_identifier: str) -> str:
        return base64.b64encode(key_bytes).decode()


@pytest.mark.parametrize("clear_footer", [False, True])
def test_an_encrypted_source_is_rejected_also_with_a_plaintext_footer(
    tmp_path: Path, *, clear_footer: bool
) -> None:
    factory = encryption.CryptoFactory(lambda _: Keys())
    configuration = encryption.EncryptionConfiguration(
        footer_key="k", column_keys={"c": ["text"]}, plaintext_footer=clear_footer
    )
    locked = factory.file_encryption_properties(encryption.KmsConnectionConfig(), configuration)
    path = small(tmp_path / "in.parquet", encryption_properties=locked)
    with pytest.raises(PartitionError, match="the file is encrypted"):  # noqa: PT012 - either call may raise
        footer_bytes(path.read_bytes())
        parse_footer(path.read_bytes())
    with path.open("rb") as file, pytest.raises(PartitionError, match=r"encrypted|cannot be read"):
        Reader(file, "part.parquet")


def open_writer(path: Path, reader: Reader) -> Writer:
    return Writer(reader.footer, COLUMNS, "text", path.parent, "part.parquet")


def test_leaving_a_writer_after_an_exception_leaves_no_file(tmp_path: Path) -> None:
    source = small(tmp_path / "in.parquet")
    with source.open("rb") as file:
        reader = Reader(file, "part.parquet")
        with pytest.raises(ZeroDivisionError), open_writer(source, reader) as writer:  # noqa: PT012 - passes through
            writer.write(COLUMNS.table([outcome_of("x")] * 100))
            raise ZeroDivisionError
    del writer
    gc.collect()
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("rows", [249, 251, 499, 750])
def test_a_wrong_number_of_outcomes_is_an_error(tmp_path: Path, rows: int) -> None:
    with small(tmp_path / "in.parquet").open("rb") as file:
        reader = Reader(file, "part.parquet")
        with open_writer(tmp_path / "x", reader) as writer, pytest.raises((ValueError, IndexError)):  # noqa: PT012 - either call
            for start in range(0, rows, 250):
                writer.write(COLUMNS.table([outcome_of("x")] * min(250, rows - start)))
            writer.finish(file, FACTS)


def test_the_output_does_not_depend_on_the_size_of_slices(tmp_path: Path) -> None:
    source = small(tmp_path / "in.parquet")
    enrich(source, tmp_path / "whole.parquet")
    with source.open("rb") as file:
        reader = Reader(file, "part.parquet")
        with open_writer(source, reader) as writer:
            outcomes = [outcome_of(f"text {n}") for n in range(500)]
            for start, stop in ((0, 1), (1, 200), (200, 250), (250, 500)):
                writer.write(COLUMNS.table(outcomes[start:stop]))
            tail = writer.finish(file, FACTS)
            tail.file.seek(tail.start)
            assert source.read_bytes() + tail.file.read() == (tmp_path / "whole.parquet").read_bytes()


FILL = """
import resource, signal, sys
from pathlib import Path
from tests.enriched_files import enrich
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
enrich(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_the_error_for_a_full_disk_names_the_folder_and_no_file_is_left(tmp_path: Path) -> None:
    source, target = small(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", FILL, source, target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"StorageError: part.parquet cannot be built in {tmp_path}" in ended.stderr, ended.stderr
    assert "set TMPDIR to a folder with more space" in ended.stderr
    assert not target.exists()
