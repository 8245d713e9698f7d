"""What is paid for once is never requested again: reruns, increments, equal rows, stops."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.core.errors import DeploymentError, StorageError
from tasks.core.ledger import segment_format
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.storage import stored_files
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import WINDOW, job_of, names, read, run, segments_in, tally, write
from tests.test_segment_format import entries


def texts(rows: int) -> list[str | None]:
    return [f"This is row {n}. And more." for n in range(rows)]


def test_a_finished_run_repeated_makes_no_request_and_writes_nothing(
    folders: tuple[str, str], server: Endpoint
) -> None:
    write(folders[0], texts(300))
    write(folders[0], texts(10), "day=1/other.parquet")
    assert tally(*folders).ok == 310
    before, places = server.stats().requests, locate(folders[1])
    versions = stored_files.list_files(places, places.root)
    assert run(*folders) == []
    assert server.stats().requests == before
    assert stored_files.list_files(places, places.root) == versions
    assert names(folders[1]) == ["day=1/other.parquet", "part.parquet"]


def test_one_changed_row_of_a_thousand_is_one_request(folders: tuple[str, str], server: Endpoint) -> None:
    rows = texts(1000)
    write(folders[0], rows)
    run(*folders)
    assert server.stats().requests == 1000
    rows[617] = "This is something else. And more."
    write(folders[0], rows)
    counted = tally(*folders)
    assert server.stats().requests == 1001
    assert (counted.rows, counted.ok, counted.requests, counted.reused) == (1000, 1000, 1, 999)
    summaries = read(folders[1])["summary"].to_pylist()
    assert summaries == [f"This is row {n}." if n != 617 else "This is something else." for n in range(1000)]


def test_inserted_deleted_and_moved_rows_pay_for_the_inserted_ones_alone(
    tmp_path: Path, server: Endpoint
) -> None:
    write(f"{tmp_path}/in", texts(100))
    run(f"{tmp_path}/in", f"{tmp_path}/out")
    rows = ["This is new. More.", *reversed(texts(50)), None, "This is newer. More."]
    write(f"{tmp_path}/in", rows)
    counted = tally(f"{tmp_path}/in", f"{tmp_path}/out")
    assert (server.stats().requests, counted.requests, counted.reused, counted.empty) == (102, 2, 50, 1)


def test_another_column_prefix_reuses_every_row(tmp_path: Path, server: Endpoint) -> None:
    write(f"{tmp_path}/in", texts(50))
    run(f"{tmp_path}/in", f"{tmp_path}/out")
    assert tally(f"{tmp_path}/in", f"{tmp_path}/out", prefix="short").reused == 50
    assert server.stats().requests == 50
    assert read(f"{tmp_path}/out")["short"].to_pylist() == [f"This is row {n}." for n in range(50)]


def test_a_prompt_changed_by_one_character_reuses_nothing(folders: tuple[str, str], server: Endpoint) -> None:
    write(folders[0], texts(40))
    run(*folders, prompt="Summarize.")
    counted = tally(*folders, prompt="Summarize!")
    assert (counted.reused, counted.requests, server.stats().requests) == (0, 40, 80)


def test_two_equal_rows_of_a_thousand_are_999_requests(folders: tuple[str, str], server: Endpoint) -> None:
    rows = texts(1000)
    rows[3] = rows[990]
    write(folders[0], rows)
    counted = tally(*folders)
    assert (server.stats().requests, counted.requests, counted.reused) == (999, 999, 1)
    assert server.stats().prompt_tokens == counted.prompt_tokens
    assert read(folders[1])["summary"].to_pylist()[3] == "This is row 990."


def test_equal_rows_of_partitions_that_run_together_are_one_request(tmp_path: Path, endpoint: Serve) -> None:
    server = endpoint(latency_ms=30, sigma=1)
    for number in range(5):
        write(f"{tmp_path}/in", texts(100), f"part-{number}.parquet")
    counted = tally(f"{tmp_path}/in", f"{tmp_path}/out")
    assert (server.stats().requests, counted.ok, counted.reused) == (100, 500, 400)


def test_failed_rows_alone_are_requested_again_and_the_output_is_healed(
    folders: tuple[str, str], endpoint: Serve
) -> None:
    server = endpoint(fault_rate=0.4, latency_ms=1)
    write(folders[0], texts(100))
    failed = tally(*folders).failed
    assert failed > 0
    server.configure(fault_rate=0.0)
    server.reset()
    counted = tally(*folders)
    assert (counted.failed, counted.requests, counted.reused) == (0, failed, 100 - failed)
    assert (server.stats().requests, server.stats().row_requests_max) == (failed, 1)
    assert read(folders[1])["summary"].to_pylist() == [f"This is row {n}." for n in range(100)]
    assert run(*folders) == []


@pytest.mark.parametrize(
    ("fault", "status"), [("content-filter", "filtered"), ("length", "truncated"), ("refusal", "refused")]
)
def test_answers_that_are_no_summary_are_paid_for_too_and_kept(
    tmp_path: Path, server: Endpoint, fault: str, status: str
) -> None:
    rows = [*texts(20), f"A text. [[fault:{fault}]]"]
    write(f"{tmp_path}/in", rows)
    run(f"{tmp_path}/in", f"{tmp_path}/out")
    before = read(f"{tmp_path}/out")
    assert before["summary_status"].to_pylist()[-1] == status
    write(f"{tmp_path}/in", [*rows, "A new one. More."])
    assert tally(f"{tmp_path}/in", f"{tmp_path}/out").requests == 1
    assert read(f"{tmp_path}/out").slice(0, 21).equals(before)
    assert server.stats().requests == 22


def test_a_key_revoked_in_the_middle_keeps_what_was_answered(
    folders: tuple[str, str], endpoint: Serve
) -> None:
    rows = [*texts(300), "A text. [[fault:unauthorized]]"]
    server = endpoint(latency_ms=5)
    write(folders[0], rows)
    with pytest.raises(DeploymentError):
        run(*folders)
    answered = server.stats().paid
    assert answered >= 300 - WINDOW
    assert sum(len(table) for table in segments_in(folders[1])) == answered
    server.reset()
    rows[300] = "All is well. More."
    write(folders[0], rows)
    counted = tally(*folders)
    assert (counted.reused, counted.requests) == (answered, 301 - answered)
    assert names(folders[1]) == ["part.parquet"]


def test_after_a_failed_publish_nothing_is_requested_again(tmp_path: Path, server: Endpoint) -> None:
    write(f"{tmp_path}/in", texts(50))
    # A folder where the file should go cannot be replaced by it.
    (tmp_path / "out" / "part.parquet" / "in the way").mkdir(parents=True)
    with pytest.raises(StorageError):
        run(f"{tmp_path}/in", f"{tmp_path}/out")
    assert server.stats().requests == 50
    (tmp_path / "out" / "part.parquet" / "in the way").rmdir()
    (tmp_path / "out" / "part.parquet").rmdir()
    counted = tally(f"{tmp_path}/in", f"{tmp_path}/out")
    assert (counted.ok, counted.reused, server.stats().requests) == (50, 50, 50)


def test_what_a_kill_between_publishing_and_removing_left_is_swept_by_the_next_run(
    folders: tuple[str, str], server: Endpoint
) -> None:
    write(folders[0], texts(50))
    run(*folders)
    published = locate(folders[1])

    SegmentStore(published, "part.parquet", job_of(*folders).request.fingerprint).add(
        segment_format.table_of(entries())
    )
    assert run(*folders) == []
    assert names(folders[1]) == ["part.parquet"]
    assert server.stats().requests == 50


def test_a_corrupt_earlier_output_is_replaced_and_paid_for_again(tmp_path: Path, server: Endpoint) -> None:
    write(f"{tmp_path}/in", texts(50))
    run(f"{tmp_path}/in", f"{tmp_path}/out")
    (tmp_path / "out" / "part.parquet").write_bytes(b"PAR1" + os.urandom(1000) + b"PAR1")
    counted = tally(f"{tmp_path}/in", f"{tmp_path}/out")
    assert (counted.ok, counted.requests, server.stats().requests) == (50, 50, 100)


def test_no_text_of_a_row_is_in_the_ledger(tmp_path: Path, server: Endpoint) -> None:
    write(f"{tmp_path}/in", ["First sentence. Secretword follows.", "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(f"{tmp_path}/in", f"{tmp_path}/out")
    assert server.stats().paid <= 1
    for path in (tmp_path / "out").rglob("*"):
        assert "Secretword" not in path.name
        assert path.is_dir() or b"Secretword" not in path.read_bytes()


def test_an_answer_two_partitions_share_is_kept_for_both(tmp_path: Path, endpoint: Serve) -> None:
    endpoint(latency_ms=5)
    for number in range(2):
        write(f"{tmp_path}/in", [*texts(100), "A text. [[fault:unauthorized]]"], f"part-{number}.parquet")
    with pytest.raises(DeploymentError):
        run(f"{tmp_path}/in", f"{tmp_path}/out")
    job = job_of(f"{tmp_path}/in", f"{tmp_path}/out")
    stores = [
        SegmentStore(job.destination, f"part-{number}.parquet", job.request.fingerprint)
        for number in range(2)
    ]
    assert min(sum(map(len, segments.read())) for segments in stores) >= 100 - 2 * WINDOW


def test_an_output_that_becomes_a_source_is_recognized_as_finished_too(
    tmp_path: Path, endpoint: Serve
) -> None:
    server = endpoint(fault_rate=0.3)
    write(f"{tmp_path}/in", texts(30))
    assert tally(f"{tmp_path}/in", f"{tmp_path}/out").failed
    server.configure(fault_rate=0.0)
    assert tally(f"{tmp_path}/out", f"{tmp_path}/again", prefix="second").failed == 0
    assert run(f"{tmp_path}/out", f"{tmp_path}/again", prefix="second") == []


def test_what_the_footer_told_of_a_first_enriching_is_told_after_a_second(
    tmp_path: Path, server: Endpoint
) -> None:
    write(f"{tmp_path}/in", texts(5))
    run(f"{tmp_path}/in", f"{tmp_path}/out", prompt="Say it short.")
    run(f"{tmp_path}/out", f"{tmp_path}/again", prefix="second")
    first, both = (
        pq.read_metadata(tmp_path / folder / "part.parquet").metadata for folder in ("out", "again")
    )
    facts = {key: value for key, value in first.items() if key.startswith(b"summarize_parquet.")}
    assert len(facts) == 11
    assert facts.items() <= both.items()
    assert server.stats().requests == 10


def test_finishing_with_one_prompt_keeps_what_was_answered_to_another(
    folders: tuple[str, str], server: Endpoint
) -> None:
    write(folders[0], texts(50))
    other = job_of(*folders, prompt="Say it in French.")
    segments = SegmentStore(other.destination, "part.parquet", other.request.fingerprint)
    segments.add(segment_format.table_of(entries()))
    for _ in range(2):  # once it is settled, and once it is swept
        run(*folders)
        assert len(segments.read()) == 1
    assert server.stats().requests == 50
