"""HTTP connections to the deployment, in one aiohttp session.

httpx's connection pool, which openai's SDK uses, scans all connections at the start and end of every request,
so its CPU time grows with the requests in flight; aiohttp's does not. Redirects are not followed (the key and
the row's text would go to another host), TLS is verified, no cookie is stored, and an error states whether
the request was sent.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import httpx

from tasks.core.llm import response_policy

_CONNECT_TIMEOUT_S = 10.0
"""Shorter fails on slow networks; longer delays the retry, and the report of a wrong host. Chosen, not
measured."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP reply as received: status, headers as raw names and values, and the body, not decompressed."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Transport:
    """Connections to the deployment; a context manager that belongs to the loop it is opened in.

    Args:
        max_connections: Connections at most, all kept alive; as many as requests may be in flight.
        timeout_s: Longest pause while a reply is read.
        use_environment_proxies: Use the proxy of ``HTTPS_PROXY`` and similar variables.
    """

    def __init__(
        self, *, max_connections: int, timeout_s: float, use_environment_proxies: bool = False
    ) -> None:
        self._max_connections = max_connections
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=timeout_s
        )
        self._use_environment_proxies = use_environment_proxies
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session in the running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=httpx.create_ssl_context()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # `sdk_bypass` does it
            timeout=self._timeout,
            trust_env=self._use_environment_proxies,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpReply:
        """Send a request and read its reply to the end.

        Raises:
            RequestError: There was no complete reply; the error states whether the request was sent.
        """
        if self._session is None:
            message = "open the transport with `async with` first"
            raise RuntimeError(message)
        try:
            # A file object, so that aiohttp sends a large body in pieces.
            sending = self._session.post(url, data=io.BytesIO(body), headers=headers, allow_redirects=False)
            async with sending as reply:
                return HttpReply(reply.status, reply.raw_headers, await reply.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise response_policy.not_answered(sent=False) from None
        except (aiohttp.ClientError, TimeoutError):
            raise response_policy.not_answered(sent=True) from None
