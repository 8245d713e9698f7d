"""Every error that leaves a room of this project, in one tree; its class alone says what happens next.

::

    PipelineError                 exit code 1
    |-- TransientError            the same again may succeed
    |   |-- StorageError          store or disk did not answer: Prefect retries the partition
    |   |-- RequestError          a request got no usable reply: the summarizer retries the row
    |   `-- RateLimitError        the deployment asks to wait: every row waits, no attempt is spent
    `-- TerminalError             the same again cannot succeed
        |-- LeaseError            exit code 5: another run works on the destination
        |-- InputError            exit code 2: what was asked for cannot be done
        |   |-- SettingsError     an environment variable is missing or wrong
        |   |-- SourceError       no partition where was looked
        |   |-- TableFolderError  the source is a table, of which some files are dead
        |   `-- PreflightError    partitions that cannot be enriched
        |-- PartitionError        this partition's data cannot be read or written
        |   `-- TooManyFailedError  more of its rows failed than may be published
        |-- StopRunError          wrong for every row: no further request is sent
        |   |-- DeploymentError   exit code 2: key, deployment or quota
        |   |-- BudgetError       exit code 3: the run's budget is spent; resumable
        |   |-- BreakerError      everything fails
        |   |-- ParkedError       exit code 4: the deployment asks for a long wait; resumable
        |   |-- LostLeaseError    another run may have taken the destination over; resumable
        |   `-- InterruptedRunError  exit code 130: the run was asked to stop
        `-- RunFailedError        rows or partitions failed; exit code 2 if partitions were refused

The message comes first and says what happened, where, and what to do next. Attributes are keyword-only
with defaults, so every error survives pickling. No message holds a key, a prompt or a row's text.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
    from tasks.core.reporting.report import PartitionReport, RunReport

E = TypeVar("E", bound=BaseException)


class PipelineError(Exception):
    """Anything this project raises on purpose."""

    exit_code: int = 1


def in_words(error: Exception) -> str:
    """An error for a log line: one of ours by its message, any other by its class, as it may quote data."""
    return str(error) if isinstance(error, PipelineError) else f"unexpected {type(error).__name__}"


class TransientError(PipelineError):
    """The same again may succeed."""


class StorageError(TransientError):
    """The object store or the disk did not do what it was asked to."""


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
    """The deployment answered 429.

    Args:
        message: What happened.
        retry_after_s: Seconds the deployment asked to wait; None when it did not say.
    """

    rate_limits: "RateLimitHeaders | None" = None
    """The quota as the reply's headers report it."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TerminalError(PipelineError):
    """The same again cannot succeed."""


class LeaseError(TerminalError):
    """Another run works on the destination; the message says which process, and since when.

    A scheduler that starts a run while the last one works gets this, and not an error of its settings.
    """

    exit_code = 5


class InputError(TerminalError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class SettingsError(InputError):
    """An environment variable is missing or wrong."""


class SourceError(InputError):
    """The source holds no partition, or cannot be listed."""


class TableFolderError(InputError):
    """The source is part of a table, or holds one; the message says how to export a snapshot of it."""


class PreflightError(InputError):
    """Some partitions cannot be enriched; the message lists every problem."""


class PartitionError(TerminalError):
    """One partition's data cannot be read or written; the other partitions are not concerned."""


class TooManyFailedError(PartitionError):
    """More of a partition's rows failed than may be published.

    Args:
        message: What happened and what to do next.
        report: What happened in the partition, as far as it came.
    """

    def __init__(self, message: str, *, report: "PartitionReport | None" = None) -> None:
        super().__init__(message)
        self.report = report


class StopRunError(TerminalError):
    """Wrong for every row: no further request is sent, what was answered is kept."""

    report: "RunReport | None" = None


class DeploymentError(StopRunError):
    """The key, the deployment or its quota does not serve this run.

    Args:
        message: What happened and the cure.
        status: The HTTP status that told it; None when it was not one.
    """

    exit_code = 2

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BudgetError(StopRunError):
    """The next request would pass the run's budget."""

    exit_code = 3


class BreakerError(StopRunError):
    """Row after row failed, and none was answered."""


class ParkedError(StopRunError):
    """The deployment asks for a wait too long to sit out.

    Args:
        message: What happened and when to come back.
        wait_s: Seconds the deployment asked to wait.
    """

    exit_code = 4

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class LostLeaseError(StopRunError):
    """Another run took the destination over, or may have, because this one could not say that it lives."""


class InterruptedRunError(StopRunError):
    """The run was asked to stop."""

    exit_code = 130


class RunFailedError(TerminalError):
    """The run ended, and rows or partitions failed.

    Args:
        message: One line with the counts.
        report: What happened to every partition.
        refused: Some partitions cannot be done as asked, which is exit code 2.
    """

    def __init__(self, message: str, *, report: "RunReport | None" = None, refused: bool = False) -> None:
        super().__init__(message)
        self.report = report
        if refused:
            self.exit_code = InputError.exit_code


def without_frames(error: E) -> E:
    """Make an error fit to be kept, and return it.

    An error keeps every frame it passed through, and with them all that their variables hold, such as tables.
    So do the errors it was raised from. What a person needs of them is logged before.
    """
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            without_frames(one)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
