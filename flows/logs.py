"""Configures logging of a flow run: log levels, and one line without a traceback for each known error.

Prefect sends the records of other loggers to the run's page when its setting ``logging.extra_loggers`` names
them. A project can set it in ``pyproject.toml``, an installed package cannot, so the flow does the same for
its loggers. Prefect logs every exception twice, once with its traceback, which hides the message of an error
that already says what happened and what to do.
"""

import logging

from prefect.context import get_run_context
from prefect.exceptions import MissingContextError
from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS

from tasks.core.errors import PipelineError

_OUR_LOGGERS = (logging.getLogger("flows"), logging.getLogger("tasks"))
_PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class _KnownErrorsOnce(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], PipelineError))


class _RunsPage(logging.Handler):
    """Passes a run's records to the handlers that Prefect gives extra loggers; ``logging.yml`` names them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            get_run_context()
        except MissingContextError:
            return  # a background thread's; the core also runs outside of flows
        logging.getLogger("prefect.extra").handle(record)


_RUNS_PAGE = _RunsPage()


def configure() -> None:
    """Set levels, handlers and filters; safe to call again."""
    for logger in _OUR_LOGGERS:
        logger.setLevel(logging.INFO)
        if logger.name not in PREFECT_LOGGING_EXTRA_LOGGERS.value():
            logger.addHandler(_RUNS_PAGE)
    for name in _PREFECT_RUN_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _KnownErrorsOnce) for existing in logger.filters):
            logger.addFilter(_KnownErrorsOnce())
