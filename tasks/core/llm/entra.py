"""Entra ID's token, for deployments without a key.

A token is used until it expires. It is renewed in a background thread; requests wait for a renewal only when
the token has expired. The token is never logged.
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
"""Time before expiry at which renewals begin. Later leaves less time for retries; earlier has no effect,
since azure-identity returns its cached token until five minutes before expiry."""
_FIRST_BACKOFF_S = 5.0
"""Wait after the first failed renewal. Shorter requests a token from a failing service more often; longer
wastes the time until expiry. Chosen, not measured."""
_MAX_BACKOFF_S = 30.0
"""Longest wait between failed renewals, which allows some ten attempts in five minutes. Shorter has no
effect, since azure-identity waits 30 s itself; longer allows fewer attempts."""


class AccessToken(Protocol):
    """A token and its expiry."""

    @property
    def token(self) -> str:
        """The token's text."""
        ...

    @property
    def expires_on(self) -> int:
        """Seconds since 1970."""
        ...


class Credential(Protocol):
    """The interface of azure-identity's credentials."""

    def get_token(self, *scopes: str) -> AccessToken:
        """Fetch a token; blocks."""
        ...


class Token:
    """A token that is renewed before it expires; belongs to the event loop it is used in.

    Args:
        credential: The source of tokens.
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
        """The request header with the token."""
        return {"authorization": f"Bearer {self._value}"}

    async def refresh_if_due(self) -> None:
        """Begin a renewal if the token expires within five minutes; wait for it only if it has expired.

        Raises:
            DeploymentError: The token has expired and no credential returned one.
            RequestError: The token has expired and Entra ID did not answer.
        """
        now_s = self._clock()
        if now_s >= self._expires_s:
            await self._renewed()
        elif now_s >= self._renew_at_s:
            self._begin_renewal()

    async def renew(self, rejected: str) -> bool:
        """Replace a token that was rejected before it expired; returns whether there is now another one.

        Raises:
            DeploymentError: No credential returned one.
            RequestError: Entra ID did not answer.
        """
        if self._value == rejected:
            await self._renewed()
        return self._value != rejected

    async def _renewed(self) -> None:
        # Shielded: cancelling one row does not cancel the renewal that other rows wait for.
        if error := await asyncio.shield(self._begin_renewal()):
            raise copy(error)  # a copy per row, since each raise adds frames to the traceback

    def _begin_renewal(self) -> "asyncio.Future[PipelineError | None]":
        if self._renewal is None or self._renewal.done():
            loop = asyncio.get_running_loop()
            self._renewal = loop.create_future()
            # Not a thread of the loop's pool: closing the loop would wait for it, possibly minutes.
            threading.Thread(
                target=self._fetch, args=(loop, self._renewal), name="token", daemon=True
            ).start()
        return self._renewal

    def _fetch(
        self, loop: asyncio.AbstractEventLoop, renewal: "asyncio.Future[PipelineError | None]"
    ) -> None:
        fetched = self._get()
        with suppress(RuntimeError):  # the loop is closed, and no request waits for the token
            loop.call_soon_threadsafe(self._end_renewal, renewal, fetched)

    def _end_renewal(
        self, renewal: "asyncio.Future[PipelineError | None]", fetched: AccessToken | PipelineError
    ) -> None:
        """Store the new token, or schedule the next attempt; runs on the loop."""
        now_s, error = self._clock(), None
        if isinstance(fetched, PipelineError):
            error = fetched
            if now_s < self._expires_s:
                left_s = self._expires_s - now_s
                logger.warning("Entra ID's token expires in %.0f s and its renewal failed: %s", left_s, error)
        else:
            self._value, self._expires_s = fetched.token, float(fetched.expires_on)
        # azure-identity returns its cached token again while Entra ID is unreachable.
        self._renew_at_s = self._expires_s - _RENEW_BEFORE_S
        if self._renew_at_s > now_s:
            self._backoff_s = 0.0
        else:
            self._backoff_s = min(max(2 * self._backoff_s, _FIRST_BACKOFF_S), _MAX_BACKOFF_S)
            self._renew_at_s = now_s + self._backoff_s
        if not renewal.done():
            renewal.set_result(error)

    def _get(self) -> AccessToken | PipelineError:
        """A token, or the error that prevented it; blocks."""
        from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - only without a key

        try:
            return self._credential.get_token(_SCOPE)
        except ClientAuthenticationError:
            message = (
                "AZURE_OPENAI_API_KEY is not set and Entra ID returned no token: set the key, sign in with "
                "`az login`, or give this machine an identity."
            )
            return DeploymentError(message)
        except Exception as error:  # noqa: BLE001 - returned to the requests; the thread has no caller
            message = f"Entra ID did not answer ({type(error).__name__})"
            return RequestError(message, sent=False)


class RenewingModel:
    """A model whose requests use Entra ID's token; renews it before it expires and when it is rejected."""

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
            # A token may be revoked before it expires: retry once with a new one.
            if error.status != HTTPStatus.UNAUTHORIZED or not await self._token.renew(used):
                raise
        return await self._model.complete(row)


def default_credential() -> Credential:
    """azure-identity's default credential: environment, workload and managed identity, developer sign-ins."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - only without a key, and slow

    return DefaultAzureCredential()
