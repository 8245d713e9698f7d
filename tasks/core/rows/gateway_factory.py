"""A gateway as a run needs it: built from what a person chose and what the environment says."""

import gc
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

from pydantic import SecretStr

from tasks.core.endpoint import Endpoint
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.telemetry import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.options import LimitOptions
from tasks.core.prompt import Request
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.gateway import Gateway, LanePlan
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings

_CLIENT = "tasks.core.llm.client"


def load_client() -> None:
    """Import what sends requests, with LlamaIndex, which takes a second or two; once a process.

    Importing makes no garbage, and what is imported stays. To look for garbage among it takes a fifth of that
    time, and later the time of one row in twenty.
    """
    if _CLIENT in sys.modules:
        return
    looks_for_garbage = gc.isenabled()
    gc.disable()
    try:
        import_module(_CLIENT)
        gc.freeze()
    finally:
        if looks_for_garbage:
            gc.enable()


def open_gateway(
    settings: Settings,
    request: Request,
    limits: LimitOptions,
    budget: Budget | None = None,
    on_outcome: Callable[[Outcome], object] = lambda _: None,
) -> Gateway:
    """A gateway to the endpoint of the settings; to be entered."""
    policy = RetryPolicy(max_attempts=limits.max_attempts, attempt_timeout_s=limits.attempt_timeout_s)
    plans = [_lane(settings.endpoint, settings.azure_openai_api_key, request, limits)]
    return Gateway(plans, policy, budget, on_outcome, RequestMetrics(request))


def _lane(endpoint: Endpoint, key: SecretStr | None, request: Request, limits: LimitOptions) -> LanePlan:
    def open_model(metered: Callable[[ChatModel], ChatModel]) -> AbstractAsyncContextManager[ChatModel]:
        load_client()
        from tasks.core.llm import client  # noqa: PLC0415 - see there

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

    return LanePlan(open_model, make_limiter, request.charged_tokens)
