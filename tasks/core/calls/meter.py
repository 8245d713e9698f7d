"""Every request of a run, counted where it is sent; so the report and the bill agree.

A meter stands around what sends a request, below whatever may send one again; it asks the budget before each,
and counts how each ended. One meter serves all partitions; it belongs to the gateway's loop.
"""

from collections import Counter
from dataclasses import fields

from tasks.core.calls.budget import Budget
from tasks.core.calls.chatmodel import ChatModel
from tasks.core.calls.replies import CANNOT_BE_SENT
from tasks.core.errors import DeploymentError, PipelineError, RequestError
from tasks.core.model import Outcome, Status
from tasks.core.reports.tally import Bill


class Meter:
    """A model whose requests are counted and paid from a budget.

    Args:
        model: Sends a request.
        budget: What may be spent.
    """

    def __init__(self, model: ChatModel, budget: Budget) -> None:
        self._model = model
        self._budget = budget
        # All there from the start: other threads read it meanwhile.
        self._counts = Counter(dict.fromkeys((field.name for field in fields(Bill)), 0))
        # Hashes of texts whose last request brought no answer: a row that is asked again is one of them.
        self._unanswered: set[int] = set()

    @property
    def bill(self) -> Bill:
        """What was sent and received so far."""
        return Bill(**self._counts)

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``ChatModel``.

        Raises:
            BudgetError: It would pass the budget; it was not sent.
        """
        row = hash(text)
        with self._budget.request(text) as most_usd:
            try:
                outcome = await self._model.summarize(text)
            except BaseException as error:
                # Cancelled, or worse: nobody knows how far it came.
                end = _end_of(error) if isinstance(error, PipelineError) else "lost"
                self._count(end, row)
                if end == "lost":
                    self._budget.unknown(most_usd)
                raise
            self._count("unsent" if outcome is CANNOT_BE_SENT else "answered", row)
            self._count_tokens(outcome)
            if outcome.prompt_tokens is None and (outcome.model or outcome.status is Status.FILTERED):
                self._budget.unknown(most_usd)
            return outcome

    def _count(self, end: str, row: int) -> None:
        """Count a request when it has ended; what was never sent is no request."""
        self._counts[end] += 1
        if end == "unsent":
            self._budget.unsent()
            return
        self._counts["sent"] += 1
        self._counts["retried"] += row in self._unanswered
        if end == "answered":
            self._unanswered.discard(row)
        else:
            self._unanswered.add(row)

    def _count_tokens(self, outcome: Outcome) -> None:
        self._counts["prompt_tokens"] += outcome.prompt_tokens or 0
        self._counts["completion_tokens"] += outcome.completion_tokens or 0
        self._counts["cached_tokens"] += outcome.cached_tokens or 0
        self._budget.spent(outcome.prompt_tokens, outcome.completion_tokens)


def _end_of(error: PipelineError) -> str:
    if isinstance(error, RequestError):
        if not error.sent:
            return "unsent"
        return "lost" if error.possibly_paid else "refused"
    # Without a status it was no answer of the deployment's: there was no token to send.
    return "unsent" if isinstance(error, DeploymentError) and error.status is None else "refused"
