"""Entra ID's token, for deployments without a key.

Every request asks for the token on the event loop, so it must be at hand: it is fetched in a thread, kept,
and renewed before it expires. Its text leaves this room only to be sent.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from tasks.core.calls.chatmodel import ChatModel
from tasks.core.errors import DeploymentError, RequestError
from tasks.core.model import Outcome

_SCOPE = "https://cognitiveservices.azure.com/.default"
_RENEW_BEFORE_S = 300.0


class AccessToken(Protocol):
    """A token and when it ends."""

    @property
    def token(self) -> str:
        """What is sent."""
        ...

    @property
    def expires_on(self) -> int:
        """Seconds since 1970."""
        ...


class Credential(Protocol):
    """What azure-identity's credentials have in common."""

    def get_token(self, *scopes: str) -> AccessToken:
        """Fetch a token; blocks."""
        ...


class Token:
    """A token that is always fresh.

    Args:
        credential: Where tokens come from.
        clock: Seconds since 1970.
    """

    def __init__(self, credential: Credential, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._clock = clock
        self._lock = asyncio.Lock()
        self._value = ""
        self._renew_at_s = 0.0

    def value(self) -> str:
        """The token at hand; never blocks."""
        return self._value

    def header(self) -> dict[str, str]:
        """The header that carries it."""
        return {"authorization": f"Bearer {self._value}"}

    async def refresh_if_due(self) -> None:
        """Fetch a token when there is none, or when it ends within five minutes.

        Raises:
            DeploymentError: No credential gave one.
            RequestError: Entra ID did not answer.
        """
        if self._clock() < self._renew_at_s:
            return
        async with self._lock:
            if self._clock() >= self._renew_at_s:
                await self._fetch()

    async def renew(self, rejected: str) -> bool:
        """Replace a token that was rejected before its time; whether there is now another one."""
        async with self._lock:
            if self._value == rejected:
                await self._fetch()
            return self._value != rejected

    async def _fetch(self) -> None:
        fetched = await asyncio.to_thread(self._get)
        self._value, self._renew_at_s = fetched.token, fetched.expires_on - _RENEW_BEFORE_S

    def _get(self) -> AccessToken:
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415 - only without a key

        try:
            return self._credential.get_token(_SCOPE)
        except ClientAuthenticationError:
            message = (
                "AZURE_OPENAI_API_KEY is not set and Entra ID gave no token: set the key, sign in with "
                "`az login`, or give this machine an identity."
            )
            raise DeploymentError(message) from None
        except AzureError as error:
            message = f"Entra ID did not answer ({type(error).__name__})"
            raise RequestError(message, sent=False) from None


class RenewingModel:
    """A model whose requests carry Entra ID's token: fetched ahead of time, replaced when it is rejected."""

    def __init__(self, model: ChatModel, token: Token) -> None:
        self._model = model
        self._token = token

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``ChatModel``."""
        await self._token.refresh_if_due()
        used = self._token.value()
        try:
            return await self._model.summarize(text)
        except DeploymentError as error:
            # A token may be revoked before it ends: one new one, then the error stands.
            if error.status != HTTPStatus.UNAUTHORIZED or not await self._token.renew(used):
                raise
        return await self._model.summarize(text)


def default_credential() -> Credential:
    """azure-identity's default: environment, workload and managed identity, developer sign-ins."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - only without a key, and slow

    return DefaultAzureCredential()
