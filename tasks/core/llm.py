"""One call to the deployment, through LlamaIndex.

The only room that imports LlamaIndex and openai, which takes seconds: whoever needs it imports it late.
Nothing here retries, waits or counts, and what a reply means is ``replies``' to say. The client is built in
the loop that uses it and closed there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import openai
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.llms.azure_openai import AzureOpenAI
from llama_index.llms.openai.utils import openai_modelname_to_contextsize
from openai.lib.azure import API_KEY_SENTINEL

from tasks.core import replies
from tasks.core.entra import Token, default_credential
from tasks.core.errors import DeploymentError, RequestError, SettingsError
from tasks.core.model import Outcome, Status
from tasks.core.prompt import Request
from tasks.core.settings import Settings
from tasks.core.transport import AiohttpClient

# What LlamaIndex and openai raise on a reply that is not a chat completion.
_UNREADABLE = (openai.APIError, ValueError, TypeError, AttributeError, LookupError)


def check_model(name: str) -> None:
    """Check that LlamaIndex knows the model, without which every call would fail.

    Raises:
        SettingsError: It does not.
    """
    try:
        openai_modelname_to_contextsize(name)
    except ValueError:
        message = (
            f"AZURE_OPENAI_MODEL must name the model behind the deployment in a way LlamaIndex knows, such "
            f"as gpt-4o-mini; {name!r} is not known."
        )
        raise SettingsError(message) from None


@asynccontextmanager
async def open_model(
    settings: Settings, request: Request, *, max_connections: int, timeout_s: float
) -> AsyncIterator["AzureChatModel"]:
    """Build the client in the running loop, and close it there.

    Args:
        settings: How to reach the deployment.
        request: What all requests have in common.
        max_connections: Connections at most: as many as requests may be in flight.
        timeout_s: Longest silence while a reply is read; the summarizer sets the total deadline.

    Raises:
        SettingsError: LlamaIndex does not know the model, or there is neither key nor token.
    """
    check_model(request.model)
    token = None if settings.azure_openai_api_key else Token(default_credential())
    if token:
        await token.refresh_if_due()
    async with AiohttpClient(max_connections=max_connections, timeout_s=timeout_s) as http:
        yield AzureChatModel(build_client(settings, request, http, token), request, token)


def build_client(
    settings: Settings, request: Request, http: httpx.AsyncClient, token: Token | None = None
) -> AzureOpenAI:
    """LlamaIndex's client, with all of its own retries turned off."""
    key = settings.azure_openai_api_key
    return AzureOpenAI(
        engine=request.deployment,
        model=request.model,
        temperature=request.temperature,
        max_tokens=request.max_output_tokens,
        azure_endpoint=settings.azure_openai_endpoint,
        api_version=request.api_version,
        # Always passed, or LlamaIndex sends OPENAI_API_KEY to Azure. The sentinel is openai's word for
        # "none": with `use_azure_ad` instead, the first token would go out as a key for ever.
        api_key=key.get_secret_value() if key else API_KEY_SENTINEL,
        azure_ad_token_provider=token.value if token else None,
        timeout=http.timeout.read or 0.0,
        max_retries=0,
        async_http_client=http,
    )


class AzureChatModel:
    """The deployment behind LlamaIndex's ``AzureOpenAI``; belongs to the loop it was built in."""

    def __init__(self, llm: AzureOpenAI, request: Request, token: Token | None = None) -> None:
        self._llm = llm
        self._template = ChatPromptTemplate.from_messages(list(request.prompt.messages))
        self._token = token

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``summarizer.ChatModel``."""
        if self._token is None:
            return await self._send(text)
        await self._token.refresh_if_due()
        used = self._token.value()
        try:
            return await self._send(text)
        except DeploymentError:
            # A token may be revoked before it ends: one new one, then the error stands.
            if not await self._token.renew(used):
                raise
        return await self._send(text)

    async def _send(self, text: str) -> Outcome:
        try:
            response = await self._llm.achat(self._template.format_messages(text=text))
            return replies.completed(response.raw)
        except openai.APIStatusError as error:
            rejection = error
        except openai.APIConnectionError as error:
            sent = not isinstance(error.__cause__, httpx.ConnectError)
            message = "the connection failed or timed out"
            raise RequestError(message, possibly_paid=sent) from None
        except UnicodeEncodeError:
            return Outcome(Status.FAILED, error="the text holds a character that UTF-8 cannot carry")
        except _UNREADABLE as error:
            message = f"the reply could not be read ({type(error).__name__})"
            raise RequestError(message, possibly_paid=True) from None
        return replies.rejected(rejection.status_code, rejection.code, rejection.response.headers)
