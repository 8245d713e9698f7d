"""The HTTP client: httpx's interface, which openai's SDK asks for, over one aiohttp session.

httpx's own connection pool scans all connections at the start and end of every request, so its work grows
with the number of requests that wait. aiohttp's does not. This client follows no redirects (they would take
the key and the row's text to another host), verifies TLS, keeps no cookies, and says precisely whether a
failed request was ever sent. It belongs to the loop it is opened in.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import httpx

from tasks.core.pace import quota

_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came: status, headers as raw name and value, and the body, still encoded."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class AiohttpClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that sends through aiohttp; a context manager.

    Args:
        max_connections: Connections at most, all kept alive; as many as requests may be in flight.
        timeout_s: Longest silence while a reply is read.
        use_environment_proxies: Go through the proxy that ``HTTPS_PROXY`` and its like name.
    """

    def __init__(
        self, *, max_connections: int, timeout_s: float, use_environment_proxies: bool = False
    ) -> None:
        super().__init__(follow_redirects=False, timeout=timeout_s, trust_env=use_environment_proxies)
        self._use_environment_proxies = use_environment_proxies
        self._max_connections = max_connections
        self._patience = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=timeout_s
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session in the running loop."""
        await super().__aenter__()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=httpx.create_ssl_context()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # httpx does, when the response is built
            timeout=self._patience,
            trust_env=self._use_environment_proxies,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()
        await super().__aexit__(kind, error, trace)

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send a request and read its reply to the end; httpx's other options have no meaning here."""
        reply = await self.exchange(request.method, str(request.url), request.headers, request.content)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body, request=request)

    async def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send a request and read its reply to the end, without httpx's objects around it.

        Raises:
            httpx.ConnectError: There was no connection; nothing was sent.
            httpx.ReadTimeout: The reply fell silent.
            httpx.ReadError: The connection broke after the request was sent.
        """
        if self._session is None:
            message = "open the client with `async with` first"
            raise RuntimeError(message)
        try:
            # A file, so that aiohttp sends a large body in pieces.
            sending = self._session.request(
                method, url, data=io.BytesIO(body), headers=headers, allow_redirects=False
            )
            async with sending as reply:
                quota.let_hear(reply.raw_headers)
                return Reply(reply.status, reply.raw_headers, await reply.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(type(error).__name__) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise httpx.ReadError(type(error).__name__) from error
