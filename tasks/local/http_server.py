"""The socket side of the endpoint: listen on 127.0.0.1, wait as told, write or misbehave.

Here: the HTTP server, the acts on a connection (reset, hang, drip), and the doors `/stats`, `/rows`,
`/bodies`, `/reset` and `/configure`. Not here: what to reply (`replies.py`). Invariant: it binds to
127.0.0.1 and nothing else, and after its block no socket and no task of it is left.
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

from tasks.local.chat_protocol import Target, read_target
from tasks.local.counters import CountedRequest
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.replies import Reply, ReplyBuilder

HOST: Final = "127.0.0.1"
DRIP_S: Final = 0.1
# For handlers to end by themselves when the endpoint stops; aiohttp takes 0 for "no limit".
GRACE_S: Final = 0.01
_ROW: Final = re.compile("/rows/([0-9a-f]{1,16})")
# More than any window a test opens at once; the kernel cuts it to its own limit.
BACKLOG: Final = 4096


class EndpointServer:
    """An endpoint on the running loop; made, used and stopped in that loop."""

    def __init__(self, config: EndpointConfig) -> None:
        """Prepare, without opening a socket."""
        self.replies = ReplyBuilder(config)
        self.port = config.port
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen; `port` is the real one from here on.

        Raises:
            OSError: The port is taken.
        """
        # A handler whose client left is cancelled: that is how an abandoned request is noticed.
        self._web = web.Server(self._handle, access_log=None, handler_cancellation=True)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, HOST, self.port, backlog=BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the listener and every connection, whatever is in flight."""
        if self._listener is not None and self._web is not None:
            self._listener.close()
            self._web.pre_shutdown()
            await self._web.shutdown(timeout=GRACE_S)
            await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = read_target(request.raw_path)
        if target is not None and request.method == "POST":
            return await self._chat(request, target)
        return await self._door(request)

    async def _chat(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        with CountedRequest(self.replies.counters) as flight:
            raw = await request.content.read()
            reply = self.replies.reply_to(target, request.headers, raw)
            if reply.wait_s:
                await asyncio.sleep(reply.wait_s)
            response = await self._act(request, reply)
            flight.status = reply.status
            if reply.paid:
                self.replies.counters.count_paid(*reply.paid)
            return response

    async def _act(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Make the response, or do to the connection what the fault says."""
        if reply.connection_kind == "reset":
            _reset(request)
        if reply.connection_kind in {"reset", "hang"}:
            # Ends by cancellation, once the connection is gone.
            await asyncio.Event().wait()
        if reply.connection_kind == "drip":
            return await _drip(request, reply)
        headers = dict(reply.headers)
        if "location" in headers:
            headers["location"] = headers["location"].format(port=self.port)
        headers["Content-Type"] = reply.content_type
        return web.Response(body=reply.body, status=reply.status, headers=headers)

    async def _door(self, request: web.BaseRequest) -> web.StreamResponse:
        """Everything that is not a completion; no key is asked."""
        path = request.path
        replies = self.replies
        if path.startswith("/redirected/"):
            replies.counters.redirects_followed += 1
        doors: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/stats"): lambda: asdict(replies.counters.snapshot()),
            ("GET", "/bodies"): lambda: [asdict(body) for body in replies.counters.bodies],
            ("POST", "/reset"): replies.counters.reset,
        }
        if (door := doors.get((request.method, path))) is not None:
            return _json(door())
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
    """Close the connection so that the client sees it reset, not ended."""
    transport = request.transport
    if transport is not None:
        linger_off = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        transport.abort()


async def _drip(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send the headers at once and the body byte by byte."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    await response.prepare(request)
    for byte in reply.body:
        await response.write(bytes([byte]))
        await asyncio.sleep(DRIP_S)
    await response.write_eof()
    return response
