"""Renders a run's report as a terminal table, markdown or JSON, and its progress as a line.

Shows the result and what to do next; never a row's text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from tasks.core.errors import InputError
from tasks.core.escaping import printable
from tasks.core.formats import FORMAT, PROGRAM, VERSION, check_format
from tasks.core.pricing import Price
from tasks.core.reporting.histogram import Histogram
from tasks.core.reporting.report import PartitionReport, PartitionState, RunReport
from tasks.core.reporting.series import Snapshot
from tasks.core.reporting.tally import Bill
from tasks.core.storage.left_out_files import describe_left_out

RUN_AGAIN = "Fix the cause and run again: only rows without a reply are requested."
REPORT_FORMAT = 2
"""Version of the JSON. Reports of 0.1.0 and 0.2.0 have no such entry and count as version 1."""
_MAX_PARTITIONS_SHOWN = 50
_MAX_ROWS_SHOWN = 3
"""Limits of tables. Longer ones would hide the totals; JSON is complete. Not measured."""
_REPORT = TypeAdapter(RunReport)
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def facts(report: RunReport) -> list[tuple[str, str]]:
    """The run's figures as label and value, in the order they are shown."""
    tally = report.tally
    by_status = {
        **{str(one): rows for one, rows in tally.by_status.items()},
        "of other statuses": tally.other,
    }
    statuses = ", ".join(f"{count} {status}" for status, count in by_status.items() if count) or "none"
    return [
        ("partitions", _partitions(report)),
        ("left out", describe_left_out(report.left_out)),
        ("rows", f"{tally.rows} ({statuses})"),
        ("requests", _requests(report.bill)),
        ("reused", f"{tally.reused} rows with a reply paid for earlier or for an equal row"),
        ("tokens", _tokens(report.bill)),
        ("cost", _cost(report)),
        ("latency", _latency(report.metrics.requests.latency_s)),
        ("data", _data(report.partitions)),
        *([("orphaned outputs", _orphans(report))] if report.orphans else []),
        ("time", f"{report.seconds:.1f} s, {report.rows_per_s:.1f} rows/s"),
        ("output", report.destination),
    ]


def _requests(bill: Bill) -> str:
    lost = f", {bill.lost} without a reply (they may be billed too)" if bill.lost else ""
    repeated = f", {bill.retried} of them retries" if bill.retried else ""
    unsent = f"; {bill.unsent} attempts were not sent" if bill.unsent else ""
    return f"{bill.sent} sent{repeated}, {bill.answered} answered, {bill.refused} refused{lost}{unsent}"


def _tokens(bill: Bill) -> str:
    return f"{bill.prompt_tokens} in ({bill.cached_tokens} cached), {bill.completion_tokens} out"


def _latency(seconds: Histogram) -> str:
    median, most = seconds.quantile(0.5), seconds.quantile(0.95)
    if median is None or most is None:
        return "no request was answered"
    return f"median about {median:.2g} s, 95% within about {most:.2g} s"


def _data(partitions: Sequence[PartitionReport]) -> str:
    names = ("bytes_read", "bytes_copied", "bytes_uploaded")
    read, copied, uploaded = (_size(sum(getattr(one, name) for one in partitions)) for name in names)
    return f"{read} read, {copied} copied by the store or disk, {uploaded} uploaded"


def _size(size_bytes: int) -> str:
    unit, factor = next((pair for pair in _UNITS if size_bytes >= pair[1]), ("bytes", 1))
    return f"{size_bytes / factor:.3g} {unit}"


def _cost(report: RunReport) -> str:
    if report.cost_usd is None:
        return "unknown: the model is not in the price list"
    return f"{report.cost_usd:.4f} USD by the price list, {report.saved_usd or 0.0:.4f} USD saved by reuse"


def _partitions(report: RunReport) -> str:
    counts = {state: len(report.in_state(state)) for state in PartitionState}
    unfinished = counts[PartitionState.UNFINISHED]
    undone = f", {unfinished} not finished" if unfinished else ""
    skipped, left = counts[PartitionState.SKIPPED], counts[PartitionState.LEFT]
    before = f", {skipped} finished before and unchanged" if skipped else ""
    later = f", {left} left for another run" if left else ""
    return f"{counts[PartitionState.PUBLISHED]} of {len(report.partitions)} published{before}{later}{undone}"


def _orphans(report: RunReport) -> str:
    orphans, pruned = report.orphans or (), set(report.pruned)
    kept = [key for key in orphans if key not in pruned]
    more = f" and {len(kept) - _MAX_PARTITIONS_SHOWN} more" if len(kept) > _MAX_PARTITIONS_SHOWN else ""
    left = f", kept: {', '.join(map(printable, kept[:_MAX_PARTITIONS_SHOWN]))}{more}" if kept else ""
    return f"{len(orphans)} whose source partition was deleted, {len(pruned)} removed{left}"


