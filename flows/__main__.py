"""The command line: ``python -m flows run``, ``plan``, ``demo`` and ``--help``.

Parses the flags, and maps errors to exit codes. Every option of the flow is a flag of the same name, read
from the same definitions. Prefect is imported when something runs, so that help is quick.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flows import commands
from flows.output import write_error
from tasks.core.errors import PipelineError
from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
)
from tasks.core.run.spec import RunSpec

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
3 the budget is used up (run again to continue), 4 the deployment asks for a long wait, 5 another run works on
the destination, 130 interrupted.

The deployment and its key come from the environment: AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_DEPLOYMENT,
AZURE_OPENAI_API_KEY (or Entra ID), AWS_* for S3. See the settings table in README.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.command(parsed)
    except KeyboardInterrupt:
        write_error("Interrupted: received replies are kept. Run the same command again to continue.")
        return _INTERRUPTED
    except ValidationError as error:
        for finding in error.errors():
            write_error(f"--{_flag(str(finding['loc'][-1]))}: {finding['msg']}")
        return _WRONG_INPUT
    except PipelineError as error:
        write_error(f"{error}")
        return error.exit_code
    return 0


def _run(parsed: argparse.Namespace) -> None:
    commands.run(_spec(parsed), with_prefect=not parsed.no_prefect)


def _plan(parsed: argparse.Namespace) -> None:
    commands.plan(_spec(parsed), as_json=parsed.json)


def _demo(parsed: argparse.Namespace) -> None:
    from flows.demo import run_demo  # noqa: PLC0415 - imports Arrow, which help does not need

    run_demo(parsed.folder)


def _spec(parsed: argparse.Namespace) -> RunSpec:
    options: dict[str, Any] = {name: group(**_values(parsed, group)) for name, group in _GROUPS.items()}
    return RunSpec(
        source=parsed.source,
        destination=parsed.destination,
        text_column=parsed.text_column,
        prompt=parsed.prompt,
        **options,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Summarize a text column of Parquet partitions with Azure OpenAI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", required=True)
    run = _add_work(subparsers, "run", "summarize partitions")
    run.add_argument(
        "--no-prefect",
        action="store_true",
        help="run without Prefect and its server: starts sooner, retries no partition and has no page",
    )
    run.set_defaults(command=_run)
    plan = _add_work(subparsers, "plan", "print what a run with these flags would do and cost; sends nothing")
    plan.add_argument("--json", action="store_true", help="print every partition, as JSON")
    plan.set_defaults(command=_plan)
    demo = subparsers.add_parser("demo", help="run on sample data with a local endpoint, without any account")
    demo.add_argument("--folder", default=".demo", help="folder of sample and output (default: .demo)")
    demo.set_defaults(command=_demo)
    return parser


def _add_work(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """Add a command with the flow's parameters as flags."""
    work = subparsers.add_parser(
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
        help="the instruction; {text} marks where the row's text goes, without it the text follows",
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
        # An optional value is annotated as one of two.
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
