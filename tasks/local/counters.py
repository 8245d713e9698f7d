"""Counters of the local endpoint: requests, replies, rows, and the peak number in flight.

`requests == answered + abandoned + in_flight` always holds, because only `CountedRequest` changes them. Not
thread-safe: used only in the endpoint's event loop.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the counters.

    Attributes:
        requests: Chat completion requests that arrived, rejected ones included.
        answered: Requests that got a reply of any status.
        abandoned: Requests without a reply: the client disconnected, or a fault reset the connection.
        in_flight: Requests that have not ended yet.
        peak_in_flight: The highest value of `in_flight`.
        paid: Replies Azure would bill: status 200, and refusals of the content filter.
        prompt_tokens: Prompt tokens of the paid replies.
        completion_tokens: Completion tokens of the paid replies.
        rows: Number of different texts.
        row_requests_max: Most requests with the same text.
        row_paid_max: Most paid replies to the same text.
        redirects_followed: Requests to the target of the redirect fault; a careful client makes none.
        first_request_s: Arrival of the first request, on the monotonic clock that all processes of a
            machine share; None without requests, like the next two.
        last_request_s: Arrival of the latest request.
        last_reply_s: Time of the latest reply.
        requests_by_status: Number of replies per HTTP status.
    """

    requests: int = 0
    answered: int = 0
    abandoned: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    paid: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rows: int = 0
    row_requests_max: int = 0
    row_paid_max: int = 0
    redirects_followed: int = 0
    first_request_s: float | None = None
    last_request_s: float | None = None
    last_reply_s: float | None = None
    requests_by_status: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowCount:
    """Number of requests and of paid replies of one text."""

    requests: int
    paid: int


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it arrived; API key and bearer token are replaced by `***`."""

    deployment: str
    api_version: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


def row_digest(text: str) -> int:
    """A 64-bit hash of a text, which may contain lone surrogates."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class Counters:
    """All counters of one endpoint."""

    def __init__(self) -> None:
        """Set all counters to zero."""
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Set all counters to zero, except for requests in flight."""
        self.requests = self.peak_in_flight = self.in_flight
        self.answered = self.abandoned = self.redirects_followed = 0
        self.paid = self.prompt_tokens = self.completion_tokens = 0
        self.first_request_s: float | None = None
        self.last_request_s: float | None = None
        self.last_reply_s: float | None = None
        self.by_status: dict[int, int] = {}
        self.by_row: dict[int, int] = {}
        self.paid_by_row: dict[int, int] = {}
        self.by_deployment: dict[str, int] = {}
        self.bodies: list[RecordedRequest] = []

    def count_request(self, deployment: str, row: int) -> None:
        """Count a request for a row, before any check can reject it."""
        self.by_row[row] = self.by_row.get(row, 0) + 1
        self.by_deployment[deployment] = self.by_deployment.get(deployment, 0) + 1

    def count_paid(self, row: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a reply that Azure would bill."""
        self.paid += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.paid_by_row[row] = self.paid_by_row.get(row, 0) + 1

    def row(self, row: int) -> RowCount:
        """Requests and paid replies of a row."""
        return RowCount(self.by_row.get(row, 0), self.paid_by_row.get(row, 0))

    def snapshot(self) -> Stats:
        """Current values of the counters."""
        return Stats(
            requests=self.requests,
            answered=self.answered,
            abandoned=self.abandoned,
            in_flight=self.in_flight,
            peak_in_flight=self.peak_in_flight,
            paid=self.paid,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            rows=len(self.by_row),
            row_requests_max=max(self.by_row.values(), default=0),
            row_paid_max=max(self.paid_by_row.values(), default=0),
            redirects_followed=self.redirects_followed,
            first_request_s=self.first_request_s,
            last_request_s=self.last_request_s,
            last_reply_s=self.last_reply_s,
            requests_by_status=dict(self.by_status),
        )


class CountedRequest:
    """Counts one request from arrival to end; it counts as abandoned unless `status` was set."""

    __slots__ = ("_counters", "status")

    def __init__(self, counters: Counters) -> None:
        """Use these counters."""
        self._counters = counters
        self.status: int | None = None

    def __enter__(self) -> Self:
        """Count the arrival."""
        counters = self._counters
        counters.requests += 1
        counters.in_flight += 1
        counters.peak_in_flight = max(counters.peak_in_flight, counters.in_flight)
        counters.last_request_s = time.monotonic()
        if counters.first_request_s is None:
            counters.first_request_s = counters.last_request_s
        return self

    def __exit__(self, *_: object) -> None:
        """Count the end."""
        counters = self._counters
        counters.in_flight -= 1
        if self.status is None:
            counters.abandoned += 1
        else:
            counters.answered += 1
            counters.last_reply_s = time.monotonic()
            counters.by_status[self.status] = counters.by_status.get(self.status, 0) + 1
