"""Calls a function periodically in a background thread; its errors and delays do not affect the caller."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_JOIN_TIMEOUT_S = 2.0
"""Longer waits for a slow last call; shorter ends the run sooner when the call hangs. Not measured."""


@contextmanager
def call_every(period_s: float, call: Callable[[], object]) -> Iterator[None]:
    """Call a function periodically in a thread of its own, and once more at the end.

    Args:
        period_s: Seconds from the end of a call to the next.
        call: The function; its exceptions are logged. The last call may take two seconds before it is
            ignored.
    """
    ended = threading.Event()

    def run() -> None:
        is_logged = False
        while True:
            last = ended.wait(period_s)
            try:
                call()
            except Exception as error:  # noqa: BLE001 - a background thread that must not die
                # Only the class, since the message may quote a reply. One warning is enough.
                level = logging.DEBUG if is_logged else logging.WARNING
                logger.log(level, "A periodic update failed: %s", type(error).__name__)
                is_logged = True
            if last:
                return

    thread = threading.Thread(target=run, name="ticker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_TIMEOUT_S)
