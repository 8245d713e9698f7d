"""Row groups that are read and begun ahead: order, how far, and what becomes of them when something fails."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import StorageError
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Outcome
from tasks.core.parquet.reader import Reader
from tasks.core.rows.batch import OnRow
from tasks.core.rows.requester import Requester, Rows, WaitForOutcomes
from tasks.core.rows.row_group_pipeline import summarize_slices
from tasks.core.rows.row_source import RowSource
from tasks.core.storage.location import locate
from tests.enriched_files import REQUEST, outcome_of, text_of


class Counted:
    """A row service with a thread per row group; counts the row groups it was handed and has ended."""

    def __init__(self, hold: threading.Event | None = None) -> None:
        self.begun = self.ended = self.rows = 0
        self._hold = hold
        self._pool = ThreadPoolExecutor(16)

    def begin(self, rows: Rows, on_row: OnRow) -> WaitForOutcomes:
        self.begun += 1
        work: Future[list[Outcome]] = self._pool.submit(self._work, rows, on_row)
        return work.result

    def _work(self, rows: Rows, on_row: OnRow) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for row in rows:
            if self._hold:
                self._hold.wait(10)
            outcomes.append(outcome_of(text_of(row)))
            on_row(len(outcomes) - 1, outcomes[-1])
            self.rows += 1
        self.ended += len(outcomes) == len(rows)
        return outcomes


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[int, int], Reader]]:
    """A reader of a partition: ``write(row_groups, rows_in_each)``."""
    with ExitStack() as stack:

        def written(groups: int, rows: int) -> Reader:
            table = pa.table({"text": [f"text {n}" for n in range(groups * rows)]})
            pq.write_table(table, tmp_path / "part.parquet", row_group_size=rows)
            file = stack.enter_context((tmp_path / "part.parquet").open("rb"))
            return Reader(file, "part.parquet")

        yield written


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(locate(f"{tmp_path}/out")) as opened:
        yield opened


def test_outcomes_stay_with_their_rows(write: Callable[[int, int], Reader], ledger: Ledger) -> None:
    reader = write(7, 1000)
    requester = Requester(Counted(), ledger.open("k"), (), REQUEST.max_output_tokens)
    with summarize_slices(RowSource(reader.slices(["text"]), REQUEST), requester) as row_groups:
        texts = [outcome.text for outcomes in row_groups for outcome in outcomes]
    assert texts == [f"of text {n}" for n in range(7000)]


@pytest.mark.parametrize(("rows_a_group", "ahead"), [(20_000, 2), (2_000, 4)])
def test_as_many_row_groups_are_begun_as_fill_the_window_and_no_more(
    write: Callable[[int, int], Reader], ledger: Ledger, rows_a_group: int, ahead: int
) -> None:
    service, reader = Counted(), write(8, rows_a_group)
    requester = Requester(service, ledger.open("k"), (), REQUEST.max_output_tokens)
    with summarize_slices(RowSource(reader.slices(["text"]), REQUEST), requester) as row_groups:
        for number, _ in enumerate(row_groups):
            assert service.begun == min(number + ahead, 8)


def test_of_row_groups_too_large_for_memory_one_is_held(
    write: Callable[[int, int], Reader], ledger: Ledger
) -> None:
    service, reader = Counted(), write(4, 500)
    requester = Requester(service, ledger.open("k"), (), REQUEST.max_output_tokens)
    with summarize_slices(
        RowSource(reader.slices(["text"]), REQUEST), requester, bytes_ahead=1000
    ) as row_groups:
        assert [service.begun for _ in row_groups] == [1, 2, 3, 4]


def test_a_failure_begins_no_further_row_and_waits_for_those_in_flight(
    write: Callable[[int, int], Reader], ledger: Ledger
) -> None:
    hold = threading.Event()
    service, reader = Counted(hold), write(3, 100)
    requester = Requester(service, ledger.open("k"), (), REQUEST.max_output_tokens)

    def slices() -> Iterator[pa.Table]:
        for number, table in enumerate(reader.slices(["text"])):
            if number == 2:
                threading.Timer(0.05, hold.set).start()
                message = "gone"
                raise StorageError(message)
            yield table

    def work() -> None:
        with summarize_slices(RowSource(slices(), REQUEST), requester) as row_groups:
            list(row_groups)

    with pytest.raises(StorageError, match="gone"):
        work()
    assert service.begun == 2
    assert service.ended == 0
    assert service.rows == 2
