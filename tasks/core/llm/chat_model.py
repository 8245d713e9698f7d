"""A model as the summarizer uses it, whatever is measured or renewed on the way to it."""

from dataclasses import dataclass
from typing import Protocol

from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request brought.

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
            RequestError: No usable reply; another attempt may get one.
            RateLimitError: The endpoint asks to wait.
            StopRunError: No row would be served.

        The first two carry the reply's rate limit headers, if there was a reply.
        """
        ...
