"""Budget of a run: requests and US dollars.

Before a request, the most that it may cost is reserved; after the reply, its cost is recorded. So a run
exceeds the limit at most by the error of these estimates. One budget serves all partitions; it belongs to the
gateway's event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.core.errors import BudgetError, InputError
from tasks.core.options import LimitOptions
from tasks.core.pricing import Price
from tasks.core.prompt import Request

_BYTES_PER_TOKEN = 3.0
"""For reservations. Less reserves too much, so a run stops early; more may exceed the budget. English prose
has four bytes per token, other languages often fewer, so three reserve rather too much. Chosen, not
measured."""


class Budget:
    """Requests and US dollars of one run.

    Args:
        max_requests: Requests at most; None for no limit.
        max_cost_usd: US dollars at most; None for no limit.
        price: What tokens cost; needed for a limit in dollars.
        max_output_tokens: The longest reply.
    """

    def __init__(
        self,
        max_requests: int | None = None,
        max_cost_usd: float | None = None,
        *,
        price: Price | None = None,
        max_output_tokens: int = 0,
    ) -> None:
        self._max_requests = max_requests
        self._max_cost_usd = max_cost_usd
        self._price = price or Price(0.0, 0.0)
        self._max_output_tokens = max_output_tokens
        self._requests = 0
        self._spent_usd = 0.0
        self._reserved_usd = 0.0

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[float]:
        """Reserve the most that one request may cost while it is in flight; yields it, in US dollars.

        Args:
            size_bytes: Size of the request's messages.

        Raises:
            BudgetError: The request would exceed a limit and must not be sent.
        """
        most_usd = self._price.cost_usd(size_bytes / _BYTES_PER_TOKEN, self._max_output_tokens)
        self._check(most_usd)
        self._requests += 1
        self._reserved_usd += most_usd
        try:
            yield most_usd
        finally:
            self._reserved_usd -= most_usd

    def cancel_request(self) -> None:
        """Uncount a request that was reserved and not sent."""
        self._requests -= 1

    def record_usage(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Record the cost of a reply by its tokens."""
        self._spent_usd += self._price.cost_usd(prompt_tokens or 0, completion_tokens or 0)

    def record_unknown_cost(self, most_usd: float) -> None:
        """Record the highest possible cost for a request that may be billed and has no usage."""
        self._spent_usd += most_usd

    def _check(self, most_usd: float) -> None:
        if self._max_requests is not None and self._requests >= self._max_requests:
            limit = f"{self._max_requests} requests"
        elif (
            self._max_cost_usd is not None
            and self._spent_usd + self._reserved_usd + most_usd > self._max_cost_usd
        ):
            limit = f"{self._max_cost_usd:g} USD, {self._spent_usd:.4f} of them spent"
        else:
            return
        message = (
            f"Budget exhausted ({limit}): paid replies are kept. Raise the limit and run the same "
            "command again to go on."
        )
        raise BudgetError(message)


def budget_of(limits: LimitOptions, price: Price | None, request: Request) -> Budget:
    """The budget that the user set.

    Raises:
        InputError: It is in dollars and the model's price is unknown.
    """
    if limits.max_cost_usd is not None and price is None:
        message = (
            "max_cost_usd needs a price, and the model is not in the price list: give input_usd_per_million "
            "and output_usd_per_million."
        )
        raise InputError(message)
    return Budget(
        limits.max_requests,
        limits.max_cost_usd,
        price=price,
        max_output_tokens=request.max_output_tokens,
    )
