"""Entra ID's token, for deployments without a key.

A token is used until it expires. It is renewed on a thread beside the requests, which wait for a renewal only
when no valid token is left. The token's text leaves this room only to be sent.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from http import HTTPStatus
from typing import Protocol

from tasks.core.errors import DeploymentError, PipelineError, RequestError
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.prompt import RenderedRow

logger = logging.getLogger(__name__)

_SCOPE = "https://cognitiveservices.azure.com/.default"
_RENEW_BEFORE_S = 300.0
"""Until five minutes before its end azure-identity hands out the token it has; asking sooner is no use."""
_FIRST_BACKOFF_S = 5.0
_LONGEST_BACKOFF_S = 30.0
"""Between renewals that fail: some ten attempts in five minutes, and azure-identity pauses as long itself."""


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
    """A token that is renewed before it expires; belongs to the event loop it is used in.

    Args:
        credential: Where tokens come from.
        clock: Seconds since 1970.
    """

    def __init__(self, credential: Credential, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._clock = clock
        self._value = ""
        self._expires_s = self._renew_at_s = 0.0
        self._backoff_s = 0.0
        self._renewal: asyncio.Future[PipelineError | None] | None = None

    def value(self) -> str:
        """The present token; never blocks."""
        return self._value

    def header(self) -> dict[str, str]:
        """The header that carries it."""
        return {"authorization": f"Bearer {self._value}"}

    async def refresh_if_due(self) -> None:
        """Begin a renewal when the token ends within five minutes; wait for it only when it has expired.

        Raises:
            DeploymentError: The token has expired and no credential gave one.
            RequestError: The token has expired and Entra ID did not answer.
        """
        now_s = self._clock()
        if now_s >= self._expires_s:
            await self._renewed()
        elif now_s >= self._renew_at_s:
            self._begin_renewal()

    async def renew(self, rejected: str) -> bool:
        """Replace a token that was rejected before its time; whether there is now another one.

        Raises:
            DeploymentError: No credential gave one.
            RequestError: Entra ID did not answer.
        """
        if self._value == rejected:
            await self._renewed()
        return self._value != rejected

    async def _renewed(self) -> None:
        # Shielded: a row that is cancelled does not take the renewal from the others.
        if error := await asyncio.shield(self._begin_renewal()):
            raise copy(error)  # each row raises an error of its own, or their frames would add up in one

    def _begin_renewal(self) -> "asyncio.Future[PipelineError | None]":
        if self._renewal is None or self._renewal.done():
            loop = asyncio.get_running_loop()
            self._renewal = loop.create_future()
            # Not a pool's thread: closing the loop would wait for it, and Entra ID may take minutes.
            threading.Thread(
                target=self._fetch, args=(loop, self._renewal), name="token", daemon=True
            ).start()
        return self._renewal

    def _fetch(
        self, loop: asyncio.AbstractEventLoop, renewal: "asyncio.Future[PipelineError | None]"
    ) -> None:
        fetched = self._get()
        with suppress(RuntimeError):  # the loop is closed, so no request waits for the token
            loop.call_soon_threadsafe(self._end_renewal, renewal, fetched)

    def _end_renewal(
        self, renewal: "asyncio.Future[PipelineError | None]", fetched: AccessToken | PipelineError
    ) -> None:
        """Keep the new token, or plan the next attempt; on the loop."""
        now_s, error = self._clock(), None
        if isinstance(fetched, PipelineError):
            error = fetched
            if now_s < self._expires_s:
                left_s = self._expires_s - now_s
                logger.warning(
                    "The token is valid for %.0f s more and was not renewed yet: %s", left_s, error
                )
        else:
            self._value, self._expires_s = fetched.token, float(fetched.expires_on)
        # A renewal may also bring the same token again: azure-identity does while Entra ID is away.
        self._renew_at_s = self._expires_s - _RENEW_BEFORE_S
        if self._renew_at_s > now_s:
            self._backoff_s = 0.0
        else:
            self._backoff_s = min(max(2 * self._backoff_s, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
            self._renew_at_s = now_s + self._backoff_s
        if not renewal.done():
            renewal.set_result(error)

    def _get(self) -> AccessToken | PipelineError:
        """A token, or why there is none; blocks."""
        from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - only without a key

        try:
            return self._credential.get_token(_SCOPE)
        except ClientAuthenticationError:
            message = (
                "AZURE_OPENAI_API_KEY is not set and Entra ID gave no token: set the key, sign in with "
                "`az login`, or give this machine an identity."
            )
            return DeploymentError(message)
        except Exception as error:  # noqa: BLE001 - returned to the requests; the thread has no caller
            message = f"Entra ID did not answer ({type(error).__name__})"
            return RequestError(message, sent=False)


class RenewingModel:
    """A model whose requests carry Entra ID's token: renewed ahead of time, replaced when it is rejected."""

    def __init__(self, model: ChatModel, token: Token) -> None:
        self._model = model
        self._token = token

    async def complete(self, row: RenderedRow) -> Answer:
        """Send one request; see ``ChatModel``."""
        await self._token.refresh_if_due()
        used = self._token.value()
        try:
            return await self._model.complete(row)
        except DeploymentError as error:
            # A token may be revoked before it ends: one new one, then the error stands.
            if error.status != HTTPStatus.UNAUTHORIZED or not await self._token.renew(used):
                raise
        return await self._model.complete(row)


def default_credential() -> Credential:
    """azure-identity's default: environment, workload and managed identity, developer sign-ins."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - only without a key, and slow

    return DefaultAzureCredential()
