"""The bill is equal to the counts of the endpoint."""

import asyncio
from pathlib import Path

import pytest

from tasks.core.errors import DeploymentError, StopRunError
from tasks.core.ledger.ledger import Ledger
from tasks.core.llm.budget import Budget
from tasks.core.llm.client import open_model
from tasks.core.llm.metering import Meter
from tasks.core.model import Outcome, Partition, Status
from tasks.core.partition import summarize_partition
from tasks.core.planning.partition_status import inspect_source
from tasks.core.prompt import Request
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.tally import Bill
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings
from tests.conftest import Serve
from tests.core_runs import job_of, write
from tests.textmodels import OfTexts, row_of

ROWS = 40
WINDOW = 20


def gateway_of(request: Request, timeout_s: float, max_attempts: int) -> Gateway:
    """A gateway that retries soon."""
    settings = Settings.from_environment()
    policy = RetryPolicy(max_attempts=max_attempts, attempt_timeout_s=timeout_s, longest_backoff_s=0.05)
    spec = LaneSpec(
        lambda metered: open_model(
            settings.endpoint,
            request,
            settings.azure_openai_api_key,
            max_connections=WINDOW,
            timeout_s=timeout_s,
            metered=metered,
        ),
        lambda: Limiter(WINDOW),
    )
    return Gateway([spec], policy)


def bill_of(folder: Path, timeout_s: float = 60.0, max_attempts: int = 30) -> Bill:
    """The bill of one partition of ``ROWS`` rows, also if the run stops."""
    write(f"{folder}/in", [f"This is row {n}. And more." for n in range(ROWS)])
    job = job_of(f"{folder}/in", f"{folder}/out")
    (partition,) = inspect_source(job).selected.partitions
    with (
        Ledger(job.destination, fingerprint=job.request.fingerprint) as ledger,
        gateway_of(job.request, timeout_s, max_attempts) as gateway,
    ):
        _run(partition, job, gateway, ledger)
    return gateway.bill


def _run(partition: Partition, *how: object) -> None:
    try:
        summarize_partition(partition, *how)  # type: ignore[arg-type]  # handed through
    except StopRunError:
        return


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("server-error", False),
        ("rate-limit:retry-after-ms=1", False),
        ("reset", True),
        ("html", True),
        ("content-filter", False),
        ("hang", True),
    ],
)
def test_the_bill_counts_the_requests_that_the_endpoint_received(
    endpoint: Serve, tmp_path: Path, kind: str, *, lost: bool
) -> None:
    server = endpoint(fault_rate=0.3, fault_kind=kind, seed=3)
    bill = bill_of(tmp_path, timeout_s=1.0 if kind == "hang" else 60.0)
    stats = server.stats()
    assert bill.sent == stats.requests == bill.answered + bill.refused + bill.lost
    assert bill.retried == stats.requests - stats.rows
    assert stats.rows == bill.answered == ROWS
    assert bill.unsent == 0
    assert bool(bill.lost) is lost
    assert bool(bill.retried) is (kind != "content-filter")


def test_a_wrong_key_is_on_the_bill_as_refused(endpoint: Serve, tmp_path: Path) -> None:
    server = endpoint(api_key="another")
    bill = bill_of(tmp_path)
    assert bill == Bill(sent=server.stats().requests, refused=server.stats().requests)


def test_a_failed_connection_is_counted_as_unsent(
    endpoint: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint()
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    bill = bill_of(tmp_path, max_attempts=1)
    assert bill == Bill(unsent=bill.unsent)
    assert bill.unsent > 0


class Scripted:
    """Returns or raises its arguments in turn."""

    def __init__(self, *ends: Outcome | BaseException) -> None:
        self._ends = iter(ends)

    async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a model's
        end = next(self._ends)
        if isinstance(end, BaseException):
            raise end
        return end


async def complete(meter: Meter, model: Scripted, *texts: str) -> None:
    metered = meter.wrap(OfTexts(model))
    for text in texts:
        await asyncio.gather(metered.complete(row_of(text)), return_exceptions=True)


def test_a_request_is_a_retry_until_its_row_is_answered() -> None:
    failed, answered = DeploymentError("500", status=500), Outcome(Status.OK, "s")
    model, meter = Scripted(failed, failed, failed, answered, answered, answered), Meter(Budget())
    asyncio.run(complete(meter, model, "a", "b", "a", "a", "b", "a"))
    assert meter.bill == Bill(sent=6, refused=3, answered=3, retried=3)


def test_without_a_token_nothing_is_sent_and_an_unexpected_exception_counts_as_lost() -> None:
    model, meter = Scripted(DeploymentError("no token"), ZeroDivisionError()), Meter(Budget())
    asyncio.run(complete(meter, model, "a", "b"))
    assert meter.bill == Bill(unsent=1, sent=1, lost=1)
