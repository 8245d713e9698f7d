"""Counts the rows of a run and shows a progress bar, if stderr is a terminal.

Receives every outcome from the gateway's thread. The bar and the log lines above it are written in the
background.
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
    """Counts rows and shows them in a progress bar with rows/s and time left; a context manager.

    Args:
        title: Label of the progress bar.

    Attributes:
        total: Number of rows in the run.
        rows: Rows with an outcome so far; may be read from any thread.
        failed: Rows of these that failed.
    """

    def __init__(self, title: str = "summarize") -> None:
        self._title = title
        self.total = self.rows = self.failed = 0
        self._bar_shown = ExitStack()
        self._bar: tqdm[Never] | None = None
        self._state: Callable[[], str] = str
        self._lock = threading.Lock()

    def start(self, rows: int) -> None:
        """Set the total number of rows and show the bar."""
        self.total = rows
        if sys.stderr.isatty():
            self._bar = self._bar_shown.enter_context(terminal.progress_bar(rows, self._title))

    def show_state(self, state: Callable[[], str]) -> None:
        """Show the state of the run beside the count.

        Args:
            state: Returns it in a few words; called for every outcome.
        """
        self._state = state

    def advance(self, rows: int, failed: int = 0) -> None:
        """Count rows that need no request; may be called from any thread.

        Args:
            rows: Number of rows; negative to subtract the rows of a partition that is retried.
            failed: Number of failed rows among them.
        """
        with self._lock:
            self.rows += rows
            self.failed += failed
            if self._bar is not None:
                self._bar.update(rows)

    def __call__(self, outcome: Outcome) -> None:
        """Count one row by its outcome."""
        failed = outcome.status is Status.FAILED
        if self._bar is not None:
            parts = [f"{self.failed + failed} failed"] if self.failed + failed else []
            self._bar.set_postfix_str(", ".join([*parts, self._state()]).rstrip(", "), refresh=False)
        self.advance(1, failed)

    def __enter__(self) -> Self:
        """Move logging to the background; the bar appears with ``start``."""
        terminal.log_in_background()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop updating the bar; it stays visible."""
        self._bar_shown.close()
