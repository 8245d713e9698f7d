"""All errors that this project raises, in one tree; the class decides how an error is handled.

::

    PipelineError                 exit code 1
    |-- GroupError                partitions of a task failed: Prefect retries it if one may succeed later
    |-- TransientError            a retry may succeed
    |   |-- StorageError          store or disk failed: Prefect retries the partition
    |   |-- RequestError          a request got no usable reply: the summarizer retries the row
    |   `-- RateLimitError        reply 429: all rows wait, and no attempt is counted
    `-- TerminalError             a retry cannot succeed
        |-- LeaseError            exit code 5: another run works on the destination
        |-- InputError            exit code 2: wrong input, settings or destination
        |   |-- SettingsError     an environment variable is missing or wrong
        |   |-- SourceError       the source has no partitions
        |   |-- TableFolderError  the source is a table, so some of its files may be dead
        |   `-- PreflightError    some partitions cannot be enriched
        |-- PartitionError        this partition cannot be read or written
        |   `-- TooManyFailedError  more rows failed than the user allows
        |-- UnexpectedError       an error that this program did not raise; the log has its stack
        |-- StopRunError          wrong for every row: no further request is sent
        |   |-- DeploymentError   exit code 2: wrong key, deployment or quota
        |   |-- BudgetError       exit code 3: the run's budget is used up; resumable
        |   |-- BreakerError      every request fails
        |   |-- ParkedError       exit code 4: the deployment requests a long wait; resumable
        |   |-- LostLeaseError    another run may have taken the lease; resumable
        |   `-- InterruptedRunError  exit code 130: the run was interrupted
        `-- RunFailedError        rows or partitions failed; exit code 2 if partitions were rejected

A message says what happened, where, and what to do next; it never contains a key, a prompt or a row's text.
Attributes are keyword-only with defaults, so that every error can be pickled.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
    from tasks.core.reporting.report import PartitionReport, RunReport
    from tasks.core.run.group_report import GroupReport

E = TypeVar("E", bound=BaseException)


class PipelineError(Exception):
    """Base class of all errors that this project raises."""

    exit_code: int = 1


def describe_error(error: Exception) -> str:
    """Text for a log line: the message of our own errors; only the class of others, which may quote data."""
    return str(error) if isinstance(error, PipelineError) else f"unexpected {type(error).__name__}"


class GroupError(PipelineError):
    """Partitions of a task failed.

    Args:
        message: That of the partition's error.
        report: The results of all partitions of the task.
        is_transient: A partition may succeed in a retry, and none stopped the run.
    """

    def __init__(
        self, message: str, *, report: "GroupReport | None" = None, is_transient: bool = False
    ) -> None:
        super().__init__(message)
        self.report = report
        self.is_transient = is_transient


class TransientError(PipelineError):
    """A retry may succeed."""


class StorageError(TransientError):
    """The object store or the disk failed."""


class RequestError(TransientError):
    """One request got no usable reply.

    Args:
        message: What happened.
        possibly_paid: The request was sent and its reply lost, so it may appear on the bill.
        sent: The request may have reached the deployment.
    """

    rate_limits: "RateLimitHeaders | None" = None
    """The quota as the reply's headers report it; None without a reply."""

    def __init__(self, message: str, *, possibly_paid: bool = False, sent: bool = True) -> None:
        super().__init__(message)
        self.possibly_paid = possibly_paid
        self.sent = sent


class RateLimitError(TransientError):
    """The deployment replied with status 429.

    Args:
        message: What happened.
        retry_after_s: Seconds to wait, from the reply's headers; None without such a header.
    """

    rate_limits: "RateLimitHeaders | None" = None
    """The quota as the reply's headers report it."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TerminalError(PipelineError):
    """A retry cannot succeed."""


class LeaseError(TerminalError):
    """Another run works on the destination; schedulers recognize this by its own exit code."""

    exit_code = 5


class InputError(TerminalError):
    """The input, the settings or the destination are wrong."""

    exit_code = 2


class SettingsError(InputError):
    """An environment variable is missing or wrong."""


class SourceError(InputError):
    """The source has no partitions, or cannot be listed."""


class TableFolderError(InputError):
    """The source is, contains or is part of a table; the message shows how to export a snapshot."""


class PreflightError(InputError):
    """Some partitions cannot be enriched; the message lists every problem."""


class PartitionError(TerminalError):
    """One partition cannot be read or written; other partitions are not affected."""


class TooManyFailedError(PartitionError):
    """More rows of a partition failed than the user allows.

    Args:
        message: What happened and what to do next.
        report: The partition's report so far.
    """

    def __init__(self, message: str, *, report: "PartitionReport | None" = None) -> None:
        super().__init__(message)
        self.report = report


class UnexpectedError(TerminalError):
    """An error that this program did not raise; says its class only, since its message may contain data."""


class StopRunError(TerminalError):
    """Wrong for every row: no further request is sent; received replies are kept."""

    report: "RunReport | None" = None


class DeploymentError(StopRunError):
    """The key, the deployment or its quota cannot be used for this run.

    Args:
        message: What happened and what to do next.
        status: The HTTP status of the reply; None when the cause was not a reply.
    """

    exit_code = 2

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BudgetError(StopRunError):
    """The next request would exceed the run's budget."""

    exit_code = 3


class BreakerError(StopRunError):
    """The circuit breaker opened: many rows failed in a row, and none succeeded."""


class ParkedError(StopRunError):
    """The deployment requests a wait that is longer than a run may wait.

    Args:
        message: What happened and when to run again.
        wait_s: Seconds the deployment requested to wait.
    """

    exit_code = 4

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class LostLeaseError(StopRunError):
    """The lease was lost, or could not be renewed in time: another run may work on the destination."""


class InterruptedRunError(StopRunError):
    """The run was interrupted, by a signal or a cancellation."""

    exit_code = 130


class RunFailedError(TerminalError):
    """The run ended, and rows or partitions failed.

    Args:
        message: One line with the counts.
        report: The run's report.
        refused: Whether partitions were rejected as wrong input, which is exit code 2.
    """

    def __init__(self, message: str, *, report: "RunReport | None" = None, refused: bool = False) -> None:
        super().__init__(message)
        self.report = report
        if refused:
            self.exit_code = InputError.exit_code


def without_frames(error: E) -> E:
    """Remove the traceback and the causes of an error, and return it, so that it can be kept.

    A traceback references the frames it passed through, and thereby all their variables, such as tables.
    Callers log what is needed of it first.
    """
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            without_frames(one)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
