"""A gateway as a run needs it: built from what a person chose and what the environment says."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from tasks.core.calls.budget import Budget
from tasks.core.calls.chatmodel import ChatModel
from tasks.core.calls.telemetry import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.options import LimitOptions
from tasks.core.pace.limiter import Limiter
from tasks.core.prompt import Request
from tasks.core.rows.gateway import Gateway
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings


def open_gateway(
    settings: Settings,
    request: Request,
    limits: LimitOptions,
    budget: Budget | None = None,
    on_outcome: Callable[[Outcome], object] = lambda _: None,
) -> Gateway:
    """A gateway to the deployment of the settings; to be entered."""

    def open_model(measured: Callable[[ChatModel], ChatModel]) -> AbstractAsyncContextManager[ChatModel]:
        from tasks.core.calls import llm  # noqa: PLC0415 - imports LlamaIndex, which takes seconds

        return llm.open_model(
            settings,
            request,
            max_connections=limits.max_concurrent,
            timeout_s=limits.attempt_timeout_s,
            measured=measured,
        )

    policy = RetryPolicy(max_attempts=limits.max_attempts, attempt_timeout_s=limits.attempt_timeout_s)
    return Gateway(
        open_model,
        lambda: Limiter(
            limits.max_concurrent,
            max_wait_s=limits.max_wait_s,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            tokens_of=request.charged_tokens,
        ),
        policy,
        budget,
        on_outcome,
        RequestMetrics(request),
    )
