"""The handle on a running endpoint: one for an endpoint in this process, one for any other over HTTP.

Here: `Endpoint`, what both can do, and the two that do it. Not here: starting and stopping (`endpoint.py`,
`spawn.py`). Invariant: both answer the same questions with the same types, from any thread; a local
endpoint's counters can be read after it stopped.
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
    """What a demo, test or benchmark can ask of an endpoint."""

    @property
    def url(self) -> str:
        """Where it listens, as `http://127.0.0.1:PORT`."""

    @property
    def bodies(self) -> Sequence[RecordedRequest]:
        """Every request since the last reset, in order of arrival, if `record_bodies` is on."""

    def stats(self) -> Stats:
        """The counters now."""

    def requests_for(self, text: str) -> int:
        """Requests whose last user message was exactly this text."""

    def paid_for(self, text: str) -> int:
        """Replies to this text that Azure would bill."""

    def configure(self, **changes: Any) -> None:
        """Change settings of `EndpointConfig` from the next request on.

        Raises:
            ValueError: A setting is unknown, out of range, or cannot change while running.
        """

    def reset(self) -> None:
        """Set the counters to zero; what is in flight stays counted."""


class LocalEndpoint:
    """An endpoint whose loop runs in another thread of this process."""

    def __init__(self, url: str, replies: ReplyBuilder, loop: asyncio.AbstractEventLoop) -> None:
        """Speak to the replies on its own loop."""
        self.url = url
        self._replies = replies
        self.loop = loop

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask on the endpoint's loop; once that is closed nothing moves any more, so ask here."""

        async def ask() -> T:
            return question()

        if self.loop.is_closed():
            return question()
        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(TIMEOUT_S)

    @property
    def bodies(self) -> tuple[RecordedRequest, ...]:
        """Every recorded request, in order of arrival."""
        return self._ask(lambda: tuple(self._replies.counters.bodies))

    def stats(self) -> Stats:
        """The counters now."""
        return self._ask(self._replies.counters.snapshot)

    def requests_for(self, text: str) -> int:
        """Requests whose last user message was exactly this text."""
        return self._ask(lambda: self._replies.counters.row(row_digest(text)).requests)

    def paid_for(self, text: str) -> int:
        """Replies to this text that Azure would bill."""
        return self._ask(lambda: self._replies.counters.row(row_digest(text)).paid)

    def configure(self, **changes: Any) -> None:
        """Change settings from the next request on."""
        self._ask(lambda: self._replies.configure(changes))

    def reset(self) -> None:
        """Set the counters to zero."""
        self._ask(self._replies.counters.reset)


class RemoteEndpoint:
    """An endpoint in another process on this machine, spoken to through its own doors."""

    def __init__(self, url: str) -> None:
        """Speak to the endpoint at this address."""
        self.url = url
        # A proxy of the environment must never see loopback traffic.
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
