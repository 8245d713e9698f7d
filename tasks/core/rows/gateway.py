"""Gateway: runs the summarizer in its own event loop and thread, for all partition threads of a run.

Clients and limiters are built and closed in that loop, since a client that is used from two loops hangs or
sends requests twice. When the gateway closes, no further request starts, requests in flight get a few
seconds, and every waiting call returns or raises.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from tasks.core.errors import InterruptedRunError, StopRunError
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.metering import Meter
from tasks.core.llm.request_metrics import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.histogram import Histograms
from tasks.core.reporting.tally import Bill
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.lane import Lane, least_loaded_lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer

logger = logging.getLogger(__name__)

_GRACE_S = 5.0
"""How long requests in flight may still be answered when the run ends. Longer saves more paid replies;
shorter ends sooner after Ctrl-C. A container is killed ten seconds after SIGTERM, and replies must be stored
before."""

OpenModel = Callable[[Callable[[ChatModel], ChatModel]], AbstractAsyncContextManager[ChatModel]]
"""Opens a model in the running loop; the argument wraps the model that sends one request."""


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """Functions that build a lane in the gateway's loop.

    Attributes:
        open_model: Opens the endpoint's model.
        make_limiter: Builds the endpoint's limiter.
        quota_tokens: Tokens that a row's request is charged to the endpoint's quota.
    """

    open_model: OpenModel
    make_limiter: Callable[[], Limiter]
    quota_tokens: Callable[[RenderedRow], float] = lambda _: 0.0


class Gateway:
    """Summarizes rows that partition threads submit; a context manager.

    Args:
        specs: One for each lane.
        policy: Retries and timeouts.
        budget: The run's budget.
        on_outcome: Called with each outcome on the gateway's thread, for progress.
        metrics: OpenTelemetry metrics of the requests.
        grace_s: How long requests in flight may still be answered when the gateway closes.
    """

    def __init__(
        self,
        specs: Sequence[LaneSpec],
        policy: RetryPolicy,
        budget: Budget | None = None,
        on_outcome: Callable[[Outcome], object] = lambda _: None,
        metrics: RequestMetrics | None = None,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._specs = specs
        self._policy = policy
        self._budget = budget or Budget()
        self._meter = Meter(self._budget, metrics)
        self._on_outcome = on_outcome
        self._grace_s = grace_s
        self._ready: Future[Summarizer] = Future()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        # Makes closing atomic: rows are either submitted before and cancelled by it, or rejected.
        self._closing_lock = threading.Lock()
        self._is_closed = False
        self._lanes: tuple[Lane, ...] = ()
        self._stopped: StopRunError | None = None

    def __enter__(self) -> Self:
        """Start the loop and open the models.

        Raises:
            SettingsError: LlamaIndex does not support the model.
            DeploymentError: There is neither key nor token.
            RequestError: Entra ID did not answer.
        """
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all waiting calls, close the models, stop the loop."""
        with self._closing_lock:
            self._is_closed = True
        if self._loop and self._closing and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    @property
    def bill(self) -> Bill:
        """Counts of requests and tokens; final once the gateway is closed."""
        return self._meter.bill

    @property
    def state(self) -> str:
        """The state of the limiters, in words; from any thread."""
        return "; ".join(lane.limiter.state for lane in self._lanes) or "not open"

    @property
    def histograms(self) -> Histograms:
        """Latency and tokens of the answered requests; final once the gateway is closed."""
        return self._meter.histograms

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return sum(lane.limiter.in_flight for lane in self._lanes)

    @property
    def window(self) -> int:
        """Requests allowed in flight now."""
        return sum(lane.limiter.window for lane in self._lanes)

    def begin(self, rows: Iterable[Row], on_row: OnRow = lambda *_: None) -> Callable[[], list[Outcome]]:
        """Submit rows and return at once; from any number of threads.

        Args:
            rows: The rows; pulled on the gateway's thread. Rows with equal keys are requested once.
            on_row: Called on the gateway's thread with a row's place and its outcome as soon as it has one.

        Returns:
            A function that blocks until all rows have ended, and returns one outcome per row, in the rows'
            order. It raises StopRunError if an error concerns every row, or the gateway was closed meanwhile.
        """
        summarizer = self._ready.result()
        with self._closing_lock:
            if self._is_closed or self._loop is None:
                return _raise_interrupted
            begun = asyncio.run_coroutine_threadsafe(summarizer.summarize(rows, on_row), self._loop)

        def wait() -> list[Outcome]:
            try:
                return begun.result()
            except CancelledError:
                raise _interrupted() from None

        return wait

    def stop(self, error: StopRunError) -> None:
        """Start no further request; from any thread, also after the gateway was closed.

        Args:
            error: Raised in every partition that still has rows to request.
        """
        self._stopped = self._stopped or error
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stop_lanes, error)

    def check(self) -> None:
        """Raise if a partition that begins now could not be finished.

        Raises:
            StopRunError: The gateway or all its lanes are stopped.
        """
        if self._stopped:
            raise self._stopped
        if self._lanes:
            least_loaded_lane(self._lanes)

    def _run(self) -> None:
        try:
            # When asyncio.run ends, it cancels all tasks, which wakes every waiting partition thread.
            asyncio.run(self._serve())
        except Exception as error:  # thread boundary: raised in `__enter__`, or logged
            if self._ready.done():
                logger.exception("The gateway failed while it was open or closing")
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            models = [
                await stack.enter_async_context(spec.open_model(self._meter.wrap)) for spec in self._specs
            ]
            self._lanes = tuple(
                Lane(model, spec.make_limiter(), spec.quota_tokens)
                for model, spec in zip(models, self._specs, strict=True)
            )
            if self._stopped:
                self._stop_lanes(self._stopped)
            self._ready.set_result(Summarizer(self._lanes, self._policy, on_outcome=self._on_outcome))
            await self._closing.wait()
            # Before requests are cancelled, so that no row retries or ends as failed because of that.
            self._stop_lanes(_interrupted())
            await _end_others(self._grace_s)

    def _stop_lanes(self, error: StopRunError) -> None:
        for lane in self._lanes:
            lane.limiter.stop(error)


def _raise_interrupted() -> NoReturn:
    raise _interrupted()


def _interrupted() -> InterruptedRunError:
    message = "The run was stopped before this partition was finished; run the same command again."
    return InterruptedRunError(message)


async def _end_others(grace_s: float) -> None:
    """End all other tasks while the clients are still open, after some time for paid replies to arrive."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=grace_s)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
