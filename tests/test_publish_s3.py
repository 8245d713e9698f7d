"""Publishing to an S3 store that fails or lacks operations: the old or the new object, and no parts left."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tasks.core.errors import InputError, StorageError
from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.storage.publish import Transfer
from tests.faulty_s3_proxy import FaultyProxy, Kind
from tests.publish_setup import KEY, MEGABYTE, OLD, PublishCase, get, put

SIZE = 11 * MEGABYTE
COMPLETE, COPY = "CompleteMultipartUpload", "UploadPartCopy"
OUTPUT = "/out/day"


class Met(NamedTuple):
    """A fault during publishing, and whether the source's bytes are uploaded because of it."""

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
def test_the_output_is_published_to_a_store_that_fails_once_or_lacks_an_operation(
    bucket: str, proxy: FaultyProxy, met: Met
) -> None:
    case = PublishCase.at(bucket, SIZE, old=True)
    fault = proxy.inject(met.kind, path=OUTPUT, times=met.times, operation=met.operation, skips=met.skips)
    moved = case.publish()
    proxy.heal()
    assert fault.met
    assert (moved.bytes_copied == 0) == met.travels
    assert get(case.destination) == case.output
    assert case.leftovers() == []


@pytest.mark.parametrize("times", [1, None])
def test_an_output_is_recognized_when_the_reply_to_its_completion_is_lost(
    bucket: str, proxy: FaultyProxy, times: int | None
) -> None:
    case = PublishCase.at(bucket, SIZE)
    proxy.inject("lose reply", path=OUTPUT, times=times, operation=COMPLETE)
    assert case.publish().bytes_copied
    proxy.heal()
    assert get(case.destination) == case.output
    assert case.leftovers() == []


@pytest.mark.parametrize("met", FATAL, ids=named)
def test_after_a_permanent_failure_the_store_has_the_old_object_and_no_parts(
    bucket: str, proxy: FaultyProxy, met: Met
) -> None:
    case = PublishCase.at(bucket, SIZE, old=True)
    proxy.inject(met.kind, path=OUTPUT, operation=met.operation, skips=met.skips)
    with pytest.raises(InputError if met.kind == "403" else StorageError):
        case.publish()
    proxy.heal()
    assert get(case.destination) == OLD
    if met.operation == "ListParts":
        # If parts cannot be listed, the abort is not confirmed, so the record stays.
        remove_leftovers(case.destination)
    assert case.leftovers() == []


@pytest.mark.parametrize("skips", [0, 1, 3])
def test_after_an_outage_while_publishing_cleanup_removes_all_parts(
    bucket: str, proxy: FaultyProxy, skips: int
) -> None:
    case = PublishCase.at(bucket, SIZE)
    fault = proxy.inject("drop", "POST PUT DELETE", path="/out/", skips=skips)
    with pytest.raises(StorageError):
        case.publish()
    proxy.heal()
    assert fault.met
    assert get(case.destination) is None
    remove_leftovers(case.destination)
    # No part was sent of an upload that could not be recorded.
    assert case.leftovers() == ([] if skips != 1 else ["out/" + KEY])


@pytest.mark.parametrize("kind", ["lose reply", "409", "501"])
def test_a_small_source_is_published_although_a_reply_is_lost_or_a_request_is_rejected_once(
    bucket: str, proxy: FaultyProxy, kind: Kind
) -> None:
    case = PublishCase.at(bucket, 100, old=True)
    times = None if kind == "lose reply" else 1
    fault = proxy.inject(kind, path=OUTPUT, times=times, operation="PutObject")
    assert case.publish() == Transfer(bytes_read=100 if times is None else 200, bytes_uploaded=1100)
    proxy.heal()
    assert fault.met
    assert get(case.destination) == case.output


def test_a_source_replaced_between_parts_is_not_published(bucket: str, proxy: FaultyProxy) -> None:
    case = PublishCase.at(bucket, SIZE, old=True)
    listed = case.listed()
    fault = proxy.inject("hold", operation=COPY, skips=1)
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(case.publish, listed)
        assert fault.reached.wait(60)
        put(case.source, case.data[::-1])
        proxy.heal()
        with pytest.raises(StorageError, match="replaced"):
            publishing.result()
    assert get(case.destination) == OLD
    assert case.leftovers() == []


@pytest.mark.parametrize("operation", ["ListParts", COMPLETE])
@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
def test_an_output_published_by_another_writer_during_the_upload_is_kept(
    bucket: str,
    proxy: FaultyProxy,
    operation: str,
    old: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    case = PublishCase.at(bucket, SIZE, old=old)
    fault = proxy.inject("hold", path=OUTPUT, operation=operation)
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(case.publish)
        assert fault.reached.wait(60)
        put(case.destination, b"of another run")
        proxy.heal()
        with pytest.raises(StorageError, match="replaced by another writer"):
            publishing.result()
    assert get(case.destination) == b"of another run"
    assert case.leftovers() == []


def test_the_source_s_bytes_are_copied_by_the_store(bucket: str, proxy: FaultyProxy) -> None:
    case = PublishCase.at(bucket, 50 * MEGABYTE, 3 * MEGABYTE)
    before = proxy.bytes_moved
    moved = case.publish()
    # The tail, 21 samples of source and output, 21 of the tail, and one across the end of the source.
    assert proxy.bytes_moved - before < 3 * MEGABYTE + 66 * 2**14
    assert moved.bytes_copied > 49 * MEGABYTE
    assert moved.bytes_uploaded + moved.bytes_copied == len(case.output)
    assert get(case.destination) == case.output
