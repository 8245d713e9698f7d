"""Reads counters and changes settings of a running local endpoint, in this process or in another one.

`LocalEndpoint` and `RemoteEndpoint` both implement the protocol `Endpoint`, and may be used from any thread.
The counters of a local one stay readable after it stopped.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from tasks.local.counters import RecordedRequest, RowCount, Stats, row_digest
from tasks.local.replies import ReplyBuilder

T = TypeVar("T")
TIMEOUT_S: Final = 10.0


class Endpoint(Protocol):
    """A running endpoint, as the demo, tests and benchmarks use it."""

    @property
    def url(self) -> str:
        """Its address, `http://127.0.0.1:PORT`."""

    @property
    def bodies(self) -> Sequence[RecordedRequest]:
        """Every request since the last reset, in order of arrival, if `record_bodies` is on."""

    def stats(self) -> Stats:
        """Current values of the counters."""

    def requests_for(self, text: str) -> int:
        """Number of requests whose last user message was exactly this text."""

    def paid_for(self, text: str) -> int:
        """Number of replies to this text that Azure would bill."""

    def configure(self, **changes: Any) -> None:
        """Change settings of `EndpointConfig`; they apply from the next request on.

        Raises:
            ValueError: A setting is unknown, out of range, or cannot change while running.
        """

    def reset(self) -> None:
        """Set the counters to zero; requests in flight stay counted."""


class LocalEndpoint:
    """An endpoint whose event loop runs in another thread of this process."""

    def __init__(self, url: str, replies: ReplyBuilder, loop: asyncio.AbstractEventLoop) -> None:
        """Use the replies and counters of a running endpoint, in its event loop."""
        self.url = url
        self._replies = replies
        self.loop = loop

    def _call(self, function: Callable[[], T]) -> T:
        """Call in the endpoint's event loop; directly once that is closed, since nothing changes then."""

        async def call() -> T:
            return function()

        if self.loop.is_closed():
            return function()
        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(TIMEOUT_S)

    @property
    def bodies(self) -> tuple[RecordedRequest, ...]:
        """Every recorded request, in order of arrival."""
        return self._call(lambda: tuple(self._replies.counters.bodies))

    def stats(self) -> Stats:
        """The counters now."""
        return self._call(self._replies.counters.snapshot)

    def requests_for(self, text: str) -> int:
        """Requests whose last user message was exactly this text."""
        return self._call(lambda: self._replies.counters.row(row_digest(text)).requests)

    def paid_for(self, text: str) -> int:
        """Replies to this text that Azure would bill."""
        return self._call(lambda: self._replies.counters.row(row_digest(text)).paid)

    def configure(self, **changes: Any) -> None:
        """Change settings from the next request on."""
        self._call(lambda: self._replies.configure(changes))

    def reset(self) -> None:
        """Set the counters to zero."""
        self._call(self._replies.counters.reset)


class RemoteEndpoint:
    """An endpoint in another process of this machine, used through its HTTP paths (`/stats` and others)."""

    def __init__(self, url: str) -> None:
        """Use the endpoint at this address."""
        self.url = url
        # Loopback traffic must not go through a proxy that the environment configures.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _call(self, path: str, changes: object = None) -> Any:
        data = None if changes is None else json.dumps(changes).encode()
        request = urllib.request.Request(f"{self.url}{path}", data)  # noqa: S310 - loopback
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]["message"]) from None

    def _row(self, text: str) -> RowCount:
        return RowCount(**self._call(f"/rows/{row_digest(text):x}"))

    @property
    def bodies(self) -> tuple[RecordedRequest, ...]:
        """Every recorded request, in order of arrival."""
        return tuple(RecordedRequest(**body) for body in self._call("/bodies"))

    def stats(self) -> Stats:
        """The counters now."""
        values = self._call("/stats")
        by_status = {int(status): count for status, count in values.pop("requests_by_status").items()}
        return Stats(**values, requests_by_status=by_status)

    def requests_for(self, text: str) -> int:
        """Requests whose last user message was exactly this text."""
        return self._row(text).requests

    def paid_for(self, text: str) -> int:
        """Replies to this text that Azure would bill."""
        return self._row(text).paid

    def configure(self, **changes: Any) -> None:
        """Change settings from the next request on."""
        self._call("/configure", changes)

    def reset(self) -> None:
        """Set the counters to zero."""
        self._call("/reset", {})
