"""How far a run is: its rows counted, and shown on a terminal.

Fed with every outcome from the gateway's thread; shows nothing without a terminal. Bar and log lines are
written in the background; log lines appear above the bar.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Never, Self

from tqdm import tqdm

from tasks.core import terminal
from tasks.core.model import Outcome, Status


class Progress:
    """Counts rows behind a progress bar with rows, rows/s and time left; a context manager.

    Args:
        title: What is being done.

    Attributes:
        total: Rows to count.
        rows: Rows counted, from any thread to be read.
        failed: Those of them that failed.
    """

    def __init__(self, title: str = "summarize") -> None:
        self._title = title
        self.total = self.rows = self.failed = 0
        self._shown = ExitStack()
        self._bar: tqdm[Never] | None = None
        self._state: Callable[[], str] = str
        self._lock = threading.Lock()

    def start(self, rows: int) -> None:
        """Begin counting towards a number of rows."""
        self.total = rows
        if sys.stderr.isatty():
            self._bar = self._shown.enter_context(terminal.progress_bar(rows, self._title))

    def watch(self, state: Callable[[], str]) -> None:
        """Show what goes on beside the count.

        Args:
            state: Tells it in a few words; called with every outcome.
        """
        self._state = state

    def advance(self, rows: int, failed: int = 0) -> None:
        """Count rows that need no request; from any thread.

        Args:
            rows: How many; below 0 takes back rows of a partition that is tried again.
            failed: How many of them failed.
        """
        with self._lock:
            self.rows += rows
            self.failed += failed
            if self._bar is not None:
                self._bar.update(rows)

    def __call__(self, outcome: Outcome) -> None:
        """Count one row."""
        failed = outcome.status is Status.FAILED
        if self._bar is not None:
            words = [f"{self.failed + failed} failed"] if self.failed + failed else []
            self._bar.set_postfix_str(", ".join([*words, self._state()]).rstrip(", "), refresh=False)
        self.advance(1, failed)

    def __enter__(self) -> Self:
        """Log in the background from now on; the bar is shown from ``start`` on."""
        terminal.log_in_background()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        self._shown.close()