def attention(report: RunReport) -> list[PartitionReport]:
    """The partitions that need attention: failed, or with failed rows."""
    failed = set(report.failed_partitions)
    return [p for p in report.partitions if p in failed or p.tally.failed]


def reason(partition: PartitionReport) -> str:
    """Why a partition needs attention, as a phrase."""
    if partition.error:
        return partition.error
    first = ", ".join(
        f"row {failure.row}: {failure.reason}" for failure in partition.failures[:_MAX_ROWS_SHOWN]
    )
    return f"{partition.tally.failed} of {partition.tally.rows} rows failed ({first})"


def to_table(report: RunReport) -> Table:
    """The report as a table for a terminal."""
    table = Table(title="summarize-parquet", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in facts(report):
        # As Text, since rich would interpret a path such as [b] as markup.
        table.add_row(label, Text(value))
    for partition in attention(report)[:_MAX_PARTITIONS_SHOWN]:
        table.add_row("attention", Text(f"{printable(partition.key)}: {reason(partition)}"))
    return table


def to_markdown(report: RunReport, retry_command: str = "", files: Sequence[str] = ()) -> str:
    """The report as markdown, for Prefect's page.

    Args:
        report: The report.
        retry_command: Command that retries what needs attention; may be empty.
        files: URLs of the report's other forms.
    """
    lines = ["# summarize-parquet", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(value)} |" for label, value in facts(report)]
    if listed := attention(report):
        lines += ["", "## Needs attention", "", "| partition | why |", "|---|---|"]
        lines += [
            f"| {_cell(printable(p.key))} | {_cell(reason(p))} |" for p in listed[:_MAX_PARTITIONS_SHOWN]
        ]
        lines += ["", f"{len(listed)} partitions."]
    if not report.succeeded:
        lines += ["", RUN_AGAIN, *(["", "```", retry_command, "```"] if retry_command else [])]
    lines += ["", *(f"- `{file}`" for file in files)]
    return "\n".join(lines)


def to_rows(report: RunReport) -> list[dict[str, str | float]]:
    """One row per partition for a table; partitions that need attention come first."""
    listed = attention(report)
    first = set(listed)
    others = [one for one in report.partitions if one not in first]
    return [_row(one) for one in (*listed, *others)]


def _row(one: PartitionReport) -> dict[str, str | float]:
    tally = one.tally
    return {
        "partition": printable(one.key),
        "state": one.state.value,
        "rows": tally.rows,
        "failed": tally.failed,
        "reused": tally.reused,
        "requests": tally.requests,
        "seconds": round(one.seconds, 1),
    }


def to_json(report: RunReport) -> str:
    """The report as JSON: the fields of ``RunReport`` and the totals."""
    written_by = {FORMAT: REPORT_FORMAT, PROGRAM: VERSION}
    totals = {"tally": asdict(report.tally), "succeeded": report.succeeded}
    return json.dumps({**written_by, **_REPORT.dump_python(report, mode="json", by_alias=True), **totals})


def from_json(data: bytes, where: str) -> RunReport:
    """Parse a report that ``to_json`` of this or another version wrote; ignores unknown fields.

    Args:
        data: The JSON.
        where: URL of the report, for error messages.

    Raises:
        InputError: It is not a report, or a later version wrote it in a format that is too new.
    """
    try:
        written = json.loads(data)
        found, program = (str(written.get(name, "")) for name in (FORMAT, PROGRAM))
        check_format(found, REPORT_FORMAT, program, where)
        return _REPORT.validate_python(written)
    except (ValueError, AttributeError) as error:
        message = f"{where} is not a report of this program ({type(error).__name__})."
        raise InputError(message) from None


def progress_line(now: Snapshot, before: Snapshot, price: Price | None) -> str:
    """The progress of a run in one line.

    Args:
        now: The current snapshot.
        before: An earlier snapshot; the rate is that between the two.
        price: Price of tokens; None when it is unknown.
    """
    seconds = now.seconds - before.seconds
    # Can be negative: a retry subtracts the partition's rows, and counts them again while it reads the
    # ledger.
    rate = max(now.rows - before.rows, 0) / seconds if seconds > 0 else 0.0
    left = f"{_duration((now.total_rows - now.rows) / rate)} left" if rate else "time left unknown"
    cost = "" if price is None else f"{price.cost_usd(*now.bill.tokens):.4f} USD so far, "
    # Prefect's page shows only the beginning, so the most important figures come first.
    return (
        f"{now.percent:.0f}%, {rate:,.1f} rows/s, {left}, {cost}{now.rows:,} of {now.total_rows:,} rows, "
        f"{now.failed_rows:,} failed, {now.in_flight} of {now.window} requests in flight"
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _cell(text: str) -> str:
    """Escape text for one cell of a markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
