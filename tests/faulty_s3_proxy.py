"""A proxy in front of the S3 server that injects faults, in the ways real stores fail.

Without a fault, requests pass unchanged with their signatures. ``heal`` ends the fault and all hanging
requests.
"""

import asyncio
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

Status = Literal["503", "403", "500", "501", "409"]
Failure = Literal[
    "hang", "drop", "lose reply", "hang reply", "hold", "empty", "pretend", "garble", "error in 200"
]
Kind = Status | Failure
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_CODES = {
    "503": "SlowDown",
    "403": "AccessDenied",
    "500": "InternalError",
    "501": "NotImplemented",
    "409": "ConditionalRequestConflict",
    "error in 200": "InternalError",
}
_COPIED = (
    '<CopyPartResult><ETag>"0123"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></CopyPartResult>'
)
_LARGEST_BYTES = 2**30


@dataclass(slots=True)
class Fault:
    """A fault, and the requests that get it.

    Attributes:
        kind: Not forwarded: an HTTP status, no reply (hang), a closed connection (drop), a reply without
            content (empty), a faked reply to a part copy (pretend), an error with status 200. Forwarded: the
            reply is lost (lose reply), never sent (hang reply) or reversed (garble), or the request is
            delayed until ``heal`` (hold).
        methods: HTTP methods of affected requests.
        path: Pattern in the path of affected requests.
        operation: S3's name of affected requests; empty for all.
        skips: Number of requests that pass first.
        query: Pattern in the query of affected requests.
        times: Number of requests to affect; None for all until ``heal``.
        met: Number of requests affected so far.
        reached: Set when ``times`` requests were affected; without ``times``, with the first one.
    """

    kind: Kind
    methods: frozenset[str]
    path: re.Pattern[str]
    operation: str = ""
    skips: int = 0
    query: re.Pattern[str] = re.compile("")
    times: int | None = None
    met: int = 0
    reached: threading.Event = field(default_factory=threading.Event)

    def takes(self, request: web.Request) -> bool:
        """Whether this request is affected; counts it."""
        used_up = self.times is not None and self.met >= self.times
        if used_up or request.method not in self.methods or not self.path.search(request.path):
            return False
        if self.operation not in {"", operation_of(request)}:
            return False
        if not self.query.search(request.rel_url.raw_query_string):
            return False
        if self.skips:
            self.skips -= 1
            return False
        self.met += 1
        if self.times in {None, self.met}:
            self.reached.set()
        return True


def operation_of(request: web.Request) -> str:
    """S3's name of a request for an object or an upload."""
    if "uploads" in request.query:
        return "CreateMultipartUpload" if request.method == "POST" else "ListMultipartUploads"
    if "uploadId" not in request.query:
        return f"{request.method.capitalize()}Object"
    if "X-Amz-Copy-Source" in request.headers:
        return "UploadPartCopy"
    names = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
    return names.get(request.method, "ListParts")


class FaultyProxy:
    """The running proxy; its methods may be called from any thread.

    Attributes:
        url: Its address, to use as the store's.
        bytes_moved: Bytes of all request and reply bodies.
        operations: S3's names of all requests, in order.
    """

    url = ""
    bytes_moved = 0

    def __init__(self, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._fault: Fault | None = None
        self._healed = asyncio.Event()
        self.operations: list[str] = []

    def inject(
        self,
        kind: Kind,
        methods: str = "GET HEAD PUT POST DELETE",
        path: str = "",
        times: int | None = None,
        *,
        operation: str = "",
        skips: int = 0,
        query: str = "",
    ) -> Fault:
        """Inject a fault from now on; it replaces the current one."""
        fault = Fault(
            kind, frozenset(methods.split()), re.compile(path), operation, skips, re.compile(query), times
        )

        async def set_fault() -> None:
            self._fault, self._healed = fault, asyncio.Event()

        asyncio.run_coroutine_threadsafe(set_fault(), self._loop).result()
        return fault

    def heal(self) -> None:
        """End the fault."""

        async def end_fault() -> None:
            self._fault = None
            self._healed.set()

        asyncio.run_coroutine_threadsafe(end_fault(), self._loop).result()

    async def serve(self, ready: threading.Event, ended: asyncio.Event) -> None:
        """Listen until ``ended`` is set; hanging requests are dropped then."""
        app = web.Application(client_max_size=_LARGEST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = "http://127.0.0.1:{1}".format(*runner.addresses[0])
            ready.set()
            await ended.wait()
            self._healed.set()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bytes_moved += len(body)
        self.operations.append(operation_of(request))
        fault, healed = self._fault, self._healed
        if fault is None or not fault.takes(request):
            return await self._forward(request, body)
        if fault.kind in _CODES:
            text = f"<Error><Code>{_CODES[fault.kind]}</Code><Message>on purpose</Message></Error>"
            status = int(fault.kind) if fault.kind.isdigit() else 200
            return web.Response(status=status, text=text, content_type="application/xml")
        if fault.kind in {"empty", "pretend"}:
            return web.Response(
                text=_COPIED if fault.kind == "pretend" else "", content_type="application/xml"
            )
        if fault.kind in {"lose reply", "hang reply"}:
            await self._forward(request, body)
        if fault.kind in {"hang", "hang reply", "hold"}:
            await healed.wait()
        if fault.kind in {"hold", "garble"}:
            reply = await self._forward(request, body)
            if fault.kind == "garble" and isinstance(reply.body, bytes):
                reply.body = reply.body[::-1]
            return reply
        if request.transport:
            request.transport.abort()
        return web.Response()

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        """Forward a request, and return the reply; the header Host is kept, since it is signed."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"expect", "connection"}}
        url = URL(f"{self._upstream}{request.raw_path}", encoded=True)
        skipped = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
        content = io.BytesIO(body) if body else None
        async with self._session.request(
            request.method, url, headers=headers, data=content, skip_auto_headers=skipped
        ) as reply:
            kept = {k: v for k, v in reply.headers.items() if k.lower() not in _HOP_BY_HOP}
            if request.method == "HEAD" and "Content-Length" in reply.headers:
                kept["Content-Length"] = reply.headers["Content-Length"]
            answer = await reply.read()
            self.bytes_moved += len(answer)
            return web.Response(status=reply.status, headers=kept, body=answer)


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of a server, in its own thread."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    proxy = FaultyProxy(upstream, loop)
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(ready, ended)), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
