"""Group commit: how much may be in memory only, and what a failing store does to it."""

import threading
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.core.errors import InterruptedRunError, StorageError
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.partition_ledger import PartitionLedger
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Status
from tasks.core.rows.requester import Requester
from tasks.core.rows.row_source import RowSlice
from tasks.core.storage.location import Location, locate
from tests.enriched_files import REQUEST, Echo
from tests.prefectserver import wait_until
from tests.test_segment_format import key

NEVER = CommitPolicy(commit_after_s=10_000.0)
KEY = "part.parquet"
SOON_S = 20.0


class WatchedFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no annotations
    """Counts writes, and fails as many as it is set to."""

    protocol = "watched"
    store: dict[str, object] = {}  # noqa: RUF012 - the base class keeps it so
    pseudo_dirs = [""]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.failures_left = 0
        self.read_failures_left = self.removal_failures_left = 0
        self.error: Exception = TimeoutError()
        self.tries = threading.Semaphore(0)
        self.writes = threading.Semaphore(0)

    def pipe_file(self, *args: object, **how: object) -> None:
        self.tries.release()
        if self.failures_left:
            self.failures_left -= 1
            raise self.error
        super().pipe_file(*args, **how)
        self.writes.release()

    def cat_file(self, *args: object, **how: object) -> object:
        if self.read_failures_left:
            self.read_failures_left -= 1
            raise self.error
        return super().cat_file(*args, **how)

    def rm_file(self, *args: object, **how: object) -> None:
        if self.removal_failures_left:
            self.removal_failures_left -= 1
            raise self.error
        super().rm_file(*args, **how)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    # What a store does not take is kept among temporary files.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    WatchedFileSystem.clear_instance_cache()
    WatchedFileSystem.store.clear()
    return Location("watched://out", "/out", WatchedFileSystem())


def append(replies: PartitionLedger, *numbers: int) -> None:
    for number in numbers:
        replies.append(key(number), Outcome(Status.OK, f"{number}", requests=1))


def segments(place: Location) -> list[int]:
    """How many replies each segment holds."""
    return sorted(len(table) for table in SegmentStore(place, KEY).read())


def test_replies_of_a_second_are_stored_together_by_the_ledger_itself(place: Location) -> None:
    with Ledger(place, policy=CommitPolicy(commit_after_s=0.05)) as ledger:
        append(ledger.open(KEY), *range(10))
        assert place.fs.writes.acquire(timeout=SOON_S)
        assert segments(place) == [10]


def test_a_slow_store_is_asked_less_often_and_any_store_within_a_second() -> None:
    assert [CommitPolicy().wait_s(took_s) for took_s in (0.0, 0.001, 0.05, 3.0)] == [0.2, 0.2, 0.5, 1.0]


def test_a_few_hundred_replies_are_stored_at_once(place: Location) -> None:
    with Ledger(place, policy=NEVER) as ledger:
        replies = ledger.open(KEY)
        append(replies, *range(255))
        assert replies.buffer.unsaved == 255
        append(replies, 255)
        assert place.fs.writes.acquire(timeout=SOON_S)
        assert segments(place) == [256]


def test_the_last_replies_of_a_partition_need_not_wait_for_more(place: Location) -> None:
    with Ledger(place, policy=NEVER) as ledger:
        replies = ledger.open(KEY)
        replies.store_now()
        append(replies, 1, 2)
        replies.store_now()
        assert place.fs.writes.acquire(timeout=SOON_S)
        assert segments(place) == [2]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, InterruptedRunError])
def test_whatever_ends_the_run_stores_the_rest_first(
    place: Location, error: type[BaseException] | None
) -> None:
    def work(ledger: Ledger) -> None:
        append(ledger.open(KEY), 1, 2, 3)
        if error:
            raise error

    if error:
        with pytest.raises(error), Ledger(place, policy=NEVER) as ledger:
            work(ledger)
    else:
        with Ledger(place, policy=NEVER) as ledger:
            work(ledger)
    assert segments(place) == [3]


def test_what_a_store_did_not_take_is_kept_and_tried_again(place: Location) -> None:
    place.fs.failures_left = 1
    with Ledger(place, policy=CommitPolicy(commit_after_s=0.0)) as ledger:
        replies = ledger.open(KEY)
        append(replies, 1)
        assert place.fs.tries.acquire(timeout=SOON_S)
        append(replies, 2)
        assert place.fs.writes.acquire(timeout=SOON_S)
    assert sum(segments(place)) == 2


class UnlistedError(Exception):
    """An exception class that this program does not know, as another store's client may raise."""


def test_an_exception_of_any_class_while_storing_is_recorded_by_its_class_and_storing_is_tried_again(
    place: Location, caplog: pytest.LogCaptureFixture
) -> None:
    place.fs.failures_left, place.fs.error = 3, UnlistedError("text of a row")
    with Ledger(place, policy=CommitPolicy(commit_after_s=0.0, first_backoff_s=0.001)) as ledger:
        append(ledger.open(KEY), 1)
        assert place.fs.writes.acquire(timeout=SOON_S)
    assert segments(place) == [1]
    assert caplog.text.count("1 replies wait to be stored: unexpected UnlistedError") == 3
    assert "text of a row" not in caplog.text


