"""One event loop, one client, one limiter for a run; partition threads hand it their rows.

The loop runs in a thread of its own. What belongs to it, the client first of all, is built and closed there:
a client used from two loops hangs or pays twice. Once the gateway closes, no further request starts, those in
flight have a few seconds, and every call that waits in it ends.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import NoReturn, Self

from tasks.core.errors import InterruptedRunError, StopRunError
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.metering import MeteredModel
from tasks.core.llm.telemetry import RequestMetrics
from tasks.core.model import Outcome, Text
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.histogram import Histograms
from tasks.core.reporting.tally import Bill
from tasks.core.rows.batch import OnRow
from tasks.core.rows.summarizer import RetryPolicy, Summarizer

logger = logging.getLogger(__name__)

_GRACE_S = 5.0

OpenModel = Callable[[Callable[[ChatModel], ChatModel]], AbstractAsyncContextManager[ChatModel]]


class Gateway:
    """Where partition threads hand in rows and get outcomes; a context manager.

    Args:
        open_model: Opens the model in the gateway's loop, with what it is given around the part that sends.
        make_limiter: Builds the limiter in the gateway's loop.
        policy: How patiently a row is tried.
        budget: What may be spent.
        on_outcome: Called with each outcome, for progress; on the gateway's thread.
        metrics: Told of every request.
        grace_s: How long requests in flight may still be answered when the gateway closes.
    """

    def __init__(
        self,
        open_model: OpenModel,
        make_limiter: Callable[[], Limiter],
        policy: RetryPolicy,
        budget: Budget | None = None,
        on_outcome: Callable[[Outcome], object] = lambda _: None,
        metrics: RequestMetrics | None = None,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._open_model = open_model
        self._make_limiter = make_limiter
        self._policy = policy
        self._budget = budget or Budget()
        self._metered: MeteredModel | None = None
        self._on_outcome = on_outcome
        self._metrics = metrics
        self._grace_s = grace_s
        self._ready: Future[Summarizer] = Future()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        # Guards the last moment work is taken: after it, everything taken is cancelled, and nothing is lost.
        self._door = threading.Lock()
        self._is_shut = False
        self._limiter: Limiter | None = None
        self._stopped: StopRunError | None = None

    def __enter__(self) -> Self:
        """Start the loop and open the model.

        Raises:
            SettingsError: LlamaIndex does not know the model.
            DeploymentError: There is neither key nor token.
            RequestError: Entra ID did not answer.
        """
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still waits, close the model, stop the loop."""
        with self._door:
            self._is_shut = True
        if self._loop and self._closing and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    @property
    def bill(self) -> Bill:
        """What was sent and received; final once the gateway is closed."""
        return self._metered.bill if self._metered else Bill()

    @property
    def state(self) -> str:
        """What the limiter does, in a few words for people; from any thread."""
        return self._limiter.state if self._limiter else "not open"

    @property
    def histograms(self) -> Histograms:
        """What answered requests took; final once the gateway is closed."""
        return self._metered.histograms if self._metered else Histograms()

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return self._limiter.in_flight if self._limiter else 0

    @property
    def window(self) -> int:
        """Requests allowed in flight now."""
        return self._limiter.window if self._limiter else 0

    def begin(
        self, texts: Iterable[Text], keys: Sequence[bytes | None] = (), on_row: OnRow = lambda *_: None
    ) -> Callable[[], list[Outcome]]:
        """Take rows and return at once; from as many threads as there are.

        Args:
            texts: The rows' texts; pulled on the gateway's thread.
            keys: The rows' keys; rows with equal keys are requested once.
            on_row: Called on the gateway's thread with a row's place and its outcome, the moment it is there.

        Returns:
            Waits for the rows, blocking the thread that calls it: one outcome per row, in the rows' order. It
            raises StopRunError when no row would be served, or the gateway was closed meanwhile.
        """
        summarizer = self._ready.result()
        with self._door:
            if self._is_shut or self._loop is None:
                return _raise_interrupted
            begun = asyncio.run_coroutine_threadsafe(summarizer.summarize(texts, keys, on_row), self._loop)

        def wait() -> list[Outcome]:
            try:
                return begun.result()
            except CancelledError:
                raise _interrupted() from None

        return wait

    def stop(self, error: StopRunError) -> None:
        """Let no further request start; from any thread, and no harm when the gateway is closed already.

        Args:
            error: Why; raised in every partition that still has rows to request.
        """
        self._stopped = self._stopped or error
        if self._loop and self._limiter:
            with suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._limiter.stop, error)

    def check(self) -> None:
        """Refuse to begin what could not be finished.

        Raises:
            StopRunError: The gateway was told to stop, or the deployment serves no row.
        """
        if stopped := self._stopped or (self._limiter and self._limiter.stopped_by):
            raise stopped

    def _run(self) -> None:
        try:
            # Leaving asyncio.run cancels what is still running, which ends every waiting partition thread.
            asyncio.run(self._serve())
        except Exception as error:  # an edge: told to the thread that waits for the start, or recorded
            if self._ready.done():
                logger.exception("The gateway did not close in order")
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        async with self._open_model(self._measured) as model:
            self._limiter = limiter = self._make_limiter()
            if self._stopped:
                limiter.stop(self._stopped)
            summarizer = Summarizer(model, limiter, self._policy, on_outcome=self._on_outcome)
            self._ready.set_result(summarizer)
            await self._closing.wait()
            # No row may take what closing does to its request for an answer, or for a fault of its own.
            limiter.stop(_interrupted())
            await _end_others(self._grace_s)

    def _measured(self, model: ChatModel) -> ChatModel:
        self._metered = MeteredModel(model, self._budget, self._metrics)
        return self._metered


def _raise_interrupted() -> NoReturn:
    raise _interrupted()


def _interrupted() -> InterruptedRunError:
    message = "The run was stopped before this partition was finished; run the same command again."
    return InterruptedRunError(message)


async def _end_others(grace_s: float) -> None:
    """End the calls in flight while the client is still open, so that nothing is left half closed.

    They are paid for, so they get some time to be answered first.
    """
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=grace_s)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
