"""Publishing killed at every step: the old file or the new one; the next run removes what is left."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.storage.location import locate
from tests.faulty_s3_proxy import FaultyProxy, Kind
from tests.prefectserver import wait_until
from tests.publish_setup import MEGABYTE, OLD, Scene, get, publishing_apart, put

COMPLETE, COPY = "CompleteMultipartUpload", "UploadPartCopy"


class Kill(NamedTuple):
    """Before which request reached the store, or after which was done."""

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
    scene = Scene.at(bucket, 11 * MEGABYTE, old=True)
    fault = proxy.inject(kill.kind, path=kill.path, operation=kill.operation, skips=kill.skips)
    with publishing_apart(scene, tmp_path):
        assert fault.reached.wait(60)
    proxy.heal()
    assert get(scene.destination) == (OLD if kill.leaves_parts else scene.output)
    assert len(scene.leftovers()) == (2 if kill.leaves_parts else 1)
    remove_leftovers(scene.destination)
    assert scene.leftovers() == []
    scene.publish()
    assert get(scene.destination) == scene.output


def test_a_killed_copy_to_a_disk_is_not_visible_and_removed_by_the_next_run(
    bucket: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    remote = Scene.at(bucket, 20 * MEGABYTE)
    scene = Scene(str(tmp_path), remote.source, locate(f"{tmp_path}/out"), remote.data, remote.tail)
    put(scene.destination, OLD)
    fault = proxy.inject("hang", operation="GetObject", skips=1)
    with publishing_apart(scene, tmp_path):
        assert fault.reached.wait(60)
    proxy.heal()
    assert get(scene.destination) == OLD
    (built,) = scene.leftovers()
    assert built.endswith(".tmp")
    remove_leftovers(scene.destination)
    assert scene.leftovers() == []


def test_a_copy_on_a_disk_killed_at_any_moment_is_whole_or_not_visible(tmp_path: Path) -> None:
    scene = Scene.at(str(tmp_path), 300 * MEGABYTE)
    aside = Path(scene.destination.path("_aside"))
    with publishing_apart(scene, tmp_path) as child:
        wait_until(lambda: child.poll() is not None or any(aside.glob("*.tmp")))
    assert get(scene.destination) in {None, scene.output}
    remove_leftovers(scene.destination)
    assert scene.leftovers() == []
    assert not aside.exists()