def test_an_exception_of_any_class_while_merging_is_recorded_and_the_next_segment_merges_again(
    place: Location, caplog: pytest.LogCaptureFixture
) -> None:
    place.fs.read_failures_left, place.fs.error = 1, UnlistedError("text of a row")
    with Ledger(place, policy=CommitPolicy(commit_after_s=0.0)) as ledger:
        replies = ledger.open(KEY)
        for number in range(18):
            # While segments are merged, a further one merges nothing.
            wait_until(lambda: not replies.buffer.is_busy, SOON_S)
            append(replies, number)
            assert place.fs.writes.acquire(timeout=SOON_S)
        # The eighteenth segment, then the merged one.
        assert place.fs.writes.acquire(timeout=SOON_S)
    assert segments(place) == [18]
    assert "could not be merged yet: unexpected UnlistedError" in caplog.text


def test_a_published_partition_whose_ledger_cannot_be_removed_is_published_all_the_same(
    place: Location,
) -> None:
    with Ledger(place) as ledger:
        append(ledger.open(KEY), 1)
        assert place.fs.writes.acquire(timeout=SOON_S)
        place.fs.removal_failures_left, place.fs.error = 1, UnlistedError()
        ledger.settle(KEY)
    assert place.fs.removal_failures_left == 0


def test_an_equal_key_does_not_delay_the_commit_of_the_first(place: Location) -> None:
    with Ledger(place, policy=NEVER) as ledger:
        replies = ledger.open(KEY)
        append(replies, 1)
        due_s = replies.buffer.due_s
        append(replies, 1, 1)
        assert replies.buffer.due_s == due_s


def test_a_store_that_takes_nothing_to_the_end_is_reported_with_a_count(place: Location) -> None:
    place.fs.failures_left = 1000
    with (
        pytest.raises(StorageError, match=r"2 replies could not be stored in watched://out/_ledger"),
        Ledger(place, policy=NEVER) as ledger,
    ):
        append(ledger.open(KEY), 1, 2)


def test_it_does_not_hide_the_error_that_ended_the_run(
    place: Location, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        with Ledger(place, policy=NEVER) as ledger:
            append(ledger.open(KEY), 1)
            raise InterruptedRunError

    place.fs.failures_left = 1000
    with pytest.raises(InterruptedRunError):
        work()
    assert "1 replies could not be stored" in caplog.text


def test_a_second_try_in_the_same_process_knows_what_is_in_memory_only(place: Location) -> None:
    with Ledger(place, policy=NEVER) as ledger:
        append(ledger.open(KEY), 1, 2)
        found = ledger.open(KEY).find([key(2), None, key(3), key(1)], (), ())
    assert [outcome.text if outcome else None for outcome in found] == ["2", None, None, "1"]


def test_a_store_that_recovers_takes_everything(place: Location) -> None:
    place.fs.failures_left = 5
    with Ledger(place, policy=CommitPolicy(commit_after_s=0.0, first_backoff_s=0.001)) as ledger:
        replies = ledger.open(KEY)
        append(replies, 1)
        assert place.fs.writes.acquire(timeout=SOON_S)
        replies.check()
    assert segments(place) == [1]


def test_no_more_is_asked_while_replies_cannot_be_kept(place: Location) -> None:
    rows, policy = Echo(), CommitPolicy(commit_after_s=0.0, longest_unsaved_s=0.0)
    place.fs.failures_left = 1000

    def work() -> None:
        with Ledger(place, policy=policy) as ledger:
            Requester(rows, ledger.open(KEY), (), REQUEST.max_output_tokens).request(
                RowSlice(["a", "b", "c"], REQUEST)
            ).outcomes()

    with pytest.raises(StorageError, match="1 replies of this partition could not be stored"):
        work()


def test_a_look_up_of_many_rows_finds_the_replies_of_an_earlier_run(tmp_path: Path) -> None:
    place = locate(str(tmp_path))
    with Ledger(place) as ledger:
        append(ledger.open(KEY), *range(1000))
    with Ledger(place) as ledger:
        found = ledger.open(KEY).find([key(n) for n in range(500, 1500)], (), ())
    assert [outcome.text for outcome in found[:500] if outcome] == [f"{n}" for n in range(500, 1000)]
    assert found[500:] == [None] * 500
    assert found[0] == Outcome(Status.OK, "500", reused=True)


def test_a_settled_partition_leaves_nothing(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "out"))
    with Ledger(place) as ledger:
        append(ledger.open(KEY), *range(600))
        ledger.settle(KEY)
        append(ledger.open("another"), 1)
        ledger.settle("another")
    assert not list(tmp_path.rglob("*"))[1:]


def test_a_million_replies_are_in_dozens_of_objects(tmp_path: Path) -> None:
    """A short form: 20,000 rows, as fast as they can be appended."""
    place = locate(str(tmp_path))
    with Ledger(place) as ledger:
        replies = ledger.open(KEY)
        for number in range(20_000):
            append(replies, number)
    assert len(list(tmp_path.rglob("*.segment"))) < 70
    assert sum(segments(place)) == 20_000
