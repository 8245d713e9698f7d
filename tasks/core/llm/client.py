"""One call to the deployment, through LlamaIndex.

The room that imports LlamaIndex and openai, which takes seconds: whoever needs it imports it late.
Nothing here retries, waits or counts, and what a reply means is ``replies``' to say. The client is built in
the loop that uses it and closed there.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import httpx
import openai.resources  # noqa: F401 - else the SDK loads it when the first request is made
from llama_index.core.llms import ChatMessage, LLMMetadata
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.llms.azure_openai import AzureOpenAI
from pydantic import SecretStr

from tasks.core.errors import SettingsError
from tasks.core.llm import response_policy
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.entra import Credential, RenewingModel, Token, default_credential
from tasks.core.llm.sdk_bypass import Recorder, RowEndedError, Wire, WireClient
from tasks.core.llm.transport import Transport
from tasks.core.model import Outcome, Reply
from tasks.core.prompt import Request
from tasks.core.settings import Settings


@asynccontextmanager
async def open_model(
    settings: Settings,
    request: Request,
    *,
    max_connections: int,
    timeout_s: float,
    credential: Callable[[], Credential] = default_credential,
    measured: Callable[[ChatModel], ChatModel] = lambda model: model,
) -> AsyncIterator[ChatModel]:
    """Build the client in the running loop, and close it there.

    Args:
        settings: How to reach the deployment.
        request: What all requests have in common.
        max_connections: Connections at most: as many as requests may be in flight.
        timeout_s: Longest silence while a reply is read; the summarizer sets the total deadline.
        credential: Where tokens come from, for settings without a key.
        measured: Stands around what sends a request, below what repeats one with a new token.

    Raises:
        SettingsError: LlamaIndex does not know the model.
        DeploymentError: There is neither key nor token.
        RequestError: Entra ID did not answer.
    """
    check_model(build_llm(settings, request))
    secret = settings.azure_openai_api_key
    token = None if secret else Token(credential())
    if token:
        await token.refresh_if_due()
    # Plain http is for loopback, which no proxy may come between.
    proxies = settings.azure_openai_endpoint.startswith("https:")
    async with Transport(
        max_connections=max_connections, timeout_s=timeout_s, use_environment_proxies=proxies
    ) as transport:
        recorded = await record_request(settings, request, timeout_s)
        wire = Wire(transport, recorded, token.header if token else lambda: _key_header(secret))
        model = measured(over_wire(wire, recorded.content, settings, request))
        yield RenewingModel(model, token) if token else model


def _key_header(secret: SecretStr | None) -> dict[str, str]:
    return {"api-key": secret.get_secret_value()} if secret else {}


async def record_request(settings: Settings, request: Request, timeout_s: float) -> httpx.Request:
    """The request LlamaIndex and openai's SDK make of a row; it is not sent, and no key is in it."""
    async with Recorder() as recorder:
        llm = build_llm(settings, request, timeout=timeout_s, async_http_client=recorder)
        await AzureChatModel(llm, request).summarize("any")
        return recorder.recorded


def over_wire(wire: Wire, recorded: bytes, settings: Settings, request: Request) -> ChatModel:
    """LlamaIndex's ``achat`` without the SDK below it, which wrote the body of the recorded request."""
    llm = build_llm(settings, request, async_openai_client=WireClient(wire, recorded))
    return AzureChatModel(llm, request, settings.endpoint_name)


def build_llm(settings: Settings, request: Request, **client: Any) -> AzureOpenAI:
    """LlamaIndex's client, with all of its own retries turned off and without a credential.

    Args:
        settings: How to reach the deployment.
        request: What all requests have in common.
        client: What of LlamaIndex's arguments says how to send.
    """
    return SteadyAzureOpenAI(
        engine=request.deployment,
        model=request.model,
        temperature=request.temperature,
        max_tokens=request.max_output_tokens,
        azure_endpoint=settings.azure_openai_endpoint,
        api_version=request.api_version,
        # Without one LlamaIndex looks for others in the environment; it shows and pickles what it has.
        api_key="added-when-sent",
        max_retries=0,
        **client,
    )


def check_model(llm: AzureOpenAI) -> None:
    """Check that LlamaIndex knows the model, without which every call would fail.

    Raises:
        SettingsError: It does not.
    """
    try:
        is_known = llm.metadata.is_chat_model
    except ValueError:
        is_known = False
    if not is_known:
        message = (
            "AZURE_OPENAI_MODEL must name the chat model behind the deployment in a way LlamaIndex knows, "
            f"such as gpt-4o-mini; {llm.model!r} is not known."
        )
        raise SettingsError(message)


class SteadyAzureOpenAI(AzureOpenAI):  # type: ignore[misc]  # LlamaIndex ships no types
    """LlamaIndex's client, which works out what it tells of itself once, and not several times a request."""

    @cached_property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex knows of the model."""
        known: LLMMetadata = super().metadata
        return known

    @cached_property
    def payload(self) -> dict[str, Any]:
        """What callbacks are told of the client; no credential is in it."""
        told: dict[str, Any] = super().to_payload()
        return told

    def to_payload(self) -> dict[str, Any]:
        """The payload."""
        return self.payload


_PLACE = "the-text-of-the-row-7c2e9a4b1f6d4e0a"
"""Stands for a row's text where messages are written once for all rows."""


class AzureChatModel:
    """The deployment behind LlamaIndex's ``AzureOpenAI``; belongs to the loop it was built in.

    Args:
        llm: LlamaIndex's client.
        request: What all requests have in common.
        endpoint: The deployment and the host, as the ledger names them.
    """

    def __init__(self, llm: AzureOpenAI, request: Request, endpoint: str = "") -> None:
        self._llm = llm
        self._endpoint = endpoint
        self._max_output_tokens = request.max_output_tokens
        template = ChatPromptTemplate.from_messages(list(request.prompt.messages))
        # Filled in once: what differs from row to row is where the place is.
        self._frame = template.format_messages(text=_PLACE)

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``ChatModel``."""
        if not response_policy.is_encodable(text):
            return response_policy.CANNOT_BE_SENT
        try:
            response = await self._llm.achat([_filled(message, text) for message in self._frame])
            return response_policy.completed(response.raw, self._endpoint, self._max_output_tokens)
        except RowEndedError as ended:
            # There is no more of such a reply than what the outcome says.
            return replace(ended.outcome, reply=Reply(time.time(), self._endpoint))
        except response_policy.NO_COMPLETION as error:
            raise response_policy.unreadable(error) from None


def _filled(message: ChatMessage, text: str) -> ChatMessage:
    content = message.content or ""
    if _PLACE not in content:
        return message
    return ChatMessage(role=message.role, content=content.replace(_PLACE, text))
