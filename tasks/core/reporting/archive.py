"""Stores reports beside the output, as ``DESTINATION/_reports/NAME.html`` and ``.json``, and reads them.

Reports are small and never removed. Readers of the dataset ignore names that start with ``_``.
"""

import logging

from tasks.core.errors import SourceError
from tasks.core.job import Job
from tasks.core.reporting import samples
from tasks.core.reporting.page import to_html
from tasks.core.reporting.rendering import from_json, to_json
from tasks.core.reporting.report import RunReport
from tasks.core.storage import atomic_write, reading, stored_files
from tasks.core.storage.location import locate

logger = logging.getLogger(__name__)

FOLDER = "_reports"


def write(report: RunReport, job: Job, sample_rows: int, name: str, retry_command: str) -> tuple[str, ...]:
    """Write a report as an HTML page and as JSON.

    Args:
        report: The report.
        job: The run's job, with the destination.
        sample_rows: Number of rows whose text is shown on the page.
        name: Name of the files without suffix; must be unique.
        retry_command: Command that retries what needs attention, shown on the page; may be empty.

    Returns:
        The URLs of the files; fewer or none if writing failed, which is logged.
    """
    destination, written = job.destination, []
    try:
        contents = {
            "html": to_html(report, samples.read_samples(report, job, sample_rows), retry_command),
            "json": to_json(report),
        }
        for form, content in contents.items():
            key = f"{FOLDER}/{name}.{form}"
            atomic_write.write(destination, key, content.encode())
            written.append(destination.url_of(key))
    except Exception as error:
        # It must not replace the error that the run may have ended with.
        logger.warning(
            "The report could not be written to %s: %s", destination.url_of(FOLDER), type(error).__name__
        )
        logger.debug("Error while writing the report", exc_info=True)
    return tuple(written)


def read(destination: str, run_id: str) -> RunReport:
    """Read the report of a finished run, which may have run on another machine.

    Args:
        destination: URL of the run's destination.
        run_id: Prefect's id of the flow run; names of report files end with its first 8 characters.

    Raises:
        SourceError: The run has no report: it was killed, or failed before it had a plan.
        InputError: The report cannot be parsed, for example because a later version wrote it.
    """
    location = locate(destination)
    ending = f"-{run_id[:8]}.json"
    written = [name for name in stored_files.names_with_prefix(location, FOLDER, "") if name.endswith(ending)]
    if not written:
        message = (
            f"No report of the run {run_id} is in {location.url_of(FOLDER)}: see the run's page in Prefect "
            "for how it ended."
        )
        raise SourceError(message)
    key = f"{FOLDER}/{max(written)}"
    found = stored_files.stat(location, location.path(key))
    with reading.open_to_read(location, found) as file:
        return from_json(file.read(), location.url_of(key))
