"""Functions for scripts: summarize one text or many, in order, without Parquet, ledger or report.

The same summarizer the pipeline runs on, opened for one call in the caller's own event loop::

    import asyncio
    from tasks.core import parallel_summarize

    outcomes = asyncio.run(parallel_summarize(["First text ...", "Second text ..."]))
    print([outcome.text for outcome in outcomes])
"""

import asyncio
import operator
from collections.abc import Callable, Iterable

from tasks.core import terminal
from tasks.core.errors import InputError
from tasks.core.model import Outcome, Text
from tasks.core.options import DEFAULT_PROMPT
from tasks.core.prompt import Prompt, Request
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.lane import Lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer
from tasks.core.settings import Settings


async def asummarize(text: str, *, prompt: str = DEFAULT_PROMPT, max_tokens: int = 256) -> Outcome:
    """Summarize one text with the deployment that the environment names.

    Args:
        text: The text.
        prompt: The instruction; see ``options.DEFAULT_PROMPT``.
        max_tokens: Longest reply, in tokens.

    Raises:
        SettingsError: An environment variable is missing or wrong.
        StopRunError: The deployment serves no request.
    """
    [outcome] = await _summarize([text], 1, prompt, max_tokens, lambda _: None)
    return outcome


async def parallel_summarize(
    texts: Iterable[Text],
    max_concurrent: int = 4,
    *,
    prompt: str = DEFAULT_PROMPT,
    max_tokens: int = 256,
    progress: bool = True,
) -> list[Outcome]:
    """Summarize many texts, at most ``max_concurrent`` at once.

    Args:
        texts: The texts, pulled as requests end; None or blank needs no request.
        max_concurrent: Requests in flight at most.
        prompt: The instruction; see ``options.DEFAULT_PROMPT``.
        max_tokens: Longest reply, in tokens.
        progress: Show a progress bar on stderr.

    Returns:
        One outcome per text, in the texts' order, whatever order replies came in.

    Raises:
        InputError: An argument is wrong.
        SettingsError: An environment variable is missing or wrong.
        StopRunError: The deployment serves no request.
    """
    total = operator.length_hint(texts, 0) or None
    with terminal.progress_bar(total, is_shown=progress) as bar:
        outcomes = await _summarize(texts, max_concurrent, prompt, max_tokens, lambda _: bar.update())
    if progress:
        # Not on the loop: writing to a paused terminal blocks.
        await asyncio.to_thread(terminal.drain)
    return outcomes


async def _summarize(
    texts: Iterable[Text],
    max_concurrent: int,
    prompt: str,
    max_tokens: int,
    on_outcome: Callable[[Outcome], object],
) -> list[Outcome]:
    if isinstance(texts, str):
        message = "texts is one string: give a list of texts, or use asummarize."
        raise InputError(message)
    if max_concurrent < 1 or max_tokens < 1:
        message = "max_concurrent and max_tokens must be at least 1."
        raise InputError(message)
    settings, policy = Settings.from_environment(), RetryPolicy()
    settings.check_needs_no_prefect()
    request = Request(
        model=settings.model_name,
        prompt=Prompt(prompt),
        temperature=0.0,
        max_output_tokens=max_tokens,
    )
    from tasks.core.llm.client import open_model  # noqa: PLC0415 - imports LlamaIndex, which takes seconds

    async with open_model(
        settings.endpoint,
        request,
        settings.azure_openai_api_key,
        max_connections=max_concurrent,
        timeout_s=policy.attempt_timeout_s,
    ) as model:
        lane = Lane(model, Limiter(max_concurrent), request.quota_tokens)
        return await Summarizer([lane], policy, on_outcome=on_outcome).summarize(map(request.render, texts))
