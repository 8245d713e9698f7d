"""What a run may spend, and when no further request may start.

One budget serves all partitions of a run; it belongs to the gateway's loop. Before a request it is asked, and
reserves what the request may cost at most; after the reply it counts what it did cost. So what is spent and
what is in flight together never pass the limit by more than an estimate was short.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.core.errors import BudgetError, InputError
from tasks.core.options import LimitOptions
from tasks.core.pricing import Price
from tasks.core.prompt import Request

_BYTES_A_TOKEN = 3.0
"""Fewer than the four of English prose, so that a reservation is rather too high."""


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
    def request(self, size_bytes: int) -> Iterator[float]:
        """Reserve what one request may cost while it is in flight; yields the most it may, in US dollars.

        Args:
            size_bytes: Of the request's messages.

        Raises:
            BudgetError: It would pass a limit; it must not be sent.
        """
        most_usd = self._price.cost_usd(size_bytes / _BYTES_A_TOKEN, self._max_output_tokens)
        self._check(most_usd)
        self._requests += 1
        self._reserved_usd += most_usd
        try:
            yield most_usd
        finally:
            self._reserved_usd -= most_usd

    def unsent(self) -> None:
        """Give back a request that was reserved and never sent: it is not on the bill."""
        self._requests -= 1

    def spent(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Count what a reply cost."""
        self._spent_usd += self._price.cost_usd(prompt_tokens or 0, completion_tokens or 0)

    def unknown(self, most_usd: float) -> None:
        """Count a request that may be on the bill, of which nobody knows what it cost, as all it may cost."""
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
            f"Budget exhausted ({limit}): what was answered is kept. Raise the limit and run the same "
            "command again to go on."
        )
        raise BudgetError(message)


def budget_of(limits: LimitOptions, price: Price | None, request: Request) -> Budget:
    """The budget a person asked for.

    Raises:
        InputError: It is in dollars, and nobody knows the price.
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
