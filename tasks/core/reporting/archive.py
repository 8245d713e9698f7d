"""The run's report, kept beside its output: ``DESTINATION/_reports/NAME.html`` and ``.json``.

Reports are small and never removed; readers of the destination skip names that start with ``_``.
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


def write(report: RunReport, job: Job, sample_rows: int, name: str, healing: str) -> tuple[str, ...]:
    """Write a report as a page and as JSON.

    Args:
        report: What happened.
        job: Tells the destination.
        sample_rows: Rows whose text is shown on the page.
        name: Of the files; no other run has it.
        healing: What to run for what needs attention.

    Returns:
        The files' addresses; none when they could not be written, which is logged.
    """
    place, written = job.destination, []
    try:
        contents = {
            "html": to_html(report, samples.take(report, job, sample_rows), healing),
            "json": to_json(report),
        }
        for form, content in contents.items():
            key = f"{FOLDER}/{name}.{form}"
            atomic_write.create(place, key, content.encode())
            written.append(place.url_of(key))
    except Exception as error:
        # Whatever it is, it must not take the place of what the run ended with.
        logger.warning(
            "The report could not be written to %s: %s", place.url_of(FOLDER), type(error).__name__
        )
        logger.debug("Why the report could not be written", exc_info=True)
    return tuple(written)


def read(destination: str, run_id: str) -> RunReport:
    """The report of a run that ended, wherever it ran.

    Args:
        destination: The run's, as a URL.
        run_id: Prefect's id of the flow run; the files' names end with the beginning of it.

    Raises:
        SourceError: There is no report of this run: it was killed, or failed before it had a plan.
        InputError: It cannot be read; a later version may have written it.
    """
    place = locate(destination)
    ending = f"-{run_id[:8]}.json"
    written = [name for name in stored_files.names(place, FOLDER, "") if name.endswith(ending)]
    if not written:
        message = f"No report of the run {run_id} is in {place.url_of(FOLDER)}: its page tells how it ended."
        raise SourceError(message)
    found = stored_files.look_at(place, place.path(f"{FOLDER}/{max(written)}"))
    with reading.open_to_read(place, found) as file:
        return from_json(file.read(), place.url_of(f"{FOLDER}/{max(written)}"))
