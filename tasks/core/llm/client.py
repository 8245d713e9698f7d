"""Sends one request to an endpoint through LlamaIndex.

The only module that imports LlamaIndex and openai. That takes seconds, so this module is imported late. It
does not retry, wait or count; ``response_policy`` interprets replies. A client is built in the event loop
that uses it, and closed there.
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
from llama_index.llms.azure_openai import AzureOpenAI
from pydantic import SecretStr

from tasks.core.endpoint import Endpoint
from tasks.core.errors import SettingsError
from tasks.core.llm import response_policy
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.llm.entra import Credential, RenewingModel, Token, default_credential
from tasks.core.llm.sdk_bypass import BypassClient, Recorder, RowRejectedError, Sender
from tasks.core.llm.transport import Transport
from tasks.core.model import Reply
from tasks.core.prompt import RenderedRow, Request

_RECORDED_ROW = RenderedRow(b"", (("user", "any"),), 3)
_CREDENTIAL_PLACEHOLDER = "added-when-sent"


@asynccontextmanager
async def open_model(
    endpoint: Endpoint,
    request: Request,
    key: SecretStr | None = None,
    *,
    max_connections: int,
    timeout_s: float,
    credential: Callable[[], Credential] = default_credential,
    metered: Callable[[ChatModel], ChatModel] = lambda model: model,
) -> AsyncIterator[ChatModel]:
    """Build an endpoint's client in the running loop, and close it there.

    Args:
        endpoint: The endpoint.
        request: What all requests have in common.
        key: The endpoint's key; None to send Entra ID's tokens.
        max_connections: Connections at most; as many as requests may be in flight.
        timeout_s: Longest pause while a reply is read; the summarizer sets the total deadline.
        credential: Returns the source of tokens, used without a key.
        metered: Wraps the model below the part that repeats a request with a new token, so it counts both.

    Raises:
        SettingsError: LlamaIndex does not support the model.
        DeploymentError: There is neither key nor token.
        RequestError: Entra ID did not answer.
    """
    check_model(build_client(endpoint, request))
    token = None if key else Token(credential())
    if token:
        await token.refresh_if_due()
    # Plain http is used on loopback only, which needs no proxy.
    proxies = endpoint.url.startswith("https:")
    async with Transport(
        max_connections=max_connections, timeout_s=timeout_s, use_environment_proxies=proxies
    ) as transport:
        recorded = await record_request(endpoint, request, timeout_s)
        sender = Sender(transport, recorded, token.header if token else lambda: _key_header(key))
        model = metered(build_bypass_model(sender, recorded.content, endpoint, request))
        yield RenewingModel(model, token) if token else model


def build_client(endpoint: Endpoint, request: Request, **transport: Any) -> AzureOpenAI:
    """Build LlamaIndex's client of an endpoint, without a credential and without retries.

    No other function builds one.

    Args:
        endpoint: The endpoint.
        request: What all requests have in common.
        transport: LlamaIndex's arguments about HTTP.
    """
    return CachingAzureOpenAI(
        engine=endpoint.deployment,
        model=request.model,
        temperature=request.temperature,
        max_tokens=request.max_output_tokens,
        azure_endpoint=endpoint.url,
        api_version=endpoint.api_version,
        # Without one, LlamaIndex takes other providers' keys from the environment. A real one would be in its
        # repr and its pickle.
        api_key=_CREDENTIAL_PLACEHOLDER,
        max_retries=0,
        **transport,
    )


async def record_request(endpoint: Endpoint, request: Request, timeout_s: float) -> httpx.Request:
    """The request that LlamaIndex and openai's SDK build for a row; it is not sent and contains no key."""
    async with Recorder() as recorder:
        llm = build_client(endpoint, request, timeout=timeout_s, async_http_client=recorder)
        await AzureChatModel(llm, endpoint, request).complete(_RECORDED_ROW)
        return recorder.recorded


def build_bypass_model(sender: Sender, recorded: bytes, endpoint: Endpoint, request: Request) -> ChatModel:
    """Build a model that uses LlamaIndex's ``achat`` without openai's SDK below it.

    Args:
        sender: Sends requests.
        recorded: The body of a request that the SDK built.
        endpoint: The endpoint.
        request: What all requests have in common.
    """
    llm = build_client(endpoint, request, async_openai_client=BypassClient(sender, recorded))
    return AzureChatModel(llm, endpoint, request)


def check_model(llm: AzureOpenAI) -> None:
    """Check that LlamaIndex supports the model; without that every request fails.

    Raises:
        SettingsError: It does not.
    """
    try:
        is_known = llm.metadata.is_chat_model
    except ValueError:
        is_known = False
    if not is_known:
        message = (
            "AZURE_OPENAI_MODEL must name the deployment's chat model by a name that LlamaIndex supports, "
            f"such as gpt-4o-mini; {llm.model!r} is not supported."
        )
        raise SettingsError(message)


def _key_header(key: SecretStr | None) -> dict[str, str]:
    return {"api-key": key.get_secret_value()} if key else {}


class CachingAzureOpenAI(AzureOpenAI):  # type: ignore[misc]  # LlamaIndex ships no types
    """LlamaIndex's client with its metadata and its payload for callbacks computed once, not per request."""

    @cached_property
    def metadata(self) -> LLMMetadata:
        """LlamaIndex's metadata of the model."""
        known: LLMMetadata = super().metadata
        return known

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The client's description for callbacks; it contains no credential."""
        described: dict[str, Any] = super().to_payload()
        return described

    def to_payload(self) -> dict[str, Any]:
        """The payload, computed once."""
        return self.payload


class AzureChatModel:
    """An endpoint behind LlamaIndex's ``AzureOpenAI``; belongs to the loop it was built in.

    Args:
        llm: LlamaIndex's client.
        endpoint: The endpoint; its name is recorded with each reply.
        request: What all requests have in common.
    """

    def __init__(self, llm: AzureOpenAI, endpoint: Endpoint, request: Request) -> None:
        self._llm = llm
        self._endpoint = endpoint.name
        self._max_output_tokens = request.max_output_tokens
        # LlamaIndex needs some microseconds to build a message, and the instruction is the same in all rows.
        self._fixed = {
            role: ChatMessage(role=role, content=content) for role, content in request.prompt.messages
        }

    async def complete(self, row: RenderedRow) -> Answer:
        """Send one request; see ``ChatModel``."""
        completion = None
        try:
            response = await self._llm.achat([self._message(*message) for message in row.messages])
            completion = response.raw
            outcome = response_policy.completed(completion, self._endpoint, self._max_output_tokens)
        except RowRejectedError as rejected:
            # An error reply contains no text and no usage.
            reply = Reply(time.time(), self._endpoint)
            return Answer(replace(rejected.outcome, reply=reply), rejected.rate_limits)
        except response_policy.NO_COMPLETION as error:
            failed = response_policy.unreadable(error)
            failed.rate_limits = getattr(completion, "rate_limits", None)
            raise failed from None
        return Answer(outcome, getattr(completion, "rate_limits", None))

    def _message(self, role: str, content: str) -> ChatMessage:
        fixed = self._fixed.get(role)
        if fixed and fixed.content == content:
            return fixed
        return ChatMessage(role=role, content=content)
