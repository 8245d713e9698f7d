"""Rows that were handed in together: pulled one by one, their outcomes in their places, one end for all."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tasks.core.model import Outcome, Text

OnRow = Callable[[int, Outcome], object]
"""Takes a row's place and its outcome."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was pulled.

    Attributes:
        place: Its place in the batch, counted from 0.
        text: Its text.
        key: Its key, if it has one.
    """

    place: int
    text: Text
    key: bytes | None


class Batch:
    """Rows and, as they come in, their outcomes; belongs to the summarizer's event loop.

    Args:
        texts: The rows' texts.
        keys: The rows' keys, or none at all.
        on_row: Called with each row's place and outcome.
    """

    def __init__(self, texts: Iterable[Text], keys: Sequence[bytes | None], on_row: OnRow) -> None:
        self._texts = iter(texts)
        self._keys = keys
        self._on_row = on_row
        self._outcomes: list[Outcome | None] = []
        self._error: BaseException | None = None
        self._workers: set[asyncio.Task[None] | None] = set()
        self._ended = asyncio.Event()
        self.is_pulled = False

    def pull(self) -> Iterator[Row]:
        """Rows from where the last one stopped; an error of the texts is the batch's end."""
        while not self.is_pulled:
            try:
                text = next(self._texts)
            except StopIteration:
                self.is_pulled = True
            except Exception as error:  # noqa: BLE001 - told to who waits for the batch
                self.fail(error)
            else:
                place = len(self._outcomes)
                self._outcomes.append(None)
                yield Row(place, text, self._keys[place] if self._keys else None)
        self._end_if_done()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A row is worked on; what goes wrong for all rows ends the batch."""
        worker = asyncio.current_task()
        self._workers.add(worker)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - told to who waits for the batch
            self.fail(error)
        finally:
            self._workers.discard(worker)
            self._end_if_done()

    def put(self, row: Row, outcome: Outcome) -> None:
        """A row has its outcome."""
        self._on_row(row.place, outcome)
        # The reply as it came is for the ledger: thousands of them are not held until the batch ends.
        self._outcomes[row.place] = replace(outcome, reply=None) if outcome.reply else outcome

    def fail(self, error: BaseException) -> None:
        """Pull no further row; the first error is the one that is told."""
        self._error = self._error or error
        self.is_pulled = True

    async def outcomes(self) -> list[Outcome]:
        """Wait until no row is worked on any more; one outcome per row, in the rows' order."""
        await self._ended.wait()
        if self._error:
            raise self._error
        return [outcome for outcome in self._outcomes if outcome is not None]

    def cancel(self) -> set[asyncio.Task[None]]:
        """Nobody waits any more: cut off the rows in flight; returns who worked on them."""
        self.is_pulled = True
        workers = {worker for worker in self._workers if worker}
        for worker in workers:
            worker.cancel()
        return workers

    def _end_if_done(self) -> None:
        if self.is_pulled and not self._workers:
            self._ended.set()
