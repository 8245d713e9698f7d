"""One run at a time on a destination: two would pay for the same rows.

A run takes the lease before it looks at what is done, renews it while it works, and releases it at the end.
Who takes it over from a run that is gone: on the same machine at once, when the system says that the process
has ended; from elsewhere when its claim has not changed for as long as the claim itself says, by the clock of
the one who watches. A run that lost its lease, or cannot renew it, is told to stop before others may begin.
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

from tasks.core.errors import LeaseError, LostLeaseError, StorageError, in_words
from tasks.core.lease.lease_file import LeaseFiles, LeaseRecord, Numbered
from tasks.core.process_identity import ProcessIdentity
from tasks.core.storage import atomic_write
from tasks.core.storage.location import Location

logger = logging.getLogger(__name__)

OnLost = Callable[[LostLeaseError], object]
_DEFAULT_EXPIRES_S = 45.0
_CONNECTIONS = 10
"""For the leases of all runs of this process, each of which makes one request at a time; uploads and ledger
use others. With fewer, one run whose store hangs could delay the renewals of another."""
_working: set[str] = set()
"""Runs of this process; a claim of this process that is not among them is left from one that failed."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How often things are done about a lease.

    Attributes:
        renew_s: Seconds between renewals.
        expires_s: Seconds without one, after which the owner stops and others may take over.
        look_s: Seconds between looks at a claim of another machine.
    """

    renew_s: float = 10.0
    expires_s: float = _DEFAULT_EXPIRES_S
    look_s: float = 2.0


class Lease:
    """The right to work on a destination; a context manager.

    Args:
        place: The destination.
        wait_s: How long to wait for a run that lives; a run elsewhere is first watched in any case.
        pace: How often it is renewed.
        owner: Who takes it; by default this process.
    """

    def __init__(
        self,
        place: Location,
        *,
        wait_s: float = 0.0,
        pace: LeaseTiming = LeaseTiming(),
        owner: ProcessIdentity | None = None,
    ) -> None:
        self._place = place = place.with_own_connections(_CONNECTIONS)
        self._wait_s = wait_s
        self._pace = pace
        self._claims = LeaseFiles(place)
        self._number = 0
        self._claim = LeaseRecord(
            owner=owner or ProcessIdentity.this_process(),
            run=uuid.uuid4().hex,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_s=pace.expires_s,
        )
        self._lock = threading.Lock()
        self._lost: LostLeaseError | None = None
        self._on_lost: list[OnLost] = []
        self._ended = threading.Event()
        self._alarm = threading.Timer(0.0, self._expire)
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            LeaseError: Another run works on the destination; says who, and since when.
            InputError: The destination is not there or may not be written.
            StorageError: The store does not answer.
        """
        _working.add(self._claim.run)
        try:
            self._take()
        except StorageError:
            _working.discard(self._claim.run)
            # Knows better what to say of a destination that is not there.
            atomic_write.check_writable(self._place)
            raise
        except BaseException:
            _working.discard(self._claim.run)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it, unless it is lost."""
        self._ended.set()
        self._thread.join()
        self._alarm.cancel()
        try:
            if not self._lost:
                self._claims.overwrite(self._number, self._claim.model_copy(update={"released": True}))
                self._claims.remove_below(self._number)
        except Exception as failure:  # noqa: BLE001 - the run's work is done; a claim left behind expires
            logger.warning("The lease of %s could not be released: %s", self._place.url, in_words(failure))
        finally:
            _working.discard(self._claim.run)

    def when_lost(self, call: OnLost) -> None:
        """Have something called once if the lease is lost, on another thread; now if it already is."""
        with self._lock:
            self._on_lost.append(call)
            lost = self._lost
        if lost:
            call(lost)

    def _take(self) -> None:
        started_s = time.monotonic()
        seen, seen_s, versions = Numbered(0, None, b""), started_s, 0
        while True:
            latest = self._claims.latest()
            if not versions or latest != seen:
                seen, seen_s, versions = latest, time.monotonic(), versions + 1
            if self._is_free(seen, time.monotonic() - seen_s):
                if self._take_next(seen):
                    return
                # Somebody was faster; the next look tells who.
                continue
            # Whose claim changes lives, wherever it is.
            lives = versions > 1 or (seen.claim is not None and seen.claim.owner.is_here)
            if lives and time.monotonic() - started_s >= self._wait_s:
                raise _refusal(seen, self._place)
            logger.info("%s is held by %s: looking whether it goes on", self._place.url, _who(seen))
            time.sleep(self._pace.look_s)  # a process on another machine sends no event

    def _is_free(self, latest: Numbered, unchanged_s: float) -> bool:
        claim = latest.claim
        if not latest.number or (claim and (claim.released or claim.owner.has_ended)):
            return True
        if claim and claim.owner == ProcessIdentity.this_process():
            return claim.run not in _working
        if claim and claim.owner.is_here:
            return False
        return unchanged_s >= (claim.expires_s if claim else _DEFAULT_EXPIRES_S)

    def _take_next(self, latest: Numbered) -> bool:
        renewed_s = time.monotonic()
        self._number = latest.number + 1
        if not self._claims.create(self._number, self._claim):
            return False
        if latest.claim and not latest.claim.released:
            logger.warning("%s is taken over from %s, which is gone", self._place.url, _who(latest))
        self._set_alarm(renewed_s)
        return True

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._pace.renew_s):
            renewed_s = time.monotonic()
            self._claim = self._claim.model_copy(update={"renewals": self._claim.renewals + 1})
            try:
                self._claims.overwrite(self._number, self._claim)
                # After, not before: who came between is seen now, not at the next renewal.
                is_latest = self._claims.highest() == self._number
                if is_latest:
                    self._set_alarm(renewed_s)
            except Exception as error:  # noqa: BLE001 - only a lease that is taken over or expires ends a run
                logger.warning(
                    "The lease of %s was not renewed, next try in %g s: %s",
                    *(self._place.url, self._pace.renew_s, in_words(error)),
                )
                continue
            if not is_latest:
                self._lose("was taken over by another run")
                return

    def _set_alarm(self, renewed_s: float) -> None:
        """Stop in time even if the store then keeps the renewing thread waiting."""
        left_s = renewed_s + self._pace.expires_s - time.monotonic()
        alarm = threading.Timer(max(left_s, 0.0), self._expire)
        alarm.daemon = True
        # The old one is cancelled last: if no thread can be started, it still stops the run.
        alarm.start()
        self._alarm.cancel()
        self._alarm = alarm

    def _expire(self) -> None:
        self._lose(f"could not be renewed for {self._pace.expires_s:.0f} s")

    def _lose(self, how: str) -> None:
        message = (
            f"The lease of {self._place.url} {how}, so this run stops: no further request is sent, what was "
            "answered is kept. Run the same command again when no other run works there."
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


def _who(latest: Numbered) -> str:
    return str(latest.claim.owner) if latest.claim else "an unknown process"


def _refusal(latest: Numbered, place: Location) -> LeaseError:
    since = f", since {latest.claim.since}" if latest.claim else ""
    message = (
        f"Another run works on {place.url}: {_who(latest)}{since}. "
        "Run again when it has ended, end it, or choose another destination."
    )
    return LeaseError(message)
