"""A run report for people and programs: terminal table, markdown, JSON.

Says what happened and what to do next; never shows a row's text.
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
from tasks.core.reporting.series import Pulse
from tasks.core.reporting.tally import Bill
from tasks.core.storage.left_out_files import in_words

AGAIN = "Run again when the cause is gone: only what is missing is asked for."
REPORT_FORMAT = 2
"""Of the JSON; reports of 0.1.0 and 0.2.0, without the entry, are 1."""
_PARTITIONS_TOLD = 50
_ROWS_TOLD = 3
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def facts(report: RunReport) -> list[tuple[str, str]]:
    """The run's figures as label and value, in the order they are read."""
    tally = report.tally
    by_status = {
        **{str(one): rows for one, rows in tally.by_status.items()},
        "of other statuses": tally.other,
    }
    statuses = ", ".join(f"{count} {status}" for status, count in by_status.items() if count) or "none"
    return [
        ("partitions", _partitions(report)),
        ("left out", in_words(report.left_out)),
        ("rows", f"{tally.rows} ({statuses})"),
        ("requests", _requests(report.bill)),
        ("reused", f"{tally.reused} rows, paid for earlier or sharing an equal row's answer"),
        ("tokens", _tokens(report.bill)),
        ("cost", _cost(report)),
        ("latency", _latency(report.observed.requests.latency_s)),
        ("data", _data(report.partitions)),
        *([("gone", _gone(report))] if report.gone else []),
        ("time", f"{report.seconds:.1f} s, {report.rows_per_s:.1f} rows/s"),
        ("output", report.destination),
    ]


def _requests(bill: Bill) -> str:
    lost = f", {bill.lost} without a reply (they may be billed too)" if bill.lost else ""
    repeated = f", {bill.retried} of them repetitions" if bill.retried else ""
    unsent = f"; {bill.unsent} attempts were not sent" if bill.unsent else ""
    return f"{bill.sent} sent{repeated}, {bill.answered} answered, {bill.refused} refused{lost}{unsent}"


def _tokens(bill: Bill) -> str:
    return f"{bill.prompt_tokens} in ({bill.cached_tokens} cached), {bill.completion_tokens} out"


def _latency(seconds: Histogram) -> str:
    median, most = seconds.quantile(0.5), seconds.quantile(0.95)
    if median is None or most is None:
        return "nothing was answered"
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


def _gone(report: RunReport) -> str:
    gone, pruned = report.gone or (), set(report.pruned)
    kept = [key for key in gone if key not in pruned]
    more = f" and {len(kept) - _PARTITIONS_TOLD} more" if len(kept) > _PARTITIONS_TOLD else ""
    left = f", left alone: {', '.join(map(printable, kept[:_PARTITIONS_TOLD]))}{more}" if kept else ""
    return f"{len(gone)} outputs have no source any more, {len(pruned)} removed{left}"


def attention(report: RunReport) -> list[PartitionReport]:
    """The partitions someone should look at: not published, or with failed rows."""
    failed = set(report.failed_partitions)
    return [p for p in report.partitions if p in failed or p.tally.failed]


def reason(partition: PartitionReport) -> str:
    """Why a partition needs attention, in words."""
    if partition.error:
        return partition.error
    first = ", ".join(f"row {failure.row}: {failure.reason}" for failure in partition.failures[:_ROWS_TOLD])
    return f"{partition.tally.failed} of {partition.tally.rows} rows failed ({first})"


def to_table(report: RunReport) -> Table:
    """The report for a terminal."""
    table = Table(title="summarize-parquet", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in facts(report):
        # As Text, since a path may hold what rich takes for markup.
        table.add_row(label, Text(value))
    for partition in attention(report)[:_PARTITIONS_TOLD]:
        table.add_row("attention", Text(f"{printable(partition.key)}: {reason(partition)}"))
    return table


def to_markdown(report: RunReport, healing: str = "", files: Sequence[str] = ()) -> str:
    """The report for Prefect's page.

    Args:
        report: What happened.
        healing: What to run for what needs attention.
        files: Where the report is kept in other forms.
    """
    lines = ["# summarize-parquet", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(value)} |" for label, value in facts(report)]
    if needy := attention(report):
        lines += ["", "## Needs attention", "", "| partition | why |", "|---|---|"]
        lines += [f"| {_cell(printable(p.key))} | {_cell(reason(p))} |" for p in needy[:_PARTITIONS_TOLD]]
        lines += ["", f"{len(needy)} partitions."]
    if not report.succeeded:
        lines += ["", AGAIN, *(["", "```", healing, "```"] if healing else [])]
    lines += ["", *(f"- `{file}`" for file in files)]
    return "\n".join(lines)


def to_rows(report: RunReport) -> list[dict[str, str | float]]:
    """One row per partition for a table, those that need attention first."""
    needy = attention(report)
    first = set(needy)
    others = [one for one in report.partitions if one not in first]
    return [_row(one) for one in (*needy, *others)]


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
    """The report for programs: the fields of ``RunReport``, with the totals beside them."""
    written_by = {FORMAT: REPORT_FORMAT, PROGRAM: VERSION}
    totals = {"tally": asdict(report.tally), "succeeded": report.succeeded}
    return json.dumps({**written_by, **asdict(report), **totals})


def from_json(data: bytes, where: str) -> RunReport:
    """A report from what ``to_json`` made, of this version or another; unknown fields are left out.

    Args:
        data: The JSON.
        where: The report, as a message names it.

    Raises:
        InputError: A later version wrote it, in a format that cannot be read here; or it is not a report.
    """
    try:
        written = json.loads(data)
        found, program = (str(written.get(name, "")) for name in (FORMAT, PROGRAM))
        check_format(found, REPORT_FORMAT, program, where)
        return TypeAdapter(RunReport).validate_python(written)
    except (ValueError, AttributeError) as error:
        message = f"{where} is not a report of this program ({type(error).__name__})."
        raise InputError(message) from None


def to_line(now: Pulse, before: Pulse, price: Price | None) -> str:
    """How far a run is, in one line.

    Args:
        now: The run.
        before: The same a while ago; between them lies the rate.
        price: What tokens cost; None when it is unknown.
    """
    seconds = now.seconds - before.seconds
    # Rows of a partition that is retried are taken back, and counted again as they are found in the ledger.
    rate = max(now.rows - before.rows, 0) / seconds if seconds > 0 else 0.0
    left = f"{_duration((now.total_rows - now.rows) / rate)} left" if rate else "time left unknown"
    cost = "" if price is None else f"{price.cost_usd(*now.bill.tokens):.4f} USD so far, "
    # The page shows the beginning, which is what most people look for.
    return (
        f"{now.percent:.0f}%, {rate:,.1f} rows/s, {left}, {cost}{now.rows:,} of {now.total_rows:,} rows, "
        f"{now.failed_rows:,} failed, {now.in_flight} of {now.window} requests in flight"
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _cell(text: str) -> str:
    """Text that stays one cell of a markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
