"""The event loop of a run: one summarizer over the run's lanes, used by all partition threads.

The loop runs in a thread of its own. Its clients and limiters are built and closed there: a client used from
two loops hangs or pays twice. Once the gateway closes, no further request starts, those in flight have a few
seconds, and every call that waits in it ends.
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
from tasks.core.llm.telemetry import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.histogram import Histograms
from tasks.core.reporting.tally import Bill
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.lane import Lane, next_lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer

logger = logging.getLogger(__name__)

_GRACE_S = 5.0
"""For requests in flight when the run ends. A longer time saves more replies that are paid for; a shorter one
lets Ctrl-C end sooner, and a container is killed ten seconds after SIGTERM."""

OpenModel = Callable[[Callable[[ChatModel], ChatModel]], AbstractAsyncContextManager[ChatModel]]
"""Opens a model in the running loop; the argument wraps the part that sends one request."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What a lane is built from, in the gateway's loop.

    Attributes:
        open_model: Opens the endpoint's model.
        make_limiter: Builds its limiter.
        charged_tokens: What a request is charged to the endpoint's quota of tokens.
    """

    open_model: OpenModel
    make_limiter: Callable[[], Limiter]
    charged_tokens: Callable[[RenderedRow], float] = lambda _: 0.0


class Gateway:
    """Takes rows of partition threads and returns their outcomes; a context manager.

    Args:
        plans: One for each lane.
        policy: How often, how long and how soon a row is tried.
        budget: What may be spent.
        on_outcome: Called with each outcome, for progress; on the gateway's thread.
        metrics: OpenTelemetry's instruments, if metrics are exported.
        grace_s: How long requests in flight may still be answered when the gateway closes.
    """

    def __init__(
        self,
        plans: Sequence[LanePlan],
        policy: RetryPolicy,
        budget: Budget | None = None,
        on_outcome: Callable[[Outcome], object] = lambda _: None,
        metrics: RequestMetrics | None = None,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._plans = plans
        self._policy = policy
        self._budget = budget or Budget()
        self._meter = Meter(self._budget, metrics)
        self._on_outcome = on_outcome
        self._grace_s = grace_s
        self._ready: Future[Summarizer] = Future()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        # Guards the last moment work is taken: after it, everything taken is cancelled, and nothing is lost.
        self._door = threading.Lock()
        self._is_shut = False
        self._lanes: tuple[Lane, ...] = ()
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
        return self._meter.bill

    @property
    def state(self) -> str:
        """What the limiters do, in a few words for people; from any thread."""
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
        """Take rows and return at once; from any number of threads.

        Args:
            rows: The rows; pulled on the gateway's thread. Rows with equal keys are requested once.
            on_row: Called on the gateway's thread with a row's place and its outcome as soon as it has one.

        Returns:
            Waits for the rows, blocking the thread that calls it: one outcome per row, in the rows' order. It
            raises StopRunError when no row would be served, or the gateway was closed meanwhile.
        """
        summarizer = self._ready.result()
        with self._door:
            if self._is_shut or self._loop is None:
                return _raise_interrupted
            begun = asyncio.run_coroutine_threadsafe(summarizer.summarize(rows, on_row), self._loop)

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
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stop_lanes, error)

    def check(self) -> None:
        """Refuse to begin what could not be finished.

        Raises:
            StopRunError: The gateway was stopped, or no lane serves rows.
        """
        if self._stopped:
            raise self._stopped
        if self._lanes:
            next_lane(self._lanes)

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
        async with AsyncExitStack() as stack:
            models = [
                await stack.enter_async_context(plan.open_model(self._meter.around)) for plan in self._plans
            ]
            self._lanes = tuple(
                Lane(model, plan.make_limiter(), plan.charged_tokens)
                for model, plan in zip(models, self._plans, strict=True)
            )
            if self._stopped:
                self._stop_lanes(self._stopped)
            self._ready.set_result(Summarizer(self._lanes, self._policy, on_outcome=self._on_outcome))
            await self._closing.wait()
            # Closing cancels requests: no row may mistake that for an answer, or for a fault of its own.
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
    """End the calls in flight while the client is still open, so that nothing is left half closed.

    They are paid for, so they get some time to be answered first.
    """
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=grace_s)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
