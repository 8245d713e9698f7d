"""One run at a time on a destination, on disk and on a real S3 server."""

import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.core.errors import InputError, LeaseError, LostLeaseError
from tasks.core.lease.lease import Lease, LeaseTiming
from tasks.core.lease.lease_file import LeaseFiles, LeaseRecord
from tasks.core.process_identity import ProcessIdentity
from tasks.core.storage.location import Location, locate
from tests.core_runs import names
from tests.lease_process import leasing, read_line, request_lease

ELSEWHERE = replace(ProcessIdentity.this_process(), host="other-host", pid=77)
BRISK = LeaseTiming(renew_s=0.1, expires_s=20.0, poll_s=0.1)
HASTY = LeaseTiming(renew_s=100.0, expires_s=0.5, poll_s=0.05)
SOON_S = 20.0


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty destination of each kind."""
    if request.param == "s3":
        return locate(f"{request.getfixturevalue('bucket')}/out")
    return locate(str(tmp_path / "out"))


def store_lease(place: Location, owner: ProcessIdentity, expires_s: float = 0.5) -> None:
    """Store the lease of a run that ended without releasing it."""
    record = LeaseRecord(owner=owner, run="run", since="2026-11-01T00:00:00+00:00", expires_s=expires_s)
    assert LeaseFiles(place).create(LeaseFiles(place).highest() + 1, record)


def take(place: Location) -> str:
    try:
        with Lease(place):
            return "taken"
    except LeaseError as error:
        return str(error)


def test_of_eight_racing_threads_one_has_the_lease(place: Location) -> None:
    together = threading.Barrier(8)

    def race() -> Lease | None:
        together.wait()
        try:
            return stack.enter_context(Lease(place))
        except LeaseError:
            return None

    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        racers = [pool.submit(race) for _ in range(8)]
        winners = [racer.result() for racer in racers if racer.result()]
        assert len(winners) == 1
    assert names(place.url) == ["_ledger/lease-000001.json"]


def test_of_two_processes_one_has_the_lease_and_a_killed_one_leaves_it_to_the_next_at_once(
    place: Location,
) -> None:
    with leasing(place.url) as one, leasing(place.url) as other:
        for child in (one, other):
            request_lease(child)
        answers = {read_line(one): one, read_line(other): other}
        assert sorted(answers) == ["refused", "taken"]
        owner = answers["taken"]
        refusal = take(place)
        assert f"process {owner.pid} on {os.uname().nodename}" in refusal
        owner.kill()
        # Whether its parent took note of its end or not.
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        assert take(place) == "taken"
        owner.wait()
        assert take(place) == "taken"
    assert names(place.url) == ["_ledger/lease-000003.json"]


def test_a_released_lease_is_taken_at_once_and_one_object_stays(place: Location) -> None:
    assert [take(place) for _ in range(3)] == ["taken"] * 3
    assert names(place.url) == ["_ledger/lease-000003.json"]


def test_while_a_run_works_a_second_one_is_refused_and_the_error_names_its_process_and_start(
    place: Location,
) -> None:
    with Lease(place):
        refusal = take(place)
    assert re.fullmatch(
        rf"Another run works on {re.escape(place.url)}: process {os.getpid()} on \S+, "
        r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\. "
        r"Run again when it has ended, end it, or choose another destination\.",
        refusal,
    )
    assert LeaseError.exit_code == 5


def test_a_run_of_another_machine_that_renews_is_left_alone(place: Location) -> None:
    lost = list[LostLeaseError]()
    with Lease(place, timing=BRISK, owner=ELSEWHERE) as lease:
        lease.on_lost(lost.append)
        assert "process 77 on other-host, since 20" in take(place)
    assert not lost


def test_a_run_of_another_machine_that_does_not_renew_is_taken_over_when_its_time_is_up(
    place: Location,
) -> None:
    store_lease(place, ELSEWHERE, expires_s=0.6)
    started_s = time.monotonic()
    with Lease(place, timing=HASTY):
        assert time.monotonic() - started_s >= 0.6


def test_a_lease_that_cannot_be_parsed_is_watched_like_one_of_another_machine(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.lease.lease._DEFAULT_EXPIRES_S", 0.4)
    store_lease(place, ELSEWHERE)
    place.fs.pipe_file(place.path("_ledger/lease-000001.json"), b"{")
    started_s = time.monotonic()
    with Lease(place, timing=HASTY):
        assert time.monotonic() - started_s >= 0.4


def test_a_waiting_run_gets_the_lease_when_it_is_released(place: Location) -> None:
    with ThreadPoolExecutor() as pool:
        with Lease(place):
            waiting = pool.submit(lambda: Lease(place, wait_s=SOON_S, timing=BRISK).__enter__())
            time.sleep(0.3)
            assert not waiting.done()
        lease = waiting.result(SOON_S)
        lease.__exit__(None, None, None)


def test_a_run_that_was_taken_over_is_notified_once_and_keeps_the_other_lease(place: Location) -> None:
    notified, lost = threading.Event(), list[LostLeaseError]()
    with Lease(place, timing=BRISK) as lease:
        lease.on_lost(lost.append)
        lease.on_lost(lambda _: notified.set())
        store_lease(place, ELSEWHERE)
        assert notified.wait(SOON_S)
    lease.on_lost(lost.append)
    assert len(lost) == 2
    assert lost[0] is lost[1]
    assert "was taken over by another run" in str(lost[0])
    latest = LeaseFiles(place).latest()
    assert latest.number == 2
    assert latest.record
    assert latest.record.owner == ELSEWHERE


def test_a_number_used_and_removed_meanwhile_is_no_lease(place: Location) -> None:
    files = LeaseFiles(place)
    for _ in range(2):
        store_lease(place, ELSEWHERE)
    files.remove_below(2)
    latest = files.latest()
    assert latest.record
    assert not files.create(1, latest.record)
    assert names(place.url) == ["_ledger/lease-000002.json"]


class FailingFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no annotations
    """A store that may fail, at the calls of one name, or never answer a write."""

    protocol = "failing"
    store: dict[str, object] = {}  # noqa: RUF012 - the base class keeps it so
    pseudo_dirs = [""]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.broken = ""
        self.error: Exception = TimeoutError()
        self.failures = threading.Semaphore(0)
        self.renewals = threading.Semaphore(0)
        self.answer = threading.Event()
        self.answer.set()

    def pipe_file(self, *args: object, **how: object) -> None:
        self.answer.wait()
        self._fail_at("write")
        super().pipe_file(*args, **how)
        self.renewals.release()

    def ls(self, *args: object, **how: object) -> object:
        self._fail_at("list")
        return super().ls(*args, **how)

    def _fail_at(self, call: str) -> None:
        if self.broken == call:
            self.failures.release()
            raise self.error


@pytest.fixture
def failing() -> Location:
    FailingFileSystem.clear_instance_cache()
    FailingFileSystem.store.clear()
    return Location("failing://out", "/out", FailingFileSystem())


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_a_run_that_cannot_renew_stops_before_others_may_begin(failing: Location, how: str) -> None:
    notified = threading.Event()
    started_s = time.monotonic()
    with Lease(failing, timing=LeaseTiming(renew_s=0.05, expires_s=0.5)) as lease:
        lease.on_lost(lambda _: notified.set())
        if how == "fails":
            failing.fs.broken = "write"
        else:
            failing.fs.answer.clear()
        assert notified.wait(SOON_S)
        assert time.monotonic() - started_s >= 0.5
        failing.fs.answer.set()


class UnlistedError(Exception):
    """An exception class that this program does not know, as another store's client may raise."""


