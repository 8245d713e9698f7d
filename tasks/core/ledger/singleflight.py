"""Identical rows once: what is in flight, and what was answered lately, by row key.

Belongs to the summarizer's event loop, so to one process and one run. It remembers the last 100,000 answers,
some 50 MB at 500 bytes each; an equal row that comes later than that is asked again, unless its own
partition's ledger knew it when the run opened the partition.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tasks.core.model import Outcome

REMEMBERED = 100_000


class SharedReplies:
    """Answers shared by rows with equal keys.

    Args:
        remembered: Answers kept at most; the one used longest ago goes first.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._recent: OrderedDict[bytes, Outcome] = OrderedDict()
        self._in_flight: dict[bytes, asyncio.Event] = {}

    async def once(self, key: bytes, ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """The answer to a row, asked for only if no equal row has it or waits for it.

        A failed row is no answer: the next equal row tries for itself.

        Args:
            key: The row's key.
            ask: Requests the answer.
        """
        while (known := self._recent.get(key)) is None:
            if (other := self._in_flight.get(key)) is None:
                return await self._ask(key, ask)
            await other.wait()
        self._recent.move_to_end(key)
        return known

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        ended = self._in_flight[key] = asyncio.Event()
        try:
            outcome = await ask()
        finally:
            del self._in_flight[key]
            ended.set()
        if outcome.status.is_answered:
            # The tokens were billed for the row that was requested.
            reply = outcome.reply and replace(outcome.reply, usage=None)
            self._recent[key] = replace(outcome, requests=0, lost_replies=0, reused=True, reply=reply)
            if len(self._recent) > self._remembered:
                self._recent.popitem(last=False)
        return outcome
