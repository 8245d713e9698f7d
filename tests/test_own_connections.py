"""Small writes of lease and ledger while slow uploads use all other connections to a real S3 server."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tasks.core.lease.lease import Lease, LeaseTiming
from tasks.core.lease.lease_file import LeaseFiles
from tasks.core.ledger.ledger import Ledger
from tasks.core.storage.location import Location, locate
from tests.faulty_s3_proxy import FaultyProxy
from tests.prefectserver import wait_until
from tests.test_ledger import KEY, append, segments

UPLOADS = 40
AT_ONCE_S = 5.0
"""Half of the read timeout, after which a held upload would release its connection."""


@pytest.fixture
def busy(bucket: str, proxy: FaultyProxy) -> Iterator[tuple[Location, list[Future[object]]]]:
    """A destination with more hanging uploads than its client has connections."""
    place = locate(f"{bucket}/out")
    # The first request creates the client.
    place.fs.pipe_file(place.path("first"), b"x")
    fault = proxy.inject("hold", "PUT", r"/out/upload-")
    with ThreadPoolExecutor(UPLOADS) as pool:
        try:
            uploads = [
                pool.submit(place.fs.pipe_file, place.path(f"upload-{number}"), b"x")
                for number in range(UPLOADS)
            ]
            assert fault.reached.wait(AT_ONCE_S)
            wait_until(lambda: fault.met >= place.fs.s3.meta.config.max_pool_connections)
            yield place, uploads
        finally:
            proxy.heal()


def test_a_reply_is_stored_at_once_while_uploads_use_all_other_connections(
    busy: tuple[Location, list[Future[object]]],
) -> None:
    place, uploads = busy
    stored = threading.Event()

    def store() -> None:
        with Ledger(place) as ledger:
            append(ledger.open(KEY), 1)
        stored.set()

    threading.Thread(target=store, daemon=True).start()
    assert stored.wait(AT_ONCE_S)
    assert not any(upload.done() for upload in uploads)
    assert segments(place.with_own_connections(3)) == [1]


def test_a_lease_is_acquired_renewed_and_released_at_once_while_uploads_use_all_other_connections(
    busy: tuple[Location, list[Future[object]]],
) -> None:
    place, uploads = busy
    files, released = LeaseFiles(place.with_own_connections(3)), threading.Event()

    def renewals() -> int:
        record = files.latest().record
        return record.renewals if record else 0

    def hold() -> None:
        with Lease(place, timing=LeaseTiming(renew_s=0.1)):
            wait_until(lambda: renewals() > 1, AT_ONCE_S)
        released.set()

    threading.Thread(target=hold, daemon=True).start()
    assert released.wait(AT_ONCE_S)
    assert not any(upload.done() for upload in uploads)


def test_a_separate_connection_pool_keeps_the_options_of_the_location(bucket: str) -> None:
    place = locate(f"{bucket}/out")
    own = place.with_own_connections(3)
    assert own.fs is not place.fs
    assert own.fs is place.with_own_connections(3).fs
    assert (own.url, own.root, own.fs.retries) == (place.url, place.root, place.fs.retries)
    others = {key: value for key, value in own.fs.config_kwargs.items() if key != "max_pool_connections"}
    assert others == place.fs.config_kwargs
