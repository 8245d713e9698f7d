"""Publishing killed at every step leaves the old or the new file; the next run removes leftovers."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.storage.location import locate
from tests.faulty_s3_proxy import FaultyProxy, Kind
from tests.prefectserver import wait_until
from tests.publish_setup import MEGABYTE, OLD, PublishCase, get, publishing_process, put

COMPLETE, COPY = "CompleteMultipartUpload", "UploadPartCopy"


class Kill(NamedTuple):
    """The request before or after which the process is killed."""

    kind: Kind
    operation: str
    path: str = "/out/day"
    skips: int = 0
    leaves_parts: bool = True


KILLS = [
    Kill("hang reply", "PutObject", path="/_ledger/uploads"),
    Kill("hang", COPY, skips=1),
    Kill("hang reply", COPY),
    Kill("hang", "UploadPart"),
    Kill("hang reply", "UploadPart"),
    Kill("hang", "ListParts"),
    Kill("hang", COMPLETE),
    Kill("hang reply", COMPLETE, leaves_parts=False),
]


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: f"{kill.kind}-{kill.operation}")
def test_a_killed_upload_leaves_the_old_object_or_the_new_one_and_no_parts_after_the_next_run(
    bucket: str, proxy: FaultyProxy, tmp_path: Path, kill: Kill
) -> None:
    case = PublishCase.at(bucket, 11 * MEGABYTE, old=True)
    fault = proxy.inject(kill.kind, path=kill.path, operation=kill.operation, skips=kill.skips)
    with publishing_process(case, tmp_path):
        assert fault.reached.wait(60)
    proxy.heal()
    assert get(case.destination) == (OLD if kill.leaves_parts else case.output)
    assert len(case.leftovers()) == (2 if kill.leaves_parts else 1)
    remove_leftovers(case.destination)
    assert case.leftovers() == []
    case.publish()
    assert get(case.destination) == case.output


def test_a_killed_copy_to_a_disk_is_not_visible_and_is_removed_by_the_next_run(
    bucket: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    remote = PublishCase.at(bucket, 20 * MEGABYTE)
    case = PublishCase(str(tmp_path), remote.source, locate(f"{tmp_path}/out"), remote.data, remote.tail)
    put(case.destination, OLD)
    fault = proxy.inject("hang", operation="GetObject", skips=1)
    with publishing_process(case, tmp_path):
        assert fault.reached.wait(60)
    proxy.heal()
    assert get(case.destination) == OLD
    (built,) = case.leftovers()
    assert built.endswith(".tmp")
    remove_leftovers(case.destination)
    assert case.leftovers() == []


def test_a_copy_on_a_disk_killed_at_any_moment_is_whole_or_not_visible(tmp_path: Path) -> None:
    case = PublishCase.at(str(tmp_path), 300 * MEGABYTE)
    aside = Path(case.destination.path("_aside"))
    with publishing_process(case, tmp_path) as child:
        wait_until(lambda: child.poll() is not None or any(aside.glob("*.tmp")))
    assert get(case.destination) in {None, case.output}
    remove_leftovers(case.destination)
    assert case.leftovers() == []
    assert not aside.exists()
