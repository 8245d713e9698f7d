"""openai's Azure client with a plain ``chat.completions.create``.

The SDK's own ``create`` goes through every message with ``typing`` to find keys to rename; LlamaIndex hands
it what is sent as it is, so that is most of a request's CPU for nothing. This one posts the same body through
the same client: its address, authorization, errors and reply models. Only what ``achat`` needs is here.
"""

from functools import cached_property
from typing import Any

import openai
from openai.types.chat import ChatCompletion


class PlainCompletions:
    """What LlamaIndex calls.

    Args:
        client: Sends it.
    """

    def __init__(self, client: openai.AsyncAzureOpenAI) -> None:
        self._client = client

    async def create(self, **body: Any) -> ChatCompletion:
        """Post a chat completion's fields as they are; raises what openai's client raises."""
        return await self._client.post("/chat/completions", body=body, cast_to=ChatCompletion)


class PlainChat:
    """The namespace LlamaIndex looks for it in."""

    def __init__(self, client: openai.AsyncAzureOpenAI) -> None:
        self.completions = PlainCompletions(client)


class AsyncAzureOpenAI(openai.AsyncAzureOpenAI):
    """openai's client for Azure, all but ``chat``; its name goes out as the user agent."""

    @cached_property
    def chat(self) -> PlainChat:  # type: ignore[override]  # the one part of it that is used
        """Chat completions."""
        return PlainChat(self)
