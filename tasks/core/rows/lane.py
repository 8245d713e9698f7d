"""One endpoint with a rate limiter and a circuit breaker of its own.

A lane that stops, because its endpoint serves no request or asks for a long wait, does not stop the run: its
rows go to the other lanes. The run stops when all lanes have.
"""

import asyncio
from collections.abc import Callable, Sequence

from tasks.core.errors import RateLimitError, RequestError, StopRunError
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.slot import Slot


class Lane:
    """Sends requests to one endpoint when its limiter allows; belongs to their event loop.

    Args:
        model: The endpoint's model.
        limiter: Bounds the requests in flight to the endpoint; the circuit breaker is in it.
        charged_tokens: What a request is charged to the endpoint's quota of tokens.
    """

    def __init__(
        self,
        model: ChatModel,
        limiter: Limiter,
        charged_tokens: Callable[[RenderedRow], float] = lambda _: 0.0,
    ) -> None:
        self._model = model
        self._charged_tokens = charged_tokens
        self.limiter = limiter

    @property
    def stopped_by(self) -> StopRunError | None:
        """Why no further request is sent to the endpoint; None while requests are sent."""
        return self.limiter.stopped_by

    async def attempt(self, row: RenderedRow, timeout_s: float) -> Outcome:
        """Wait for a slot, send one request, and report to the limiter how it ended.

        Args:
            row: The row.
            timeout_s: Total deadline of the request.

        Raises:
            RateLimitError: The endpoint asked to wait; the limiter waits before the next request.
            RequestError: No usable reply; another attempt may get one.
            StopRunError: The lane is stopped.
        """
        async with self.limiter.slot(self._charged_tokens(row)) as slot:
            answer = await self._send(row, slot, timeout_s)
        outcome = answer.outcome
        if outcome.status is Status.FAILED and outcome.model is None:
            self.limiter.rejected(outcome.error or "")
        else:
            self.limiter.answered()
        return outcome

    async def _send(self, row: RenderedRow, slot: Slot, timeout_s: float) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._model.complete(row)
        except TimeoutError:
            self.limiter.timed_out(slot)
            message = f"no complete reply in {timeout_s:g} s"
            raise RequestError(message, possibly_paid=True) from None
        except (RateLimitError, RequestError) as error:
            slot.observe(error.rate_limits)
            raise
        slot.observe(answer.rate_limits)
        return answer


def next_lane(lanes: Sequence[Lane]) -> Lane:
    """The lane with the lowest load of those that are not stopped.

    Raises:
        StopRunError: All are stopped; the first lane's reason.
    """
    running = [lane for lane in lanes if lane.stopped_by is None]
    if not running:
        raise lanes[0].stopped_by or ValueError("no lane")
    return min(running, key=lambda lane: lane.limiter.load)
