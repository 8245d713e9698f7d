"""The sample partitions: folders, types, texts and nulls."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.local.sample import SCHEMA, main, write_sample
from tasks.local.sample_paragraphs import paragraphs


def rows_of(folder: Path, written: list[str]) -> list[dict[str, Any]]:
    """All rows of the files, in order, without the partition columns of the paths."""
    tables = (pq.ParquetFile(folder / path).read() for path in written)
    return list(itertools.chain.from_iterable(table.to_pylist() for table in tables))


def test_the_sample_has_the_requested_rows_in_uneven_hive_partitions(tmp_path: Path) -> None:
    written = write_sample(tmp_path, rows=240, partitions=4)
    sizes = [pq.read_metadata(tmp_path / path).num_rows for path in written]
    assert sum(sizes) == 240
    assert len(set(sizes)) == len(sizes) == 4
    assert all(Path(path).parts[0].startswith("topic_group=") for path in written)
    assert sorted(written) == sorted(
        str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*.parquet")
    )


def test_every_partition_keeps_schema_metadata_codec_and_two_row_groups(tmp_path: Path) -> None:
    for path in write_sample(tmp_path):
        footer = pq.read_metadata(tmp_path / path)
        assert footer.schema.to_arrow_schema().equals(SCHEMA, check_metadata=False)
        schema = pq.read_schema(tmp_path / path)
        assert (schema.metadata or {})[b"dataset"] == b"local sample"
        assert (schema.field("cost").metadata or {})[b"unit"] == b"EUR"
        assert schema.field("topic").type == pa.dictionary(pa.int32(), pa.string())
        assert footer.num_row_groups == 2
        assert footer.row_group(0).column(0).compression == "ZSTD"


def test_bodies_are_prose_with_some_nulls_and_one_blank(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, write_sample(tmp_path))
    bodies = [row["body"] for row in rows]
    texts = [body for body in bodies if body and body.strip()]
    assert 5 <= bodies.count(None) <= 20
    assert sum(body is not None and not body.strip() for body in bodies) == 1
    assert len(set(texts)) == len(texts)
    assert all(text[0].isupper() and "\n" not in text and len(text.split()) >= 30 for text in texts)
    assert all(row["words"] == len(row["body"].split()) for row in rows if row["body"] is not None)


def test_ids_are_unique_over_all_partitions_and_need_64_bits(tmp_path: Path) -> None:
    ids = [row["id"] for row in rows_of(tmp_path, write_sample(tmp_path))]
    assert len(set(ids)) == 240
    assert min(ids) > 2**31


def test_tags_are_lists_empty_lists_and_nulls(tmp_path: Path) -> None:
    kinds = {
        None if row["tags"] is None else min(len(row["tags"]), 1)
        for row in rows_of(tmp_path, write_sample(tmp_path))
    }
    assert kinds == {None, 0, 1}


def test_the_same_arguments_write_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder, seed in zip(folders, (7, 7, 8), strict=True):
        written = write_sample(folder, seed=seed)
    first, second, other = ([(folder / path).read_bytes() for path in written] for folder in folders)
    assert first == second
    assert first != other


def test_more_rows_than_paragraphs_are_marked_copies(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, write_sample(tmp_path, rows=3 * len(paragraphs()), partitions=2))
    texts = [row["body"] for row in rows if row["body"] and row["body"].strip()]
    assert len(set(texts)) == len(texts)
    assert any(text.endswith("(copy 2)") for text in texts)


def test_more_partitions_than_letters_share_folders(tmp_path: Path) -> None:
    written = write_sample(tmp_path, rows=100, partitions=40)
    assert len(set(written)) == 40
    assert any(path.endswith("part-0001.parquet") for path in written)
    assert len(rows_of(tmp_path, written)) == 100


@pytest.mark.parametrize(("rows", "partitions"), [(3, 4), (0, 0), (5, 0)])
def test_fewer_rows_than_partitions_are_rejected(tmp_path: Path, rows: int, partitions: int) -> None:
    with pytest.raises(ValueError, match="cannot fill"):
        write_sample(tmp_path, rows=rows, partitions=partitions)


def test_the_paragraphs_have_no_markup_and_no_grammar() -> None:
    texts = [one.text for one in paragraphs()]
    assert len(texts) > 240
    assert len(set(texts)) == len(texts)
    assert not any("``" in text or "::=" in text or ">>>" in text for text in texts)


def test_the_command_line_writes_and_lists_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--rows", "12", "--partitions", "3"]) == 0
    listed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(listed) == 3
    assert sum(pq.read_metadata(path).num_rows for path in listed) == 12


def test_the_command_line_reports_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--rows", "1"])
    assert stop.value.code == 2
    assert "1 rows cannot fill 4 partitions" in capsys.readouterr().err
