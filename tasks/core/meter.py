"""Every request of a run, counted where it is sent; so the report and the bill agree.

A meter stands between the summarizer and the model, asks the budget before each request, and counts how each
ended. One meter serves all partitions; it belongs to the gateway's loop.
"""

import asyncio
from collections import Counter

from tasks.core.budget import Budget
from tasks.core.errors import PipelineError, RequestError
from tasks.core.model import Outcome
from tasks.core.summarizer import ChatModel
from tasks.core.tally import Bill


class Meter:
    """A model whose requests are counted and paid from a budget.

    Args:
        model: Sends a request.
        budget: What may be spent.
    """

    def __init__(self, model: ChatModel, budget: Budget) -> None:
        self._model = model
        self._budget = budget
        self._counts: Counter[str] = Counter()

    @property
    def bill(self) -> Bill:
        """What was sent and received so far."""
        return Bill(**self._counts)

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``summarizer.ChatModel``.

        Raises:
            BudgetError: It would pass the budget; it was not sent.
        """
        with self._budget.request(text):
            self._counts["sent"] += 1
            try:
                outcome = await self._model.summarize(text)
            except asyncio.CancelledError:
                self._counts["lost"] += 1
                raise
            except PipelineError as error:
                lost = isinstance(error, RequestError) and error.possibly_paid
                self._counts["lost" if lost else "refused"] += 1
                raise
            self._count_answer(outcome)
            return outcome

    def _count_answer(self, outcome: Outcome) -> None:
        self._counts["answered"] += 1
        self._counts["prompt_tokens"] += outcome.prompt_tokens or 0
        self._counts["completion_tokens"] += outcome.completion_tokens or 0
        self._counts["cached_tokens"] += outcome.cached_tokens or 0
        self._budget.spent(outcome.prompt_tokens, outcome.completion_tokens)