UNLISTED = UnlistedError("text of a row")


@pytest.mark.parametrize("call", ["write", "list"])
def test_an_exception_of_any_class_during_renewals_is_recorded_by_its_class_and_the_run_goes_on(
    failing: Location, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    lost = list[LostLeaseError]()
    with Lease(failing, timing=BRISK) as lease:
        lease.on_lost(lost.append)
        failing.fs.error = UNLISTED
        failing.fs.broken = call
        for _ in range(3):
            assert failing.fs.failures.acquire(timeout=SOON_S)
        failing.fs.broken = ""
        while failing.fs.renewals.acquire(blocking=False):
            pass
        assert failing.fs.renewals.acquire(timeout=SOON_S)
    assert not lost
    assert "was not renewed, next try in 0.1 s: unexpected UnlistedError" in caplog.text
    assert "text of a row" not in caplog.text
    latest = LeaseFiles(failing).latest().record
    assert latest
    assert latest.released


def test_exceptions_of_an_unlisted_class_until_the_lease_expires_end_the_run_like_any_others(
    failing: Location,
) -> None:
    lost, stopped = list[LostLeaseError](), threading.Event()
    with Lease(failing, timing=LeaseTiming(renew_s=0.05, expires_s=0.5)) as lease:
        lease.on_lost(lost.append)
        lease.on_lost(lambda _: stopped.set())
        failing.fs.error = UNLISTED
        failing.fs.broken = "write"
        assert stopped.wait(SOON_S)
    assert "could not be renewed" in str(lost[0])


@pytest.mark.parametrize("error", [TimeoutError(), UNLISTED])
def test_a_lease_that_could_not_be_released_does_not_lock_its_own_process_out(
    failing: Location, error: Exception
) -> None:
    with Lease(failing):
        failing.fs.error = error
        failing.fs.broken = "write"
    failing.fs.broken = ""
    assert take(failing) == "taken"


def test_a_destination_that_cannot_be_written_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Lease(locate(f"{tmp_path}/file/out")).__enter__()


def test_renewing_and_releasing_leave_no_thread(place: Location) -> None:
    before = threading.active_count()
    with Lease(place, timing=BRISK):
        time.sleep(0.5)
    assert threading.active_count() <= before
