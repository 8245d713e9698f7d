"""Models and summarizers of texts, for tests whose rows consist of a text only."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol

from tasks.core.llm.chat_model import Answer
from tasks.core.model import Outcome
from tasks.core.prompt import Prompt, RenderedRow, Request
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.lane import Lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer

TEXT_ONLY = Request(model="m", prompt=Prompt("{text}"), temperature=0.0, max_output_tokens=9)
"""The only message of a row is its text."""


class TextModel(Protocol):
    """Returns the outcome of a text, or raises what a ``ChatModel`` raises."""

    async def summarize(self, text: str) -> Outcome: ...


class OfTexts:
    """A ``ChatModel`` that passes a row's text to a model of texts."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    async def complete(self, row: RenderedRow) -> Answer:
        return Answer(await self._model.summarize(row.messages[-1][1]))


class Rendered:
    """The rows of texts, rendered while they are pulled; has a length if the texts have one."""

    def __init__(self, texts: Iterable[object], request: Request = TEXT_ONLY) -> None:
        self._texts = texts
        self._request = request

    def __iter__(self) -> Iterator[Row]:
        return map(self._request.render, self._texts)

    def __length_hint__(self) -> int:
        return len(self._texts) if isinstance(self._texts, Sized) else NotImplemented


def row_of(text: str, request: Request = TEXT_ONLY) -> RenderedRow:
    """Render a text that can be sent."""
    row = request.render(text)
    assert isinstance(row, RenderedRow)
    return row


class TextSummarizer:
    """A summarizer of texts with one lane."""

    def __init__(
        self,
        model: TextModel,
        limiter: Limiter,
        policy: RetryPolicy = RetryPolicy(),
        on_outcome: Callable[[Outcome], object] = lambda _: None,
        tokens: float = 0.0,
    ) -> None:
        lane = Lane(OfTexts(model), limiter, lambda _: tokens)
        self._summarizer = Summarizer([lane], policy, on_outcome=on_outcome)

    async def summarize(self, texts: Iterable[object], on_row: OnRow = lambda *_: None) -> list[Outcome]:
        return await self._summarizer.summarize(Rendered(texts), on_row)
