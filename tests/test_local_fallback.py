"""Replies a dead store did not take: kept on this machine, and handed in by the next run here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import StorageError
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.local_fallback import LocalFallback, folder_of
from tasks.core.storage.location import Location
from tests.test_ledger import KEY, NEVER, append, place, segments
from tests.test_segment_format import key

__all__ = ["place"]


@pytest.fixture
def scratch(tmp_path: Path, place: Location) -> Path:  # noqa: ARG001 - sets TMPDIR to it
    return tmp_path


def lose(place: Location, *numbers: int) -> None:
    place.fs.failures_left = 1000
    with pytest.raises(StorageError, match="they are kept in"), Ledger(place, policy=NEVER) as ledger:
        append(ledger.open(KEY), *numbers)
    place.fs.failures_left = 0


def test_the_next_run_hands_them_in_and_leaves_nothing_behind(
    place: Location, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lose(place, 1, 2, 3)
    assert [path for path in scratch.rglob("*") if path.is_file()]
    with caplog.at_level("INFO"), Ledger(place, policy=NEVER) as ledger:
        found = ledger.open(KEY).find([key(n) for n in range(1, 5)], (), ())
        assert segments(place) == [3]
    assert [outcome.text if outcome else None for outcome in found] == ["1", "2", "3", None]
    assert "3 replies an earlier run could not store are in the ledger now" in caplog.text
    assert not list(scratch.iterdir())


def test_a_store_that_takes_them_after_all_leaves_nothing_here(place: Location, scratch: Path) -> None:
    place.fs.failures_left = 1
    with Ledger(place, policy=CommitPolicy(commit_after_s=1000.0, first_backoff_s=0.001)) as ledger:
        append(ledger.open(KEY), 1, 2)
    assert segments(place) == [2]
    assert not list(scratch.iterdir())


def test_replies_kept_of_a_finished_partition_are_removed(place: Location, scratch: Path) -> None:
    lose(place, 1)
    with Ledger(place, policy=NEVER) as ledger:
        ledger.sweep([KEY])
    assert not list(scratch.iterdir())


def test_only_its_owner_may_look_into_it(place: Location) -> None:
    lose(place, 1)
    assert folder_of(place).stat().st_mode & 0o077 == 0


def leave_open(folder: Path) -> None:
    folder.chmod(0o777)


def leave_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("how", [leave_open, leave_a_link])
def test_what_others_may_have_put_there_is_not_believed(place: Location, how: Callable[[Path], None]) -> None:
    lose(place, 1)
    how(folder_of(place))
    assert LocalFallback(folder_of(place), KEY).read() == []


def test_a_machine_that_cannot_keep_them_either_says_that_they_are_lost(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/dev/null")
    place.fs.failures_left = 1000
    with pytest.raises(StorageError, match="will be requested again"), Ledger(place, policy=NEVER) as ledger:
        append(ledger.open(KEY), 1)
