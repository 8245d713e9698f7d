"""Configures logging of a flow run: log levels, and one line without a traceback for each known error.

Prefect ships the loggers named in ``pyproject.toml`` to the run's page, but leaves their level to the root
logger's WARNING. It logs every exception twice, once with its traceback, which hides the message of an error
that already says what happened and what to do.
"""

import logging

from tasks.core.errors import PipelineError

_OUR_LOGGERS = ("flows", "tasks")
_PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class _KnownErrorsOnce(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], PipelineError))


def configure() -> None:
    """Set levels and filters; safe to call again."""
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _PREFECT_RUN_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _KnownErrorsOnce) for existing in logger.filters):
            logger.addFilter(_KnownErrorsOnce())
