"""The command line: ``python -m flows run``, ``plan``, ``demo`` and ``--help``.

Every option of the flow is a flag of the same name, read from the same definitions. Prefect is imported when
something runs, so that help is quick.
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flows import ownserver
from flows.output import show, write, write_error
from tasks.core.errors import PipelineError, RunFailedError, StopRunError
from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
)
from tasks.core.planning import plan_view
from tasks.core.reporting.rendering import to_table

if TYPE_CHECKING:
    from tasks.core.job import Job
    from tasks.core.reporting.report import RunReport

_GROUPS: dict[str, type[BaseModel]] = {
    "model": ModelOptions,
    "limits": LimitOptions,
    "output": OutputOptions,
    "run": RunOptions,
    "prices": PriceOptions,
}
_INTERRUPTED = 130
_WRONG_INPUT = 2

_EPILOG = """\
exit codes: 0 every row has a summary or needs none, 1 rows or partitions failed, 2 wrong input or settings,
3 the budget is spent (run again to go on), 4 the deployment asks for a long wait, 5 another run works on the
destination, 130 interrupted.

The deployment and its key come from the environment: AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_DEPLOYMENT,
AZURE_OPENAI_API_KEY (or Entra ID), AWS_* for S3. See the settings table in README.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.command(parsed)
    except KeyboardInterrupt:
        write_error("Interrupted: what was answered is kept. Run the same command again to go on.")
        return _INTERRUPTED
    except ValidationError as error:
        for finding in error.errors():
            write_error(f"--{_flag(str(finding['loc'][-1]))}: {finding['msg']}")
        return _WRONG_INPUT
    except PipelineError as error:
        write_error(f"{error}")
        return error.exit_code
    return code


def _run(parsed: argparse.Namespace) -> int:
    options = _options(parsed)
    own_url = None if parsed.no_prefect else ownserver.start_if_needed()
    # Wrong settings and addresses are told at once, not after Prefect's server has started.
    job = _job(parsed, options)
    if parsed.no_prefect and options["run"].dry_run:
        return _plan(parsed)
    try:
        report = _run_directly(job, options) if parsed.no_prefect else _run_flow(parsed, options, own_url)
    except (RunFailedError, StopRunError) as error:
        if error.report:
            show(to_table(error.report))
        raise
    show(plan_view.to_table(report.plan) if report.plan else to_table(report))
    return 0


def _run_flow(parsed: argparse.Namespace, options: dict[str, Any], own_url: str | None) -> "RunReport":
    from flows.server import find_server  # noqa: PLC0415 - imports Prefect, which takes a second
    from flows.summarize import summarize_parquet  # noqa: PLC0415
    from tasks.core.rows.gateway_factory import load_client  # noqa: PLC0415
    from tasks.core.terminal import log_in_background  # noqa: PLC0415

    # Prefect logs before the flow begins, and after it ends.
    log_in_background()
    if not options["run"].dry_run:
        # Meanwhile the server starts, and then the flow.
        threading.Thread(target=load_client).start()
    find_server(own_url)
    asked: tuple[str, str, str] = (parsed.source, parsed.destination, parsed.text_column)
    report: RunReport = summarize_parquet(*asked, prompt=parsed.prompt, **options)
    return report


def _run_directly(job: "Job", options: dict[str, Any]) -> "RunReport":
    from tasks.core.direct import run_directly  # noqa: PLC0415 - only what is asked for is loaded
    from tasks.core.llm.budget import budget_of  # noqa: PLC0415
    from tasks.core.progress import Progress  # noqa: PLC0415
    from tasks.core.rows.gateway_factory import open_gateway  # noqa: PLC0415
    from tasks.core.settings import Settings  # noqa: PLC0415

    logging.basicConfig(format="%(asctime)s | %(levelname)-7s | %(name)s - %(message)s")
    logging.getLogger("tasks").setLevel(logging.INFO)
    # Prefect does this for a flow: what is in memory is stored before the process ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    limits, run, settings = options["limits"], options["run"], Settings.from_environment()
    settings.check_needs_no_prefect()
    progress = Progress()
    budget = budget_of(limits, job.price, job.request)
    gateway = open_gateway(settings, job.request, limits, budget, progress)
    return run_directly(job, gateway, progress, limits, options["output"], run)


