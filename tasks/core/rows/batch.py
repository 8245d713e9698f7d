"""Batch: rows that are summarized together. Returns one outcome per row, in order, when all have ended."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow

Row = RenderedRow | Outcome
"""A row to be requested, or the outcome of one that needs no request."""

OnRow = Callable[[int, Outcome], object]
"""Takes a row's place and its outcome."""


class Batch:
    """Rows and their outcomes so far; belongs to the summarizer's event loop.

    Args:
        rows: The rows; pulled one by one.
        on_row: Called with each row's place and outcome.
    """

    def __init__(self, rows: Iterable[Row], on_row: OnRow) -> None:
        self._rows = iter(rows)
        self._on_row = on_row
        self._outcomes: list[Outcome | None] = []
        self._error: BaseException | None = None
        self._workers: set[asyncio.Task[None] | None] = set()
        self._waiting = 0
        self._is_exhausted = False
        self._is_cancelled = False
        self._ended = asyncio.Event()

    def pull(self) -> tuple[int, Row] | None:
        """The next row with its place; None after the last. An error of the iterator fails the batch."""
        if not self._is_exhausted:
            try:
                row = next(self._rows)
            except StopIteration:
                self._is_exhausted = True
            except Exception as error:  # noqa: BLE001 - raised where the outcomes are awaited
                self.fail(error)
            else:
                self._outcomes.append(None)
                return len(self._outcomes) - 1, row
        self._end_if_done()
        return None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark the current task as working on a row; an exception fails the batch."""
        worker = asyncio.current_task()
        self._workers.add(worker)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised where the outcomes are awaited
            self.fail(error)
        finally:
            self._workers.discard(worker)
            self._end_if_done()

    def begin_wait(self) -> None:
        """Count a row that waits for an equal row's reply, without a worker; the batch ends after it."""
        self._waiting += 1

    def end_wait(self) -> bool:
        """Count a row that no longer waits.

        Returns:
            Whether it may be requested now, which is not so after the batch failed or was cancelled.
        """
        self._waiting -= 1
        if self._error is None and not self._is_cancelled:
            return True
        self._end_if_done()
        return False

    def put(self, place: int, outcome: Outcome) -> None:
        """Store a row's outcome; a cancelled batch ignores it."""
        if not self._is_cancelled:
            self._on_row(place, outcome)
            # Only the ledger needs the raw reply, so it is not kept until the batch ends.
            self._outcomes[place] = replace(outcome, reply=None) if outcome.reply else outcome

    def fail(self, error: BaseException) -> None:
        """Pull no further row; the first error is raised by ``outcomes``."""
        self._error = self._error or error
        self._is_exhausted = True

    async def outcomes(self) -> list[Outcome]:
        """Wait until all rows have ended; one outcome per row, in the rows' order."""
        await self._ended.wait()
        if self._error:
            raise self._error
        return [outcome for outcome in self._outcomes if outcome is not None]

    def cancel(self) -> set[asyncio.Task[None]]:
        """Cancel the rows in flight; returns their workers."""
        self._is_exhausted = self._is_cancelled = True
        workers = {worker for worker in self._workers if worker}
        for worker in workers:
            worker.cancel()
        return workers

    def _end_if_done(self) -> None:
        if self._is_exhausted and not self._workers and not self._waiting:
            self._ended.set()
