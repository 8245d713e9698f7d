"""Builds the gateway of a run from settings and options."""

import gc
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

from pydantic import SecretStr

from tasks.core.endpoint import Endpoint
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.request_metrics import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.options import LimitOptions
from tasks.core.prompt import Request
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings

_CLIENT = "tasks.core.llm.client"


def load_client() -> None:
    """Import the client with LlamaIndex, which takes a second or two; once per process.

    Garbage collection is off meanwhile and ignores the imported objects afterwards, since they are never
    freed. It would take a fifth of the import's time, and 5% of each row's CPU time later.
    """
    if _CLIENT in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import_module(_CLIENT)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def open_gateway(
    settings: Settings,
    request: Request,
    limits: LimitOptions,
    budget: Budget | None = None,
    on_outcome: Callable[[Outcome], object] = lambda _: None,
) -> Gateway:
    """Build a gateway to the endpoint of the settings; the caller enters it."""
    policy = RetryPolicy(max_attempts=limits.max_attempts, attempt_timeout_s=limits.attempt_timeout_s)
    specs = [_lane_spec(settings.endpoint, settings.azure_openai_api_key, request, limits)]
    return Gateway(specs, policy, budget, on_outcome, RequestMetrics(request))


def _lane_spec(endpoint: Endpoint, key: SecretStr | None, request: Request, limits: LimitOptions) -> LaneSpec:
    def open_model(metered: Callable[[ChatModel], ChatModel]) -> AbstractAsyncContextManager[ChatModel]:
        load_client()
        from tasks.core.llm import client  # noqa: PLC0415 - see `load_client`

        return client.open_model(
            endpoint,
            request,
            key,
            max_connections=limits.max_concurrent,
            timeout_s=limits.attempt_timeout_s,
            metered=metered,
        )

    def make_limiter() -> Limiter:
        return Limiter(
            limits.max_concurrent,
            max_wait_s=limits.max_wait_s,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
        )

    return LaneSpec(open_model, make_limiter, request.quota_tokens)
