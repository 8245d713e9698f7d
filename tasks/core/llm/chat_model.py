"""What rows need of a model, whatever is measured on the way."""

from typing import Protocol

from tasks.core.model import Outcome


class ChatModel(Protocol):
    """Sends one request for a text."""

    async def summarize(self, text: str) -> Outcome:
        """Send one request.

        Raises:
            RequestError: No usable reply; another attempt may get one.
            RateLimitError: The deployment asks to wait.
            StopRunError: No row would be served.
        """
        ...
