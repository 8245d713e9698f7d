"""Rows that were handed in together: pulled one by one, their outcomes in their places, one end for all."""

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
    """Rows and, as they come in, their outcomes; belongs to the summarizer's event loop.

    Args:
        rows: The rows.
        on_row: Called with each row's place and outcome.
    """

    def __init__(self, rows: Iterable[Row], on_row: OnRow) -> None:
        self._rows = iter(rows)
        self._on_row = on_row
        self._outcomes: list[Outcome | None] = []
        self._error: BaseException | None = None
        self._workers: set[asyncio.Task[None] | None] = set()
        self._parked = 0
        self._is_pulled = False
        self._is_cancelled = False
        self._ended = asyncio.Event()

    def pull(self) -> tuple[int, Row] | None:
        """The next row with its place, None after the last; an error of the rows fails the batch."""
        if not self._is_pulled:
            try:
                row = next(self._rows)
            except StopIteration:
                self._is_pulled = True
            except Exception as error:  # noqa: BLE001 - raised where the outcomes are awaited
                self.fail(error)
            else:
                self._outcomes.append(None)
                return len(self._outcomes) - 1, row
        self._end_if_done()
        return None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A worker works on a row; an error that concerns all rows fails the batch."""
        worker = asyncio.current_task()
        self._workers.add(worker)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised where the outcomes are awaited
            self.fail(error)
        finally:
            self._workers.discard(worker)
            self._end_if_done()

    def park(self) -> None:
        """A row waits for an equal row's reply: it holds no worker, and the batch does not end before it."""
        self._parked += 1

    def unpark(self) -> bool:
        """A row waits no longer.

        Returns:
            Whether it may be requested now: not when the batch has failed or was cancelled.
        """
        self._parked -= 1
        if self._error is None and not self._is_cancelled:
            return True
        self._end_if_done()
        return False

    def put(self, place: int, outcome: Outcome) -> None:
        """Take a row's outcome; a cancelled batch ignores it."""
        if not self._is_cancelled:
            self._on_row(place, outcome)
            # The raw reply is for the ledger: thousands of them are not held until the batch ends.
            self._outcomes[place] = replace(outcome, reply=None) if outcome.reply else outcome

    def fail(self, error: BaseException) -> None:
        """Pull no further row; the first error is the one that is raised."""
        self._error = self._error or error
        self._is_pulled = True

    async def outcomes(self) -> list[Outcome]:
        """Wait until no row is worked on or parked; one outcome per row, in the rows' order."""
        await self._ended.wait()
        if self._error:
            raise self._error
        return [outcome for outcome in self._outcomes if outcome is not None]

    def cancel(self) -> set[asyncio.Task[None]]:
        """Cancel the rows in flight, whose outcomes are not wanted any more; returns their workers."""
        self._is_pulled = self._is_cancelled = True
        workers = {worker for worker in self._workers if worker}
        for worker in workers:
            worker.cancel()
        return workers

    def _end_if_done(self) -> None:
        if self._is_pulled and not self._workers and not self._parked:
            self._ended.set()
