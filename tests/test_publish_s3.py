"""Publishing to an S3 store that fails or lacks a step: the old object or the new one, and no parts left."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tasks.core.errors import InputError, StorageError
from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.storage.publish import Transfer
from tests.faulty_s3_proxy import FaultyProxy, Kind
from tests.publish_setup import KEY, MEGABYTE, OLD, Scene, get, put

SIZE = 11 * MEGABYTE
COMPLETE, COPY = "CompleteMultipartUpload", "UploadPartCopy"
OUTPUT = "/out/day"


class Met(NamedTuple):
    """A fault that publishing meets, and whether the source's bytes travel because of it."""

    kind: Kind
    operation: str
    times: int | None = None
    travels: bool = False
    skips: int = 0


SURVIVED = [
    Met("501", COPY, travels=True),
    Met("403", COPY, travels=True),
    Met("501", COPY, travels=True, skips=1),
    Met("empty", COPY, travels=True),
    Met("pretend", COPY, travels=True),
    Met("pretend", COPY, travels=True, times=1, skips=1),
    Met("501", "ListParts", travels=True, times=1),
    Met("500", COPY, times=2),
    Met("error in 200", COPY, times=1),
    Met("drop", COPY, times=1),
    Met("lose reply", COPY, times=1),
    Met("501", "CreateMultipartUpload", times=1),
    Met("garble", "GetObject", times=1, travels=True),
    Met("409", COMPLETE, times=1),
    Met("501", COMPLETE, times=1),
    Met("501", COMPLETE, times=3, travels=True),
    Met("error in 200", COMPLETE, times=1),
    Met("lose reply", COMPLETE, times=1),
    Met("lose reply", COMPLETE),
]
FATAL = [
    Met("500", COPY, skips=1),
    Met("drop", "UploadPart"),
    Met("500", "ListParts"),
    Met("409", COMPLETE),
    Met("500", COMPLETE),
    Met("error in 200", COMPLETE),
    Met("drop", COMPLETE),
    Met("403", COMPLETE),
]


def named(met: Met) -> str:
    return f"{met.kind}-{met.operation}-{met.times}-{met.skips}"


@pytest.mark.parametrize("met", SURVIVED, ids=named)
def test_a_store_that_fails_once_or_lacks_a_step_gets_the_output(
    bucket: str, proxy: FaultyProxy, met: Met
) -> None:
    scene = Scene.at(bucket, SIZE, old=True)
    fault = proxy.inject(met.kind, path=OUTPUT, times=met.times, operation=met.operation, skips=met.skips)
    moved = scene.publish()
    proxy.heal()
    assert fault.met
    assert (moved.bytes_copied == 0) == met.travels
    assert get(scene.destination) == scene.output
    assert scene.leftovers() == []


@pytest.mark.parametrize("times", [1, None])
def test_a_new_output_whose_completion_was_not_answered_is_found(
    bucket: str, proxy: FaultyProxy, times: int | None
) -> None:
    scene = Scene.at(bucket, SIZE)
    proxy.inject("lose reply", path=OUTPUT, times=times, operation=COMPLETE)
    assert scene.publish().bytes_copied
    proxy.heal()
    assert get(scene.destination) == scene.output
    assert scene.leftovers() == []


@pytest.mark.parametrize("met", FATAL, ids=named)
def test_a_store_that_fails_for_good_keeps_the_old_object_and_no_parts(
    bucket: str, proxy: FaultyProxy, met: Met
) -> None:
    scene = Scene.at(bucket, SIZE, old=True)
    proxy.inject(met.kind, path=OUTPUT, operation=met.operation, skips=met.skips)
    with pytest.raises(InputError if met.kind == "403" else StorageError):
        scene.publish()
    proxy.heal()
    assert get(scene.destination) == OLD
    if met.operation == "ListParts":
        # Without a list of parts an abort is not proven, so the record stays.
        remove_leftovers(scene.destination)
    assert scene.leftovers() == []


@pytest.mark.parametrize("skips", [0, 1, 3])
def test_after_a_store_died_while_publishing_housekeeping_leaves_no_parts(
    bucket: str, proxy: FaultyProxy, skips: int
) -> None:
    scene = Scene.at(bucket, SIZE)
    fault = proxy.inject("drop", "POST PUT DELETE", path="/out/", skips=skips)
    with pytest.raises(StorageError):
        scene.publish()
    proxy.heal()
    assert fault.met
    assert get(scene.destination) is None
    remove_leftovers(scene.destination)
    # Of an upload that could not be recorded, no part was sent.
    assert scene.leftovers() == ([] if skips != 1 else ["out/" + KEY])


@pytest.mark.parametrize("kind", ["lose reply", "409", "501"])
def test_a_small_source_is_put_although_the_reply_is_lost_or_the_store_refuses_once(
    bucket: str, proxy: FaultyProxy, kind: Kind
) -> None:
    scene = Scene.at(bucket, 100, old=True)
    times = None if kind == "lose reply" else 1
    fault = proxy.inject(kind, path=OUTPUT, times=times, operation="PutObject")
    assert scene.publish() == Transfer(bytes_read=100 if times is None else 200, bytes_uploaded=1100)
    proxy.heal()
    assert fault.met
    assert get(scene.destination) == scene.output


def test_a_source_replaced_between_parts_is_not_published(bucket: str, proxy: FaultyProxy) -> None:
    scene = Scene.at(bucket, SIZE, old=True)
    listed = scene.listed()
    fault = proxy.inject("hold", operation=COPY, skips=1)
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(scene.publish, listed)
        assert fault.reached.wait(60)
        put(scene.source, scene.data[::-1])
        proxy.heal()
        with pytest.raises(StorageError, match="replaced"):
            publishing.result()
    assert get(scene.destination) == OLD
    assert scene.leftovers() == []


@pytest.mark.parametrize("operation", ["ListParts", COMPLETE])
@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
def test_what_others_publish_while_an_upload_runs_is_kept(
    bucket: str,
    proxy: FaultyProxy,
    operation: str,
    old: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    scene = Scene.at(bucket, SIZE, old=old)
    fault = proxy.inject("hold", path=OUTPUT, operation=operation)
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(scene.publish)
        assert fault.reached.wait(60)
        put(scene.destination, b"of another run")
        proxy.heal()
        with pytest.raises(StorageError, match="replaced by another writer"):
            publishing.result()
    assert get(scene.destination) == b"of another run"
    assert scene.leftovers() == []


def test_the_sources_bytes_do_not_travel(bucket: str, proxy: FaultyProxy) -> None:
    scene = Scene.at(bucket, 50 * MEGABYTE, 3 * MEGABYTE)
    before = proxy.bytes_moved
    moved = scene.publish()
    # The tail, and 21 samples of source and output, 21 of the tail, the joint.
    assert proxy.bytes_moved - before < 3 * MEGABYTE + 66 * 2**14
    assert moved.bytes_copied > 49 * MEGABYTE
    assert moved.bytes_uploaded + moved.bytes_copied == len(scene.output)
    assert get(scene.destination) == scene.output
