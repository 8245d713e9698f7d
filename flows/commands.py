"""What the commands do: a run with Prefect or without, and a plan. ``__main__`` reports their errors.

Modules that take long to import are imported when a command needs them.
"""

import logging
import signal
import threading
from typing import TYPE_CHECKING

from flows import ownserver
from flows.output import show, write
from tasks.core.errors import RunFailedError, StopRunError
from tasks.core.planning import plan_view
from tasks.core.reporting.rendering import to_table
from tasks.core.run.spec import RunSpec

if TYPE_CHECKING:
    from tasks.core.job import Job
    from tasks.core.reporting.report import RunReport


def run(spec: RunSpec, *, with_prefect: bool = True) -> None:
    """Do a run and print its report, also when it fails.

    Raises:
        PipelineError: The run did not do everything; see ``errors``.
    """
    own_url = ownserver.start_if_needed() if with_prefect else None
    # Wrong settings and addresses are reported at once, not after Prefect's server has started.
    job = _job_of(spec)
    if spec.run.dry_run and not with_prefect:
        _show_plan(job, spec, as_json=False)
        return
    try:
        report = _run_flow(spec, own_url) if with_prefect else _run_directly(spec)
    except (RunFailedError, StopRunError) as error:
        if error.report:
            show(to_table(error.report))
        raise
    show(plan_view.to_table(report.plan) if report.plan else to_table(report))


def plan(spec: RunSpec, *, as_json: bool = False) -> None:
    """Print what a run would do and cost; sends no request.

    Raises:
        InputError: The run cannot be done as chosen.
    """
    _show_plan(_job_of(spec), spec, as_json=as_json)


def _run_flow(spec: RunSpec, own_url: str | None) -> "RunReport":
    from flows.server import find_server  # noqa: PLC0415 - imports Prefect, which takes a second
    from flows.summarize import summarize_parquet  # noqa: PLC0415
    from tasks.core.rows.gateway_factory import load_client  # noqa: PLC0415
    from tasks.core.terminal import log_in_background  # noqa: PLC0415

    # Prefect logs before the flow begins, and after it ends.
    log_in_background()
    if not spec.run.dry_run:
        # Meanwhile the server starts, and then the flow.
        threading.Thread(target=load_client).start()
    find_server(own_url)
    report: RunReport = summarize_parquet(
        spec.source,
        spec.destination,
        spec.text_column,
        prompt=spec.prompt,
        model=spec.model,
        limits=spec.limits,
        output=spec.output,
        run=spec.run,
        prices=spec.prices,
    )
    return report


def _run_directly(spec: RunSpec) -> "RunReport":
    from tasks.core.run.direct import run_directly  # noqa: PLC0415 - imports Arrow and the stores' clients

    logging.basicConfig(format="%(asctime)s | %(levelname)-7s | %(name)s - %(message)s")
    logging.getLogger("tasks").setLevel(logging.INFO)
    # Prefect does this for a flow: replies in memory are stored before the process ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_directly(spec)


def _show_plan(job: "Job", spec: RunSpec, *, as_json: bool) -> None:
    from tasks.core.planning.estimate import make_plan  # noqa: PLC0415 - imports Arrow
    from tasks.core.progress import Progress  # noqa: PLC0415

    with Progress("plan") as progress:
        made = make_plan(job, spec.run, on_total=progress.start, on_rows=progress.advance)
    if as_json:
        write(plan_view.to_json(made))
    else:
        show(plan_view.to_table(made))


def _job_of(spec: RunSpec) -> "Job":
    from tasks.core.run.worker import job_of  # noqa: PLC0415 - imports Arrow and the stores' clients

    return job_of(spec)
