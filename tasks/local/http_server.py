"""HTTP server of the local endpoint: sends replies, and injects faults into connections (reset, hang, drip).

It also serves `/stats`, `/rows`, `/bodies`, `/reset` and `/configure`. It binds to 127.0.0.1 only, and leaves
no socket and no task behind. The content of replies comes from `replies`.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, Self

from aiohttp import web

from tasks.local.chat_protocol import Target, parse_target
from tasks.local.counters import CountedRequest
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.replies import Reply, ReplyBuilder

HOST: Final = "127.0.0.1"
DRIP_S: Final = 0.1
"""Seconds between two bytes of a drip: slow enough to pass any read timeout before the body is complete."""
GRACE_S: Final = 0.01
"""For handlers to finish when the endpoint stops; short, since tests wait for it, and aiohttp treats 0 as
"no limit"."""
_ROW: Final = re.compile("/rows/([0-9a-f]{1,16})")
BACKLOG: Final = 4096
"""Higher than the largest window of a test, so that no connection is refused; the kernel may lower it."""


class EndpointServer:
    """An endpoint in the running event loop; created, used and stopped in that loop."""

    def __init__(self, config: EndpointConfig) -> None:
        """Create the server without opening a socket."""
        self.replies = ReplyBuilder(config)
        self.port = config.port
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        """Start listening; from now on `port` is the real port.

        Raises:
            OSError: The port is taken.
        """
        # A handler is cancelled when its client disconnects, so that abandoned requests are counted.
        self._web = web.Server(self._handle, access_log=None, handler_cancellation=True)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, HOST, self.port, backlog=BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the listener and all connections, also those with requests in flight."""
        if self._listener is not None and self._web is not None:
            self._listener.close()
            self._web.pre_shutdown()
            await self._web.shutdown(timeout=GRACE_S)
            await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = parse_target(request.raw_path)
        if target is not None and request.method == "POST":
            return await self._chat(request, target)
        return await self._control(request)

    async def _chat(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        with CountedRequest(self.replies.counters) as flight:
            raw = await request.content.read()
            reply = self.replies.reply_to(target, request.headers, raw)
            if reply.wait_s:
                await asyncio.sleep(reply.wait_s)
            response = await self._respond(request, reply)
            flight.status = reply.status
            if reply.paid:
                self.replies.counters.count_paid(*reply.paid)
            return response

    async def _respond(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Build the response, or apply a fault to the connection."""
        if reply.connection_kind == "reset":
            _reset(request)
        if reply.connection_kind in {"reset", "hang"}:
            # Ends by cancellation when the connection is closed.
            await asyncio.Event().wait()
        if reply.connection_kind == "drip":
            return await _drip(request, reply)
        headers = dict(reply.headers)
        if "location" in headers:
            headers["location"] = headers["location"].format(port=self.port)
        headers["Content-Type"] = reply.content_type
        return web.Response(body=reply.body, status=reply.status, headers=headers)

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle all other paths; they require no API key."""
        path = request.path
        replies = self.replies
        if path.startswith("/redirected/"):
            replies.counters.redirects_followed += 1
        handlers: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/stats"): lambda: asdict(replies.counters.snapshot()),
            ("GET", "/bodies"): lambda: [asdict(body) for body in replies.counters.bodies],
            ("POST", "/reset"): replies.counters.reset,
        }
        if (handler := handlers.get((request.method, path))) is not None:
            return _json(handler())
        if (found := _ROW.fullmatch(path)) and request.method == "GET":
            return _json(asdict(replies.counters.row(int(found[1], 16))))
        if (request.method, path) == ("POST", "/configure"):
            return self._configure(await request.content.read())
        return _json({"error": {"code": "404", "message": "Resource not found"}}, 404)

    def _configure(self, raw: bytes) -> web.Response:
        try:
            self.replies.configure(dict(json.loads(raw)))
        except (TypeError, ValueError) as error:
            return _json({"error": {"code": "400", "message": str(error)}}, 400)
        return _json(asdict(self.replies.config) | {"api_key": None})


def _json(value: object, status: int = 200) -> web.Response:
    return web.json_response(value, status=status)


def _reset(request: web.BaseRequest) -> None:
    """Close the connection with a TCP reset."""
    transport = request.transport
    if transport is not None:
        linger_off = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        transport.abort()


async def _drip(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send the headers at once and the body one byte at a time."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    await response.prepare(request)
    for byte in reply.body:
        await response.write(bytes([byte]))
        await asyncio.sleep(DRIP_S)
    await response.write_eof()
    return response
