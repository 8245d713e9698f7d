"""Builds the reply to each request: checks key, fault and quota in Azure's order, then completes.

Building a reply never waits, so requests are counted and charged in their order of arrival. `http_server`
applies the latency and the faults of the connection.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tasks.local import chat_protocol
from tasks.local.counters import Counters, RecordedRequest
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.fault_spec import FaultSpec, fault_for, markers
from tasks.local.faults import CONNECTION_KINDS, ODD_REPLIES, REFUSALS, RESOURCE_NOT_FOUND, SECOND_MS, Refusal
from tasks.local.quota import Quota

_SECRET_HEADERS: Final = frozenset({"api-key", "authorization"})


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request.

    Attributes:
        status: HTTP status.
        body: The whole body.
        headers: Headers beyond those of HTTP itself.
        content_type: The body's type.
        wait_s: Seconds to wait before it is sent.
        connection_kind: The connection's fault (`reset`, `hang` or `drip`); None for a normal reply.
        paid: Row, prompt tokens and completion tokens that Azure would bill; None when it would not.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    content_type: str = "application/json"
    wait_s: float = 0.0
    connection_kind: str | None = None
    paid: tuple[int, int, int] | None = None


class ReplyBuilder:
    """Builds replies from settings, quota, counters and random numbers; used only in the event loop."""

    def __init__(self, config: EndpointConfig) -> None:
        """Start with full token buckets and a new random sequence."""
        self.config = config
        self.counters = Counters()
        self.quota = Quota(config.requests_per_minute, config.tokens_per_minute, config.bucket_window_s)
        self._seed()
        self._read_faults()

    def _seed(self) -> None:
        self._random = random.Random(self.config.seed)  # noqa: S311 - latencies, no secrets

    def _read_faults(self) -> None:
        self._by_deployment = {name: [FaultSpec.parse(text)] for name, text in self.config.faults.items()}
        self._drawn = FaultSpec.parse(self.config.fault_kind)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next request on; a changed quota keeps the levels of its buckets.

        Raises:
            ValueError: A setting is unknown, out of range, or cannot change while running.
        """
        if "port" in changes:
            message = "port cannot change while the endpoint runs"
            raise ValueError(message)
        try:
            config = replace(self.config, **changes)
        except TypeError as error:
            raise ValueError(str(error)) from None
        self.quota.resize(config.requests_per_minute, config.tokens_per_minute, config.bucket_window_s)
        self.config = config
        self._read_faults()
        if "seed" in changes:
            self._seed()

    def reply_to(self, target: chat_protocol.Target, headers: Mapping[str, str], raw: bytes) -> Reply:
        """Count one request, charge the quota, and return the reply; never waits."""
        if not target.api_version or not target.deployment:
            return self._refuse(RESOURCE_NOT_FOUND, target)
        if not self._is_key_valid(headers):
            return self._refuse(REFUSALS["unauthorized"], target)
        try:
            request = chat_protocol.parse_request(raw)
            self._count(target, headers, request)
            fault = self._fault(target, request)
        except ValueError as error:
            return self._refuse(_with_message(REFUSALS["bad-request"], str(error)), target)
        return self._admit(target, request, fault)

    def _admit(
        self, target: chat_protocol.Target, request: chat_protocol.ChatRequest, fault: FaultSpec | None
    ) -> Reply:
        """Reply to a valid request: faults on arrival first, then the quota, then faults of the model."""
        refusal = REFUSALS.get(fault.kind) if fault else None
        if fault and refusal and refusal.on_arrival:
            return self._refuse(refusal, target, retry_after_ms=fault.retry_after_ms)
        wait_s = self.quota.admit(request.charged_tokens)
        if wait_s:
            wait_ms = max(math.ceil(wait_s * SECOND_MS), self.config.retry_after_min_ms)
            return self._refuse(REFUSALS["rate-limit"], target, retry_after_ms=wait_ms)
        if fault and refusal:
            refusal = _with_message(refusal, refusal.error["message"].replace("{text}", request.text))
            return self._refuse(refusal, target, request, retry_after_ms=fault.retry_after_ms)
        return self._complete(target, request, fault)

    def _is_key_valid(self, headers: Mapping[str, str]) -> bool:
        key = headers.get("api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        expected = self.config.api_key
        return bool(key) if expected is None else key == expected

    def _count(
        self, target: chat_protocol.Target, headers: Mapping[str, str], request: chat_protocol.ChatRequest
    ) -> None:
        self.counters.count_request(target.deployment, request.row)
        if self.config.record_bodies:
            shown = {name.lower(): value for name, value in headers.items()}
            shown.update(dict.fromkeys(_SECRET_HEADERS & shown.keys(), "***"))
            recorded = RecordedRequest(target.deployment, target.api_version, shown, request.body)
            self.counters.bodies.append(recorded)

    def _fault(self, target: chat_protocol.Target, request: chat_protocol.ChatRequest) -> FaultSpec | None:
        """The request's fault: that of its deployment, else of its text, else a random one; or None."""
        counters, deployment = self.counters, target.deployment
        if specs := self._by_deployment.get(deployment):
            return fault_for(specs, counters.by_deployment[deployment])
        if specs := markers(request.text):
            return fault_for(specs, counters.by_row[request.row])
        if self.config.fault_rate and self._random.random() < self.config.fault_rate:
            return self._drawn
        return None

    def _latency_s(self) -> float:
        config = self.config
        spread = math.exp(config.sigma * self._random.gauss(0, 1)) if config.sigma else 1.0
        return config.latency_ms / SECOND_MS * spread

    def _headers(self) -> dict[str, str]:
        request_id = f"{random.getrandbits(128):032x}"
        return {"x-request-id": request_id, "apim-request-id": request_id, **self.quota.headers()}

    def _refuse(
        self,
        refusal: Refusal,
        target: chat_protocol.Target,
        request: chat_protocol.ChatRequest | None = None,
        retry_after_ms: int | None = None,
    ) -> Reply:
        headers = self._headers()
        wait_ms = refusal.retry_after_ms if retry_after_ms is None else retry_after_ms
        if wait_ms is not None:
            headers |= {"retry-after": str(math.ceil(wait_ms / SECOND_MS)), "retry-after-ms": str(wait_ms)}
        return Reply(
            refusal.status,
            refusal.body(target.api_version, wait_ms or 0),
            headers,
            wait_s=0.0 if refusal.on_arrival else self._latency_s(),
            paid=(request.row, request.prompt_tokens, 0) if request and refusal.billed else None,
        )

    def _complete(
        self, target: chat_protocol.Target, request: chat_protocol.ChatRequest, fault: FaultSpec | None
    ) -> Reply:
        headers = self._headers()
        body = chat_protocol.complete(request, self.config.model, headers["x-request-id"])
        kind = fault.kind if fault else None
        if kind == "redirect":
            # To a client this is another host; it is this server, so that followed redirects are counted.
            location = f"http://localhost:{{port}}/redirected/{target.deployment}"
            return Reply(307, b"", {**headers, "location": location}, wait_s=self._latency_s())
        write = ODD_REPLIES.get(kind or "")
        return Reply(
            200,
            write(body) if write else json.dumps(body).encode(),
            headers,
            "text/html" if kind == "html" else "application/json",
            self._latency_s(),
            kind if kind in CONNECTION_KINDS else None,
            (request.row, request.prompt_tokens, body["usage"]["completion_tokens"]),
        )


def _with_message(refusal: Refusal, message: str) -> Refusal:
    return replace(refusal, error={**refusal.error, "message": message})
