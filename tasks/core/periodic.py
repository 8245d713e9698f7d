"""Something done every few seconds beside the work, that can neither fail the work nor hold it up."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0


@contextmanager
def call_every(period_s: float, call: Callable[[], object]) -> Iterator[None]:
    """Call something every so often, on a thread of its own, and once more at the end.

    Args:
        period_s: Seconds between the end of a call and the next.
        call: What it raises is logged. At the end it is waited for two seconds, then left alone.
    """
    ended = threading.Event()

    def run() -> None:
        told = False
        while True:
            last = ended.wait(period_s)
            try:
                call()
            except Exception as error:  # noqa: BLE001 - nothing here is worth failing the work
                # The class alone; a message may quote an answer. Once is enough.
                level = logging.DEBUG if told else logging.WARNING
                logger.log(level, "How far the run is could not be told: %s", type(error).__name__)
                told = True
            if last:
                return

    thread = threading.Thread(target=run, name="ticker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_PATIENCE_S)
