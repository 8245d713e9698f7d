"""The lease of a destination: one run at a time works on it, since two would pay for the same rows twice.

A run acquires the lease before it lists the destination, renews it in a background thread, and releases it at
the end. Another run takes over an abandoned lease: on the same machine as soon as the owner's process has
ended, on another machine when the lease was not renewed for its own ``expires_s``, measured by the clock of
the run that waits. A run that loses its lease, or cannot renew it, stops before the lease expires for others.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from tasks.core.errors import LeaseError, LostLeaseError, StorageError, describe_error
from tasks.core.lease.lease_file import LeaseFiles, LeaseRecord, StoredLease
from tasks.core.process_identity import ProcessIdentity
from tasks.core.storage import atomic_write
from tasks.core.storage.location import Location

logger = logging.getLogger(__name__)

OnLost = Callable[[LostLeaseError], object]
_DEFAULT_EXPIRES_S = 45.0
"""Seconds without a renewal after which a lease expires. Shorter: a store that hangs for half a minute stops
a run. Longer: the next run on another machine waits longer after a crash. Chosen by reasoning: four renewals
in a row have to fail, and a scheduler that starts a run every minute still gets the lease."""
_CONNECTIONS = 10
"""Connections to the store for the leases of all runs of this process; uploads and the ledger have their own.
A run makes one request at a time, so up to 10 runs never wait for each other; with fewer, a request that
hangs could delay another run's renewal. Measured when uploads shared the pool: a write waited 23.5 s behind
40."""
_active_runs: set[str] = set()
"""Ids of this process's runs. A lease of this process with another id was left by a run that failed."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Intervals of a lease. The defaults are chosen by reasoning, not measured.

    Attributes:
        renew_s: Seconds between renewals. Each costs a write and a listing; shorter ones tolerate more
            failures.
        expires_s: Seconds without a renewal after which the owner stops and other runs may take over.
        poll_s: Seconds between reads of another run's lease while waiting for it; each costs two requests.
    """

    renew_s: float = 10.0
    expires_s: float = _DEFAULT_EXPIRES_S
    poll_s: float = 2.0


class Lease:
    """The exclusive right to work on a destination; a context manager.

    Args:
        destination: The destination.
        wait_s: How long to wait for a run that is alive. To find out whether a run on another machine is
            alive, its lease is watched for up to ``expires_s`` in any case.
        timing: The intervals.
        owner: The process that acquires it; by default the current one.
    """

    def __init__(
        self,
        destination: Location,
        *,
        wait_s: float = 0.0,
        timing: LeaseTiming = LeaseTiming(),
        owner: ProcessIdentity | None = None,
    ) -> None:
        self._destination = destination.with_own_connections(_CONNECTIONS)
        self._wait_s = wait_s
        self._timing = timing
        self._files = LeaseFiles(self._destination)
        self._number = 0
        self._record = LeaseRecord(
            owner=owner or ProcessIdentity.this_process(),
            run=uuid.uuid4().hex,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_s=timing.expires_s,
        )
        self._lock = threading.Lock()
        self._lost: LostLeaseError | None = None
        self._on_lost: list[OnLost] = []
        self._ended = threading.Event()
        self._expiry = threading.Timer(0.0, self._expire)
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Acquire the lease.

        Raises:
            LeaseError: Another run holds it; the message names its process and start.
            InputError: The destination does not exist or may not be written.
            StorageError: The store does not respond.
        """
        _active_runs.add(self._record.run)
        try:
            self._acquire()
        except StorageError:
            _active_runs.discard(self._record.run)
            # Raises a more specific error if the destination does not exist or is read-only.
            atomic_write.check_writable(self._destination)
            raise
        except BaseException:
            _active_runs.discard(self._record.run)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease, unless it was lost."""
        self._ended.set()
        self._thread.join()
        self._expiry.cancel()
        try:
            if not self._lost:
                self._files.overwrite(self._number, self._record.model_copy(update={"released": True}))
                self._files.remove_below(self._number)
        except Exception as failure:  # noqa: BLE001 - the run has finished; a lease not released expires
            logger.warning(
                "The lease of %s could not be released: %s", self._destination.url, describe_error(failure)
            )
        finally:
            _active_runs.discard(self._record.run)

    def on_lost(self, call: OnLost) -> None:
        """Register a callback for the loss of the lease.

        Args:
            call: Called once, from another thread; immediately if the lease is already lost.
        """
        with self._lock:
            self._on_lost.append(call)
            lost = self._lost
        if lost:
            call(lost)

    def _acquire(self) -> None:
        started_s = time.monotonic()
        current, unchanged_since_s, versions = StoredLease(0, None, b""), started_s, 0
        while True:
            latest = self._files.latest()
            if not versions or latest != current:
                current, unchanged_since_s, versions = latest, time.monotonic(), versions + 1
            if self._is_free(current, time.monotonic() - unchanged_since_s):
                if self._create_after(current):
                    return
                # Another run created the number first; read its lease.
                continue
            # A renewed lease proves that its owner is alive, also on another machine.
            is_alive = versions > 1 or (current.record is not None and current.record.owner.is_here)
            if is_alive and time.monotonic() - started_s >= self._wait_s:
                raise _lease_error(current, self._destination)
            logger.info(
                "%s is leased by %s: waiting to see whether the lease is renewed",
                *(self._destination.url, _owner(current)),
            )
            time.sleep(self._timing.poll_s)  # a process on another machine sends no event

    def _is_free(self, latest: StoredLease, unchanged_s: float) -> bool:
        record = latest.record
        if not latest.number or (record and (record.released or record.owner.has_ended)):
            return True
        if record and record.owner == ProcessIdentity.this_process():
            return record.run not in _active_runs
        if record and record.owner.is_here:
            return False
        return unchanged_s >= (record.expires_s if record else _DEFAULT_EXPIRES_S)

    def _create_after(self, latest: StoredLease) -> bool:
        renewed_s = time.monotonic()
        self._number = latest.number + 1
        if not self._files.create(self._number, self._record):
            return False
        if latest.record and not latest.record.released:
            logger.warning(
                "The lease of %s is taken over from %s, which ended without releasing it",
                *(self._destination.url, _owner(latest)),
            )
        self._reset_expiry(renewed_s)
        return True

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._timing.renew_s):
            renewed_s = time.monotonic()
            self._record = self._record.model_copy(update={"renewals": self._record.renewals + 1})
            try:
                self._files.overwrite(self._number, self._record)
                # Checked after the write, so that a takeover is detected now and not at the next renewal.
                is_latest = self._files.highest() == self._number
                if is_latest:
                    self._reset_expiry(renewed_s)
            except Exception as error:  # noqa: BLE001 - only a lease that is taken over or expires ends a run
                logger.warning(
                    "The lease of %s was not renewed, next try in %g s: %s",
                    *(self._destination.url, self._timing.renew_s, describe_error(error)),
                )
                continue
            if not is_latest:
                self._lose("was taken over by another run")
                return

    def _reset_expiry(self, renewed_s: float) -> None:
        """Restart the timer that stops the run in time even if the store blocks the renewing thread."""
        left_s = renewed_s + self._timing.expires_s - time.monotonic()
        expiry = threading.Timer(max(left_s, 0.0), self._expire)
        expiry.daemon = True
        # Cancel the previous timer last: if the new one cannot be started, it still stops the run.
        expiry.start()
        self._expiry.cancel()
        self._expiry = expiry

    def _expire(self) -> None:
        self._lose(f"could not be renewed for {self._timing.expires_s:.0f} s")

    def _lose(self, cause: str) -> None:
        message = (
            f"The lease of {self._destination.url} {cause}, so this run stops: it sends no further "
            "request and keeps all replies it received. Run again when no other run works there."
        )
        with self._lock:
            if self._lost or self._ended.is_set():
                return
            self._lost = LostLeaseError(message)
            calls = list(self._on_lost)
        self._ended.set()
        logger.error("%s", self._lost)
        for call in calls:
            call(self._lost)


def _owner(latest: StoredLease) -> str:
    return str(latest.record.owner) if latest.record else "an unknown process"


def _lease_error(latest: StoredLease, destination: Location) -> LeaseError:
    since = f", since {latest.record.since}" if latest.record else ""
    message = (
        f"Another run works on {destination.url}: {_owner(latest)}{since}. "
        "Run again when it has ended, end it, or choose another destination."
    )
    return LeaseError(message)