def _plan(parsed: argparse.Namespace) -> int:
    options = _options(parsed)
    job = _job(parsed, options)
    from tasks.core.planning.estimate import make_plan  # noqa: PLC0415
    from tasks.core.progress import Progress  # noqa: PLC0415 - only what is asked for is loaded

    with Progress("plan") as progress:
        plan = make_plan(job, options["run"], on_total=progress.start, on_rows=progress.advance)
    if parsed.json:
        write(plan_view.to_json(plan))
    else:
        show(plan_view.to_table(plan))
    return 0


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    return {name: group(**_values(parsed, group)) for name, group in _GROUPS.items()}


def _job(parsed: argparse.Namespace, options: dict[str, Any]) -> "Job":
    from tasks.core.job import prepare  # noqa: PLC0415 - help needs neither pyarrow nor fsspec
    from tasks.core.settings import Settings  # noqa: PLC0415

    return prepare(
        *(parsed.source, parsed.destination, parsed.text_column),
        prompt=parsed.prompt,
        settings=Settings.from_environment(),
        **{name: options[name] for name in ("model", "output", "prices")},
    )


def _demo(parsed: argparse.Namespace) -> int:
    from flows.demo import run_demo  # noqa: PLC0415 - only what is asked for is loaded

    return run_demo(parsed.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Summarize a text column of Parquet partitions with Azure OpenAI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True)
    run = _add_work(commands, "run", "summarize partitions")
    run.add_argument(
        "--no-prefect",
        action="store_true",
        help="without Prefect's server: starts sooner, retries no partition and has no page",
    )
    run.set_defaults(command=_run, json=False)
    plan = _add_work(commands, "plan", "tell what a run with these flags would do and cost; sends nothing")
    plan.add_argument("--json", action="store_true", help="every partition, for programs")
    plan.set_defaults(command=_plan)
    demo = commands.add_parser("demo", help="see it work on sample data, without any account")
    demo.add_argument("--folder", default=".demo", help="where to put sample and output (default: .demo)")
    demo.set_defaults(command=_demo)
    return parser


def _add_work(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """A command that takes what the flow takes."""
    work = commands.add_parser(
        name, help=text, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    work.add_argument(
        "source", help="a prefix, a glob (quote it) or one file: s3://bucket/folder or a local path"
    )
    work.add_argument("destination", help="where the enriched partitions go, under the same relative paths")
    work.add_argument("--text-column", required=True, help="the column to summarize")
    work.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        help="what to tell the model; {text} marks where the row's text goes, without it the text follows",
    )
    for group_name, group in _GROUPS.items():
        _add_flags(work.add_argument_group(group_name, group.__doc__), group)
    return work


def _add_flags(arguments: argparse._ArgumentGroup, group: type[BaseModel]) -> None:
    for name, field in group.model_fields.items():
        if isinstance(field.default, tuple):
            arguments.add_argument(
                f"--{_flag(name)}",
                action="append",
                help=f"{field.description} May be repeated. (default: {','.join(field.default)})",
                metavar="LIST",
            )
            continue
        if isinstance(field.default, bool):
            arguments.add_argument(
                f"--{_flag(name)}",
                action=argparse.BooleanOptionalAction,
                default=field.default,
                help=f"{field.description} (default: {'yes' if field.default else 'no'})".replace("%", "%%"),
            )
            continue
        # What may be left out is annotated as one of two.
        kind = get_args(field.annotation)[0] if field.default is None else type(field.default)
        default = "none" if field.default is None else field.default
        arguments.add_argument(
            f"--{_flag(name)}",
            type=kind,
            default=field.default,
            help=f"{field.description} (default: {default})".replace("%", "%%"),
            choices=_choices(field.annotation),
            metavar=None if _choices(field.annotation) else kind.__name__.upper(),
        )


def _choices(annotation: object) -> tuple[str, ...] | None:
    return get_args(annotation) if get_origin(annotation) is Literal else None


def _values(parsed: argparse.Namespace, group: type[BaseModel]) -> dict[str, Any]:
    given = {field: getattr(parsed, field) for field in group.model_fields}
    return {field: value for field, value in given.items() if value is not None}


def _flag(name: str) -> str:
    return name.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
