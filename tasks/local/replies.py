"""From a request to the reply it deserves: key, fault, quota, completion, in the order Azure checks them.

Here: the decision, and the state it needs (config, quota, counters, random numbers). Not here: the socket,
the wait and the acts on the connection (`server.py`). Invariant: deciding never waits, so a request is
counted and charged in the order of arrival.
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
    """What goes back.

    Attributes:
        status: HTTP status.
        body: The whole body.
        headers: Headers beyond those of HTTP itself.
        content_type: The body's type.
        wait_s: Seconds to wait before it is sent.
        connection_kind: `reset`, `hang` or `drip` when the connection misbehaves; else None.
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
    """The endpoint's mind. Not thread-safe: its loop owns it."""

    def __init__(self, config: EndpointConfig) -> None:
        """Start with full buckets and a fresh random sequence."""
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
        """Change settings from the next request on; a changed quota keeps what its bucket holds.

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
        """The reply to one request; counts it, charges the quota, never waits."""
        if not target.api_version or not target.deployment:
            return self._refuse(RESOURCE_NOT_FOUND, target)
        if not self._key_fits(headers):
            return self._refuse(REFUSALS["unauthorized"], target)
        try:
            request = chat_protocol.read_chat(raw)
            self._count(target, headers, request)
            fault = self._fault(target, request)
        except ValueError as error:
            return self._refuse(_explained(REFUSALS["bad-request"], str(error)), target)
        return self._admit(target, request, fault)

    def _admit(
        self, target: chat_protocol.Target, request: chat_protocol.ChatRequest, fault: FaultSpec | None
    ) -> Reply:
        """The reply to a request that is in order: the gateway's faults, the quota, then the model's."""
        refusal = REFUSALS.get(fault.kind) if fault else None
        if fault and refusal and refusal.on_arrival:
            return self._refuse(refusal, target, retry_after_ms=fault.retry_after_ms)
        wait_s = self.quota.admit(request.charged_tokens)
        if wait_s:
            wait_ms = max(math.ceil(wait_s * SECOND_MS), self.config.retry_after_min_ms)
            return self._refuse(REFUSALS["rate-limit"], target, retry_after_ms=wait_ms)
        if fault and refusal:
            told = _explained(refusal, refusal.error["message"].replace("{text}", request.text))
            return self._refuse(told, target, request, retry_after_ms=fault.retry_after_ms)
        return self._complete(target, request, fault)

    def _key_fits(self, headers: Mapping[str, str]) -> bool:
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
        """The fault this request meets: its deployment's, else its text's, else a random one."""
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
            # Another name of the same machine: another host to a client, a request to count for us.
            away = f"http://localhost:{{port}}/redirected/{target.deployment}"
            return Reply(307, b"", {**headers, "location": away}, wait_s=self._latency_s())
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


def _explained(refusal: Refusal, message: str) -> Refusal:
    return replace(refusal, error={**refusal.error, "message": message})
