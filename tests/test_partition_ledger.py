"""A partition's ledger: where its replies are found while it is open, and what a full disk does to it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pyarrow as pa
import pytest

from tasks.core.errors import StorageError
from tasks.core.ledger import segment_format
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.partition_ledger import PartitionLedger
from tasks.core.ledger.reply_file import ReplyFile
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Status
from tasks.core.storage.location import locate
from tests.test_segment_format import key

KEY = "part.parquet"


def outcome(number: int) -> Outcome:
    return Outcome(Status.OK, f"{number}", max_output_tokens=9)


def table(*numbers: int) -> pa.Table:
    return segment_format.table_of({key(number): outcome(number) for number in numbers})


def texts(replies: PartitionLedger, *numbers: int) -> list[str | None]:
    found = replies.replies().look_up([key(number) for number in numbers])
    return [one.text if one else None for one in found]


class Ledgers:
    """Opens the ledger of one partition; each new reply file is made in the next of some folders."""

    def __init__(self, destination: Path, *folders: Path) -> None:
        self.segments = SegmentStore(locate(str(destination)), KEY)
        self._folders = iter(folders)
        self._files: list[ReplyFile] = []

    def __enter__(self) -> Self:
        """Nothing is open yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all reply files."""
        for file in self._files:
            file.close()

    def open(self) -> PartitionLedger:
        changed = threading.Condition()
        return PartitionLedger(self.segments, self._new_file, changed, lambda *_: None, CommitPolicy())

    def _new_file(self) -> ReplyFile:
        self._files.append(ReplyFile(locate(str(next(self._folders))), KEY))
        return self._files[-1]


def commit(replies: PartitionLedger) -> None:
    """As a thread of the ledger's does."""
    replies.buffer.begin_commit()
    replies.buffer.commit()


def test_replies_are_found_in_segments_in_the_earlier_output_in_memory_and_when_they_are_committed(
    tmp_path: Path,
) -> None:
    with Ledgers(tmp_path / "out", tmp_path, tmp_path) as ledgers:
        ledgers.segments.add(table(1))

        def prior() -> Iterator[pa.Table]:
            yield table(2)

        replies = ledgers.open()
        replies.load(prior)
        replies.append(key(3), outcome(3))
        commit(replies)
        replies.append(key(4), outcome(4))
        assert texts(replies, 4, 5, 3, 2, 1, 3) == ["4", None, "3", "2", "1", "3"]
        # Rows are looked up for requests among the replies that there were at the beginning.
        assert [one and one.text for one in replies.find([key(1), None, key(3)], (), ())] == ["1", None, None]


def test_thousands_of_commits_are_read_in_the_order_of_the_rows(tmp_path: Path) -> None:
    with Ledgers(tmp_path / "out", tmp_path, tmp_path) as ledgers:
        replies = ledgers.open()
        replies.load()
        for number in range(300):
            replies.append(key(number), outcome(number))
            replies.append(key(1000 + number), outcome(1000 + number))
            commit(replies)
        wanted = [*range(299, -1, -1), *range(1000, 1300), 5000]
        assert texts(replies, *wanted) == [*(f"{number}" for number in wanted[:-1]), None]


def test_a_disk_that_takes_no_copy_of_a_committed_reply_has_the_segments_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "full").write_text("no folder")
    with Ledgers(tmp_path / "out", tmp_path, tmp_path / "full" / "x", tmp_path) as ledgers:
        replies = ledgers.open()
        replies.load()
        replies.append(key(1), outcome(1))
        commit(replies)
        assert "Replies could not be kept in a temporary file" in caplog.text
        replies.append(key(2), outcome(2))
        assert texts(replies, 1, 2) == ["1", "2"]


def test_a_disk_that_takes_no_temporary_file_is_a_storage_error_when_replies_are_read(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")
    with Ledgers(tmp_path / "out", tmp_path, tmp_path / "full" / "x", tmp_path) as ledgers:
        ledgers.segments.add(table(1))
        replies = ledgers.open()
        with pytest.raises(StorageError):
            replies.load()
        replies.load()
        assert texts(replies, 1) == ["1"]


def test_a_ledger_that_is_released_keeps_no_file_open_and_can_be_loaded_again(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Ledgers(tmp_path / "out", *[tmp_path] * 20) as ledgers:
        ledgers.segments.add(table(1))
        before, opened = open_files(), []
        for _ in range(5):
            opened.append(ledgers.open())
            opened[-1].load()
        assert open_files() >= before + 5
        for replies in opened:
            replies.release()
        assert open_files() <= before
        opened[0].load()
        assert texts(opened[0], 1) == ["1"]
