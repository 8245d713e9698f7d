"""Lane: one endpoint with its own rate limiter and circuit breaker.

A lane stops when its endpoint fails for every row or requests a long wait. Its rows go to the other lanes
then; the run stops when all lanes have stopped.
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
        limiter: Limits the requests to the endpoint; contains the circuit breaker.
        quota_tokens: Tokens that a row's request is charged to the endpoint's quota.
    """

    def __init__(
        self,
        model: ChatModel,
        limiter: Limiter,
        quota_tokens: Callable[[RenderedRow], float] = lambda _: 0.0,
    ) -> None:
        self._model = model
        self._quota_tokens = quota_tokens
        self.limiter = limiter

    @property
    def stopped_by(self) -> StopRunError | None:
        """The error that stopped the lane; None while it sends requests."""
        return self.limiter.stopped_by

    async def attempt(self, row: RenderedRow, timeout_s: float) -> Outcome:
        """Wait for a slot, send one request, and report to the limiter how it ended.

        Args:
            row: The row.
            timeout_s: Total deadline of the request.

        Raises:
            RateLimitError: The endpoint requested a wait; the limiter waits before the next request.
            RequestError: There was no usable reply; a retry may get one.
            StopRunError: The lane is stopped.
        """
        async with self.limiter.slot(self._quota_tokens(row)) as slot:
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


def least_loaded_lane(lanes: Sequence[Lane]) -> Lane:
    """The lane with the lowest load of those that are not stopped.

    Raises:
        StopRunError: All are stopped; the first lane's error.
    """
    running = [lane for lane in lanes if lane.stopped_by is None]
    if not running:
        raise lanes[0].stopped_by or ValueError("no lane")
    return min(running, key=lambda lane: lane.limiter.load)
