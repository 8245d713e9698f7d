"""The interface of a model: sends one request for a row."""

from dataclasses import dataclass
from typing import Protocol

from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one request.

    Attributes:
        outcome: The row's outcome.
        rate_limits: The quota as the reply's headers report it.
    """

    outcome: Outcome
    rate_limits: RateLimitHeaders | None = None


class ChatModel(Protocol):
    """Sends one request for a row."""

    async def complete(self, row: RenderedRow) -> Answer:
        """Send one request.

        Raises:
            RequestError: There was no usable reply; a retry may get one.
            RateLimitError: The endpoint requests a wait.
            StopRunError: The error concerns every row.

        The first two hold the reply's rate limit headers, if there was a reply.
        """
        ...
